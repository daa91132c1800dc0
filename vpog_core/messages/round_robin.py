"""Choose among too many detections of an image: by score, in turn over successive images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

SAME_OVERLAP = 0.5
"""Intersection over union above which a box is a detection left out in the last image."""

MAX_REMEMBERED = 256
"""Detections left out that are remembered: as many as a frame can have."""


@dataclass
class RoundRobin:
    """Chooses detections; those left out come first in the next image, the longest waiting before all."""

    _objects: list[str] = field(default_factory=list)
    _boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    _waited: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    def choose(self, objects: Sequence[str], boxes: np.ndarray, most: int) -> list[int]:
        """Return the rows of the detections to use, in their order.

        Args:
            objects: class of each detection, best scores first.
            boxes: [N, 4] (x0, y0, x1, y1) of them, pixels; boxes that are none have not waited.
            most: how many are used.
        """
        waited = self._waits(objects, boxes)
        order = np.argsort(-waited, kind="stable")
        used, left = np.sort(order[:most]), np.sort(order[most:])[:MAX_REMEMBERED]
        self._objects = [objects[row] for row in left]
        self._boxes, self._waited = boxes[left], waited[left] + 1
        return used.tolist()

    def _waits(self, objects: Sequence[str], boxes: np.ndarray) -> np.ndarray:
        """Count in how many images in a row each detection was left out, [N]."""
        if not self._objects:
            return np.zeros(len(objects), int)
        same = np.array(objects)[:, None] == np.array(self._objects)[None]
        same &= overlaps(boxes, self._boxes) > SAME_OVERLAP
        return (same * self._waited).max(axis=1)


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compute intersection over union of N boxes with M others, [N, M]; 0 for invalid boxes."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    with np.errstate(all="ignore"):
        shared = np.prod(np.clip(high - low, 0, None), axis=-1)
        areas = [np.prod(np.clip(b[:, 2:] - b[:, :2], 0, None), axis=-1) for b in (boxes, others)]
        return np.nan_to_num(shared / (areas[0][:, None] + areas[1][None] - shared), posinf=0.0, neginf=0.0)
