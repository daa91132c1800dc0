"""Build folders that several processes share: each is complete or does not exist."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vpog_core.utils.held_file import ENDING, held, remove_abandoned


def build_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return the folder, filled by `make(folder)` unless it exists; it is complete or does not exist.

    Two processes that make the same one at once both succeed; the first to finish is kept. What killed
    processes were making in the folder around it is removed.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_beside(folder) as partial:
        try:
            make(partial)
            partial.chmod(0o755)
            os.rename(partial, folder)
        except OSError:
            if not folder.is_dir():
                raise
    return folder


@contextmanager
def _temporary_beside(folder: Path) -> Iterator[Path]:
    """Make a temporary folder beside another one, held while it is used and removed afterwards."""
    with ExitStack() as stack:
        # Nobody takes the new folder for an abandoned one before it is held.
        with held(folder.parent):
            remove_abandoned(folder.parent)
            partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=ENDING))
            stack.enter_context(held(partial))
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)
