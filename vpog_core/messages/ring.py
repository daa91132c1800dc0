"""Store the newest entries of a stream."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


def nearest(ring: OrderedDict[int, Any], key: int, tolerance: int) -> int | None:
    """Find the key of a ring that is nearest to another one; None where none is as near as the tolerance."""
    found = min(ring, key=lambda other: abs(other - key), default=None)
    return None if found is None or abs(found - key) > tolerance else found


def remember(ring: OrderedDict[int, Any], key: int, value: Any, capacity: int | None) -> int:
    """Store a value in a ring as its newest; return how many old ones were dropped (capacity None: none)."""
    ring.pop(key, None)
    ring[key] = value
    fallen = 0 if capacity is None else max(0, len(ring) - capacity)
    for _ in range(fallen):
        ring.popitem(last=False)
    return fallen
