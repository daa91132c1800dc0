"""Check the path of a weights file; free of torch, so that a wrong path is refused at once."""

from __future__ import annotations

from pathlib import Path

from vpog_core.types import VPOGError


def check_weights_file(path: Path) -> None:
    """Check that there is a weights file.

    Raises:
        VPOGError: there is none.
    """
    if not path.is_file():
        raise VPOGError(f"There are no weights at '{path}': give the path of a .safetensors file.")
