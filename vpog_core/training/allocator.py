"""Set up the C library's memory allocator for training."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of mallopt's options (glibc, malloc.h)."""
_BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Let the allocator keep freed memory for the next step, where the C library is glibc.

    Otherwise it gives the large arrays of a step back to the system and gets them anew, page by page, in the
    next one: a sixth of the CPU time of a refiner's step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _BYTES)
        mallopt(_MMAP_THRESHOLD, _BYTES)
