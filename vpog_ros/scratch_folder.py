"""Temporary folders that go with their process; what a killed one left goes at the next start."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

LOCK = ".lock"


class ScratchFolder:
    """A new folder in the system's folder for temporary files.

    A process holds a lock on a file beside its folder for as long as it lives. What is not locked belongs to
    nobody any more.

    Args:
        prefix: of the folder's name; folders of this prefix that nobody has locked are deleted.

    Attributes:
        path: of the folder.
    """

    def __init__(self, prefix: str) -> None:
        root = Path(tempfile.gettempdir())
        remove_abandoned(root, prefix)
        self._lock, name = _new_lock(root, prefix)
        self.path = root / name.removesuffix(LOCK)
        self.path.mkdir(mode=0o700)

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.with_name(self.path.name + LOCK).unlink(missing_ok=True)
        self._lock.close()


def remove_abandoned(root: Path, prefix: str) -> None:
    """Delete the folders below root whose processes have ended; those of other users cannot be, and stay."""
    for path in root.glob(f"{prefix}*{LOCK}"):
        try:
            # No link is followed: others may write into this folder too.
            lock = os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "r+")
        except OSError:
            continue
        with lock:
            if _is_free(lock):
                shutil.rmtree(path.with_name(path.name.removesuffix(LOCK)), ignore_errors=True)
                path.unlink(missing_ok=True)


def _new_lock(root: Path, prefix: str) -> tuple[IO, str]:
    while True:
        number, name = tempfile.mkstemp(prefix=prefix, suffix=LOCK, dir=root)
        lock = os.fdopen(number, "r+")
        # Between these two lines another process may have taken it for abandoned.
        if _is_free(lock) and Path(name).exists():
            return lock, Path(name).name
        lock.close()


def _is_free(lock: IO) -> bool:
    """Lock a file, and tell whether nobody else had."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
