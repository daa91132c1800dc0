"""Read a file that the user names."""

from __future__ import annotations

from pathlib import Path

from vpog_core.types import VPOGError


def read_bytes(path: str | Path, what: str) -> bytes:
    """Read a file; `what` names it in the error.

    Raises:
        VPOGError: missing, or not readable.
    """
    try:
        return Path(path).read_bytes()
    except IsADirectoryError as error:
        raise VPOGError(f"The {what} '{path}' is a folder: give the path of a file.") from error
    except OSError as error:
        raise VPOGError(f"There is no {what} '{path}' ({error.strerror}): check the path.") from error
