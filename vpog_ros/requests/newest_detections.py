"""Store the newest detections of each class, for requests without boxes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vpog_core.messages.detection_inputs import read_detections
from vpog_core.messages.label_maps import LabelMapReader
from vpog_core.messages.reading import message_type, stamp_to_ns
from vpog_core.messages.ring import nearest, remember
from vpog_core.types import VPOGError

MAX_CLASSES = 64
"""Classes that are remembered, those of which detections came last."""
MAX_STAMPS = 30
"""Stamps of which messages are kept."""
MAX_OF_STAMP = 4
"""Messages of one stamp that are kept: those of several detectors."""
RECENT_S = 5.0
"""Seconds for which a detector that has sent something is expected to send more."""
MAX_CHARACTERS = 256
"""Largest number of characters of a class name; longer ones are ignored."""


@dataclass(frozen=True)
class Detected:
    """Holds a message of detections.

    Attributes:
        names: all names that its classes may have.
        stamp_ns: of its header; 0: none; came_s: its arrival, by the clock of `NewestDetections`.
    """

    message: Any
    names: frozenset[str]
    stamp_ns: int
    came_s: float


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
        self._by_stamp: OrderedDict[int, list[Detected]] = OrderedDict()
        self._last_came_s: dict[str, float] = {}
        """When the last message of each type came."""

    def add(self, message) -> None:
        """Add a message of detections."""
        names = frozenset(class_names(message, self.label_maps))
        detected = Detected(message, names, stamp_to_ns(message.header.stamp), self._clock())
        with self._lock:
            self._last_came_s[message_type(message)] = detected.came_s
            if detected.stamp_ns:
                of_stamp = [detected, *self._by_stamp.get(detected.stamp_ns, [])[: MAX_OF_STAMP - 1]]
                remember(self._by_stamp, detected.stamp_ns, of_stamp, MAX_STAMPS)
            for name in names:
                remember(self._by_class, name, detected, MAX_CLASSES)

    def of_stamp(self, stamp_ns: int, tolerance_ns: int = 0) -> list[Detected]:
        """Return the messages of a stamp, the last one first; none where none have come, or not lately.

        Args:
            tolerance_ns: where there are none, those of the nearest stamp that is as near as this.
        """
        with self._lock:
            found = nearest(self._by_stamp, stamp_ns, tolerance_ns) if stamp_ns else None
            return list(self._by_stamp.get(found, []))

    def are_complete(self, detected: Sequence[Detected]) -> bool:
        """Tell whether there is a message of each type that has come lately."""
        oldest, types = self._clock() - RECENT_S, {message_type(d.message) for d in detected}
        with self._lock:
            return types >= {kind for kind, came_s in self._last_came_s.items() if came_s > oldest}

    def waited_s(self, detected: Sequence[Detected]) -> float:
        """Return the seconds since the first of these messages came; 0 where there is none."""
        return self._clock() - min((d.came_s for d in detected), default=self._clock())

    def age_s(self, detected: Detected, stamp_ns: int) -> float:
        """Return the seconds from an image to that of detections: by their stamps, else since they came."""
        if detected.stamp_ns and stamp_ns:
            return abs(stamp_ns - detected.stamp_ns) * 1e-9
        return self._clock() - detected.came_s

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
