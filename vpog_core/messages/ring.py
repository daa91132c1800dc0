"""A memory of the newest few."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


def remember(ring: OrderedDict[int, Any], key: int, value: Any, capacity: int) -> int:
    """Put a value into a ring as its newest; returns how many older ones fell out."""
    ring.pop(key, None)
    ring[key] = value
    fallen = max(0, len(ring) - capacity)
    for _ in range(fallen):
        ring.popitem(last=False)
    return fallen
