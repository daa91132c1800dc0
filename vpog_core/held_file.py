"""Files that one process holds, and that nobody holds any more once it has ended, however it ended."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vpog_core import cancellation

try:
    import fcntl
except ImportError:  # Windows: there, nothing is held and nothing abandoned is removed.
    fcntl = None

ENDING = ".partial"
ABANDONED = re.compile(r"\..+\.partial")
"""Names of files and folders that are gone once the work on them is done; else their process was killed."""
POLL_S = 0.05


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file, which is made where it is missing, or a folder; wait as long as another process holds it.

    Raises:
        OSError: it cannot be made.
        Cancelled: while it waited.
    """
    descriptor = None if fcntl is None else _open_held(path)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def one_at_a_time(path: Path, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Wait until no other process is making a file; where its folder cannot be written, go on at once.

    Args:
        on_wait: called where there is another one.

    Raises:
        Cancelled: while it waited.
    """
    lock = path.with_name(f".{path.name}{ENDING}")
    descriptor = None
    with suppress(OSError):
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = None if fcntl is None else _open_held(lock, on_wait)
    try:
        yield
    finally:
        if descriptor is not None:
            lock.unlink(missing_ok=True)
            os.close(descriptor)


def remove_abandoned(folder: Path) -> None:
    """Remove what was being written into a folder, files and folders, when its process was killed."""
    if fcntl is None:
        return
    # A folder that is missing has nothing to remove, and one that cannot be written keeps it.
    with suppress(OSError):
        for path in folder.iterdir():
            if ABANDONED.fullmatch(path.name):
                with suppress(OSError):
                    _remove_unheld(path)


def _open_held(path: Path, on_wait: Callable[[], object] = lambda: None) -> int:
    """Open and lock a file, which is made where it is missing, or a folder."""
    waits = False
    while True:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            if not waits:
                waits = True
                on_wait()
            cancellation.check()
            time.sleep(POLL_S)
            continue
        except OSError:  # A file system without locks: nothing is ever abandoned there.
            return descriptor
        # Another process may have removed it between the two.
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _remove_unheld(path: Path) -> None:
    is_folder = path.is_dir()
    descriptor = os.open(path, (os.O_RDONLY if is_folder else os.O_RDWR) | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            shutil.rmtree(path) if is_folder else path.unlink()
    finally:
        os.close(descriptor)
