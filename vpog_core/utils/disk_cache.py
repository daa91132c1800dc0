"""Build folders that several processes share: each is complete or does not exist."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def build_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return the folder, filled by `make(folder)` unless it exists; it is complete or does not exist.

    Two processes that make the same one at once both succeed; the first to finish is kept.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        make(partial)
        partial.chmod(0o755)
        os.rename(partial, folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
