"""A memory of the newest few."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


def remember(ring: OrderedDict[int, Any], key: int, value: Any, capacity: int | None) -> int:
    """Put a value into a ring as its newest; return how many older ones fell out (capacity None: none)."""
    ring.pop(key, None)
    ring[key] = value
    fallen = 0 if capacity is None else max(0, len(ring) - capacity)
    for _ in range(fallen):
        ring.popitem(last=False)
    return fallen
