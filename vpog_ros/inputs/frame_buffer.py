"""Pair images and detections by their stamps, and pass the newest pair to one worker.

Where objects are followed and the detector falls silent, images are handed over alone.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vpog_core.messages.arrival_order import ArrivalOrder
from vpog_core.messages.ring import nearest, remember

UNMATCHED_S = 2.0
"""Seconds after which a warning is given that detections match no image."""

PAST_STAMPS = 1000
"""Number of stamps of dropped images kept: they tell a slow detector from one that changes stamps."""

LATE = (
    "Detections come when their image is no longer kept ({} images are): raise image_buffer_size, or let the "
    "detector work on fewer images."
)


ALONE = type(None)
"""Type of the detections of an image alone."""


@dataclass(frozen=True)
class Frame:
    """Holds an image and the detections made in it, as received.

    Attributes:
        stamp_ns: of the image; 0 where it has none.
        number: of the image in the order of arrival, from 1; 0 where it has no stamp.
        detections: None if none have come, and the image is to be processed without.
        arrival_s: when the pair was complete, on a clock that only grows.
    """

    stamp_ns: int
    image: Any
    detections: Any
    arrival_s: float = field(default=0.0, compare=False)
    number: int = field(default=0, compare=False)

    @property
    def time_s(self) -> float:
        """Return the time of the image, seconds: its stamp or, if it has none, the time of pairing."""
        return self.stamp_ns * 1e-9 if self.stamp_ns else self.arrival_s


@dataclass
class Counts:
    """Counts what has passed through a buffer since it was made."""

    matched: int = 0
    matched_nearly: int = 0
    alone: int = 0
    taken: int = 0
    dropped_busy: int = 0
    dropped_unmatched: int = 0


@dataclass
class FrameBuffer:
    """Keeps images and detections in rings of `capacity` until both of a pair are there. Thread-safe.

    Of each type of detections one pair waits: a newer one takes its place, and it counts as a drop, so that a
    slow reader always gets the newest frame and latency stays bounded. Several detectors, whose messages
    are of different types, have their turns. Newest means last arrived, so stamps may jump back (a bag
    played again) without blocking anything. What has no stamp is paired by `ArrivalOrder`.

    Stamps meet exactly. Where a tolerance is given, detections whose own image has not come meet the image
    whose stamp is nearest, of those that have come.

    An image whose detections have not come is offered alone only if that is enabled, see
    `offer_images_alone`; it never takes the place of a pair. Its detections may still come, and are offered
    with it then.

    Attributes:
        counts: of all that has passed; clock: seconds that only grow; tolerance_ns: see above.
    """

    capacity: int = 30
    counts: Counts = field(default_factory=Counts)
    clock: Callable[[], float] = time.monotonic
    tolerance_ns: int = 0

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"capacity is {self.capacity}: it must be 1 or more")
        self._images: OrderedDict[int, Any] = OrderedDict()
        self._numbers: OrderedDict[int, int] = OrderedDict()
        self._last_number = self._taken_number = 0
        self._detections: OrderedDict[int, dict[type, Any]] = OrderedDict()
        self._past: OrderedDict[int, Any] = OrderedDict()
        self._order = ArrivalOrder(self.clock)
        self._newest_image: int | None = None
        self._newest_detections: int | None = None
        self._unmatched_since: float | None = None
        self._newest_met = False
        self._waiting: dict[type, Frame] = {}
        self._last_taken: dict[type, int] = {}
        self._closed = self._woken = False
        self._alone_after_s: float | None = None
        self._unpaired_since: float | None = None
        self._changed = threading.Condition()

    def add_image(self, stamp_ns: int, image: Any) -> None:
        """Add an image; it stays in the ring, since several detectors may have detections of it."""
        with self._changed:
            self._newest_image = stamp_ns
            self._newest_met = False
            if not stamp_ns:
                self._order.add_image(image)
                return
            remember(self._past, stamp_ns, None, PAST_STAMPS)
            remember(self._images, stamp_ns, image, self.capacity)
            self._last_number += 1
            remember(self._numbers, stamp_ns, self._last_number, self.capacity)
            meets = nearest(self._detections, stamp_ns, self.tolerance_ns)
            if meets is not None:
                for detections in self._detections.pop(meets).values():
                    self.counts.matched_nearly += meets != stamp_ns
                    self._offer(stamp_ns, image, detections)
                return
            if self._unpaired_since is None:
                self._unpaired_since = self.clock()
            if self._is_wanted_alone():
                self._offer_alone(stamp_ns, image)

    def offer_images_alone(self, after_s: float | None) -> None:
        """Offer images without detections once they have waited for them for `seconds`; None: never."""
        with self._changed:
            self._alone_after_s = after_s

    def add_detections(self, stamp_ns: int, detections: Any) -> None:
        """Add detections, which may come before or after their image."""
        with self._changed:
            self._newest_detections = stamp_ns
            meets = nearest(self._images, stamp_ns, self.tolerance_ns) if stamp_ns else None
            image = self._images.get(meets) if stamp_ns else self._order.take_image()
            if image is not None:
                self.counts.matched_nearly += stamp_ns != (meets or 0)
                self._offer(meets or 0, image, detections)
                return
            if self._unmatched_since is None:
                self._unmatched_since = self.clock()
            known = self._detections.get(stamp_ns, {})
            if not stamp_ns or type(detections) in known:
                self.counts.dropped_unmatched += 1
            if stamp_ns:
                known = {**known, type(detections): detections}
                fallen = remember(self._detections, stamp_ns, known, self.capacity)
                self.counts.dropped_unmatched += fallen

    def take(self, timeout_s: float) -> Frame | None:
        """Wait for the newest pair and return it; None after the timeout, once woken or closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed or self._woken, timeout_s)
            self._woken = False
            if self._closed or not self._waiting:
                return None
            # Of the types that wait it is the turn of the one that was taken longest ago.
            kind = min(self._waiting, key=lambda kind: self._last_taken.get(kind, 0))
            frame = self._waiting.pop(kind)
            self._taken_number = max(self._taken_number, frame.number)
            self.counts.taken += 1
            self._last_taken[kind] = self.counts.taken
            return frame

    def take_newest_image(self) -> Frame | None:
        """Remove and return the newest image, without detections; None if no image with a stamp has come."""
        with self._changed:
            if not self._images:
                return None
            stamp_ns = next(reversed(self._images))
            self._waiting.pop(ALONE, None)  # Otherwise it would be processed twice.
            return self._frame(stamp_ns, self._images[stamp_ns], None)

    def wake(self) -> None:
        """Wake the thread that waits for a frame, or will wait next, because there is other work."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """Stop pairing, and wake all threads that wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def troubles(self) -> dict[str, str]:
        """Return why images and detections do not match: a sentence or "" for each kind of reason."""
        with self._changed:
            unmatched = late = ""
            both = self._newest_image is not None and self._newest_detections is not None
            unstamped = both and not self._newest_image and not self._newest_detections
            since = self._unmatched_since
            if both and not unstamped and since is not None and self.clock() - since >= UNMATCHED_S:
                if nearest(self._past, self._newest_detections, self.tolerance_ns) is not None:
                    late = LATE.format(self.capacity)
                elif not self._newest_met:  # Otherwise images are lost in transport, or no longer published.
                    unmatched = unmatched_sentence(self._newest_image, self._newest_detections)
            sentences = {"unmatched": unmatched, "late": late}
            return sentences | {
                kind: words if unstamped else "" for kind, words in self._order.notices().items()
            }

    def _is_wanted_alone(self) -> bool:
        """Tell whether an image without detections is to be offered now."""
        if self._alone_after_s is None or self.clock() - self._unpaired_since < self._alone_after_s:
            return False
        return not self._waiting.keys() - {ALONE}

    def _offer_alone(self, stamp_ns: int, image: Any) -> None:
        self.counts.alone += 1
        self._wait(self._frame(stamp_ns, image, None))

    def _offer(self, stamp_ns: int, image: Any, detections: Any) -> None:
        self.counts.matched += 1
        frame = self._frame(stamp_ns, image, detections)
        # Late detections show that the detector is slow: newer images go on without.
        if frame.number >= self._taken_number:
            self._unpaired_since = None
        self._newest_met = self._newest_met or stamp_ns == self._newest_image
        self._unmatched_since = None
        self._wait(frame)

    def _wait(self, frame: Frame) -> None:
        """Let a frame wait, in place of one of its type and of an image alone."""
        kind = type(frame.detections)
        self.counts.dropped_busy += len(self._waiting.keys() & {kind, ALONE})
        self._waiting.pop(ALONE, None)
        self._waiting[kind] = frame
        self._changed.notify_all()

    def _frame(self, stamp_ns: int, image: Any, detections: Any) -> Frame:
        return Frame(stamp_ns, image, detections, self.clock(), self._numbers.get(stamp_ns, 0))


def unmatched_sentence(image_ns: int, detections_ns: int) -> str:
    """Return the sentence on stamps that never agree, and what to do."""
    for name, stamp_ns in (("images", image_ns), ("detections", detections_ns)):
        if not stamp_ns:
            return (
                f"The {name} have no stamp (0), so no detections find their image: set header.stamp in the "
                "camera driver and copy the image's header in the detector."
            )
    difference_s = (detections_ns - image_ns) * 1e-9
    return (
        "Images and detections come and their stamps never match: the newest image is of "
        f"{image_ns * 1e-9:.6f} s and the newest detections are of {detections_ns * 1e-9:.6f} s, "
        f"{abs(difference_s):.6f} s {'later' if difference_s > 0 else 'earlier'}: "
        "the detector must copy the image's header; where it cannot, set stamp_tolerance."
    )
