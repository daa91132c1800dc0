"""Decide which drawn boxes are published with which image."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from vpog_core.types import Detection

WAIT_S = 5.0
"""Seconds to wait for the poses of an image, before the boxes are sent with a newer one."""
NEAR_NS = 1_000_000
"""Stamps that differ by less are of one image: the age of a detection is a float32."""
MAX_TRIES = 5
"""Number of images with which a box is sent until its object is found in one."""


class Outbox:
    """Holds the boxes that are drawn, and those of them whose objects have not been found yet.

    One image is enough: the pose node follows what it has found.

    Attributes:
        boxes: all since the last `clear`; waiting: those to be found.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.boxes: list[Detection] = []
        self.waiting: list[Detection] = []
        self._clock = clock
        self._sent: deque[int] = deque(maxlen=100)
        self._tries = 0
        self._next_s = 0.0

    def add(self, box: Detection) -> None:
        """Add a box that was drawn."""
        self.boxes.append(box)
        self.waiting.append(box)
        self._tries, self._next_s = 0, 0.0

    def clear(self) -> None:
        """Delete all boxes."""
        self.boxes.clear()
        self.waiting.clear()

    def with_image(self, stamp_ns: int, repeat: bool) -> list[Detection]:
        """Return the boxes to publish with an image.

        Args:
            repeat: all boxes go out with every image.
        """
        due = bool(self.waiting) and self._clock() >= self._next_s and self._tries < MAX_TRIES
        if due:
            self._tries, self._next_s = self._tries + 1, self._clock() + WAIT_S
        if not (due or (repeat and self.boxes)):
            return []
        self._sent.append(stamp_ns)
        return list(self.boxes if repeat else self.waiting)

    def given_up(self) -> list[Detection]:
        """Remove and return the boxes that were sent MAX_TRIES times without a result."""
        if not self.waiting or self._tries < MAX_TRIES or self._clock() < self._next_s:
            return []
        lost, self.waiting = self.waiting, []
        return lost

    def answered(self, stamp_ns: int, seen: Sequence[tuple[str, int]]) -> list[Detection]:
        """Process the poses of an image, and return the boxes whose objects were found.

        Args:
            seen: class of each pose, and the stamp (ns) of the image in which it was last detected: poses
                may be those of a newer image than the one that the boxes went out with.
        """
        classes = {class_id for class_id, ns in seen if any(abs(ns - sent) < NEAR_NS for sent in self._sent)}
        if not classes and stamp_ns not in self._sent:
            return []
        found = [box for box in self.waiting if box.class_id in classes]
        self.waiting = [box for box in self.waiting if box.class_id not in classes]
        self._next_s = 0.0
        return found
