"""Lock files for the lifetime of a process, and remove those of processes that have ended."""

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
except ImportError:  # Windows: nothing is locked, and nothing abandoned is removed.
    fcntl = None

ENDING = ".partial"
ABANDONED = re.compile(r"\..+\.partial")
"""Names of temporary files and folders; those that remain were left by a killed process."""
POLL_S = 0.05


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a file, which is made where it is missing, or a folder, so that `remove_abandoned` leaves it.

    Raises:
        OSError: it cannot be made.
    """
    descriptor = None
    if fcntl is not None:
        descriptor = _open_held(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """Hold a file, which is made where it is missing, unless another process does; yields whether it is held.

    Raises:
        OSError: it cannot be made.
    """
    descriptor = None if fcntl is None else _open_if_free(path, os.O_RDWR | os.O_CREAT)
    try:
        yield fcntl is None or descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def one_at_a_time(path: Path, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Wait until no other process works on what is made of a file; one that cannot be read is not waited for.

    Args:
        on_wait: called where another process does.

    Raises:
        Cancelled: while it waited.
    """
    descriptor = None
    with suppress(OSError):
        descriptor = None if fcntl is None else _open_held(path, os.O_RDONLY, on_wait)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def remove_abandoned(folder: Path) -> None:
    """Remove what was being written into a folder, files and folders, when its process was killed."""
    if fcntl is None:
        return
    # Ignore folders that are missing or that cannot be written.
    with suppress(OSError):
        for path in folder.iterdir():
            if ABANDONED.fullmatch(path.name):
                with suppress(OSError):
                    _remove_unheld(path)


def _open_held(path: Path, flags: int, on_wait: Callable[[], object] = lambda: None) -> int:
    """Open and lock a file or a folder, and wait while another process holds it."""
    waits = False
    while (descriptor := _open_if_free(path, flags)) is None:
        if not waits:
            waits = True
            on_wait()
        cancellation.check()
        time.sleep(POLL_S)
    return descriptor


def _open_if_free(path: Path, flags: int) -> int | None:
    """Open and lock a file or a folder; None where another process holds it."""
    while True:
        descriptor = os.open(path, flags, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:  # On a file system without locks, nothing counts as abandoned.
            return descriptor
        # Another process may have removed it in between.
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
