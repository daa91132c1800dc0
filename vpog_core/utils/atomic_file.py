"""Write files atomically: there is the old content or the new, even after a kill or a power cut."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from vpog_core.utils.held_file import ENDING, held

_writing = threading.Lock()


def wait_for_writers(timeout_s: float) -> bool:
    """Wait until no thread is writing, and let none begin: for a process that is about to end.

    Returns:
        whether they have ended in time; where not, nothing is lost but a partial file is left.
    """
    return _writing.acquire(timeout=timeout_s)


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a file, text as UTF-8; missing folders are made, an existing file is replaced.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{ENDING}")
    with _writing:
        try:
            with held(partial):
                _write_to_disk(partial, content.encode() if isinstance(content, str) else content)
                os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _write_to_disk(path: Path, content: bytes) -> None:
    """Write a file, and wait until the disk holds it: the system may write a new name before the content."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
