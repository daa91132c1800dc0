"""Meets images and detections by exact stamp and hands the newest pair to one worker."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Frame:
    """An image and the detections made in it, as they came."""

    stamp_ns: int
    image: Any
    detections: Any


@dataclass
class Counts:
    """What has passed through a buffer since it was made."""

    images: int = 0
    detections: int = 0
    matched: int = 0
    taken: int = 0
    dropped_busy: int = 0
    dropped_unmatched: int = 0


@dataclass
class FrameBuffer:
    """Thread-safe. Images and detections wait in rings of `capacity` for the other half of their pair.

    A pair waits in a single place: a newer one takes it over and counts as a drop, so that a slow reader
    always gets the newest frame and latency stays bounded. Newest means last arrived, so stamps may jump
    back (a bag played again) without blocking anything.
    """

    capacity: int = 30
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"capacity is {self.capacity}: it must be 1 or more")
        self._images: OrderedDict[int, Any] = OrderedDict()
        self._detections: OrderedDict[int, Any] = OrderedDict()
        self._waiting: Frame | None = None
        self._closed = False
        self._changed = threading.Condition()

    def add_image(self, stamp_ns: int, image: Any) -> None:
        """An image came; it stays in the ring, since several detectors may speak of it."""
        with self._changed:
            self.counts.images += 1
            remember(self._images, stamp_ns, image, self.capacity)
            detections = self._detections.pop(stamp_ns, None)
            if detections is not None:
                self._offer(Frame(stamp_ns, image, detections))

    def add_detections(self, stamp_ns: int, detections: Any) -> None:
        """Detections came, before or after their image."""
        with self._changed:
            self.counts.detections += 1
            image = self._images.get(stamp_ns)
            if image is not None:
                self._offer(Frame(stamp_ns, image, detections))
                return
            if stamp_ns in self._detections:
                self.counts.dropped_unmatched += 1
            self.counts.dropped_unmatched += remember(self._detections, stamp_ns, detections, self.capacity)

    def take(self, timeout_s: float) -> Frame | None:
        """The newest pair, waiting for one if need be; None after the timeout or once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._closed, timeout_s)
            if self._closed or self._waiting is None:
                return None
            frame, self._waiting = self._waiting, None
            self.counts.taken += 1
            return frame

    def close(self) -> None:
        """Let everybody who waits go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _offer(self, frame: Frame) -> None:
        self.counts.matched += 1
        if self._waiting is not None:
            self.counts.dropped_busy += 1
        self._waiting = frame
        self._changed.notify_all()


def remember(ring: OrderedDict[int, Any], key: int, value: Any, capacity: int) -> int:
    """Put a value into a ring as its newest; returns how many older ones fell out."""
    ring.pop(key, None)
    ring[key] = value
    fallen = max(0, len(ring) - capacity)
    for _ in range(fallen):
        ring.popitem(last=False)
    return fallen
