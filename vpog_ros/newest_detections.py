"""Store the newest detections of each class, for requests without boxes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vpog_core.messages.detection_inputs import read_detections
from vpog_core.messages.label_maps import LabelMapReader
from vpog_core.messages.reading import stamp_to_ns
from vpog_core.messages.ring import remember
from vpog_core.types import VPOGError

MAX_CLASSES = 64
"""Classes that are remembered, those of which detections came last."""
MAX_MESSAGES = 30
"""Messages that are kept by their stamps."""
MAX_CHARACTERS = 256
"""Largest number of characters of a class name; longer ones are ignored."""


@dataclass(frozen=True)
class Detected:
    """Holds a message of detections; stamp_ns: of its header (0: none); came_s: its arrival, monotonic."""

    message: Any
    stamp_ns: int
    came_s: float

    def age_s(self, stamp_ns: int) -> float:
        """Return the seconds from the detections' image to another: by stamps, else since their arrival."""
        if self.stamp_ns and stamp_ns:
            return (stamp_ns - self.stamp_ns) * 1e-9
        return time.monotonic() - self.came_s


class NewestDetections:
    """Stores the last messages, and the last one with a detection of each class; thread-safe.

    Attributes:
        label_maps: reads label maps, which are messages of detections too.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.label_maps = LabelMapReader()
        self._clock = clock
        self._lock = threading.Lock()
        self._by_class: OrderedDict[str, Detected] = OrderedDict()
        self._by_stamp: OrderedDict[int, Detected] = OrderedDict()

    def add(self, message) -> None:
        """Add a message of detections."""
        detected = Detected(message, stamp_to_ns(message.header.stamp), self._clock())
        names = class_names(message, self.label_maps)
        with self._lock:
            if detected.stamp_ns:
                remember(self._by_stamp, detected.stamp_ns, detected, MAX_MESSAGES)
            for name in names:
                self._by_class.pop(name, None)
                remember(self._by_class, name, detected, MAX_CLASSES)

    def of_stamp(self, stamp_ns: int) -> Detected | None:
        """Return the last message of a stamp; None: none has come, or not lately."""
        with self._lock:
            return self._by_stamp.get(stamp_ns)

    def by_class(self) -> dict[str, Detected]:
        """Return the last message of each class, by the detector's name of it."""
        with self._lock:
            return dict(self._by_class)


def class_names(message, label_maps: LabelMapReader) -> set[str]:
    """Return all names that the classes of a message may have; none of a label map that is broken."""
    if hasattr(message, "encoding"):
        # Ignored here: a request for the poses of its image reports what is wrong with it.
        with contextlib.suppress(VPOGError):
            return label_maps.class_names(message)
        return set()
    names = {name for found in read_detections(message) for name, _ in found.classes}
    return {name for name in names if 0 < len(name) <= MAX_CHARACTERS}
