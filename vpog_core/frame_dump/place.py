"""Tell a folder with a dump from others; free of torch, so that a wrong path is refused at once."""

from __future__ import annotations

from pathlib import Path

from vpog_core.types import VPOGError

JSON = "dump.json"
"""Name of the file that a dump's folder holds beside its images and meshes."""


def check_dump(folder: Path) -> None:
    """Check that a folder holds a dump.

    Raises:
        VPOGError: it does not.
    """
    if not (folder / JSON).is_file():
        raise VPOGError(f"'{folder}' is no dump, it holds no {JSON}: give a folder that ~/dump has written.")
