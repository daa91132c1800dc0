"""Hold requests for poses: each waits for its inputs, and gets exactly one response."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vpog_core.messages.detections import shortened
from vpog_core.messages.reading import stamp_to_ns
from vpog_core.messages.ring import remember
from vpog_core.types import VPOGError
from vpog_ros.action import Estimate
from vpog_ros.msg import ObjectWithoutPose

MOST_OPEN = 8
"""Largest number of requests that wait at a time; further ones are refused."""
MOST_TIMEOUT_S = 3600.0
FRESH_S = 1.0
"""Seconds after a request within which images that were taken before it are passed over."""
OTHER_CLOCK_S = 60.0
"""An image whose stamp is further than this before a request is stamped by another clock, and used."""
MAX_IMAGES = 30
"""Images that a request keeps until detections of one of them have come."""
MAX_NAMES = 256
"""Largest number of objects and instances of one request."""

BUSY = f"{MOST_OPEN} requests wait already: ask again when one of them is answered."
CANCELLED = "Cancelled."
LATE = "Nothing was estimated within {:g} s. {}"

Result = Estimate.Result
"""Result of the action: poses, and the reasons of objects without one."""


def refusal(sentence: str, names: Sequence[str] = ()) -> Result:
    """Return a result without poses, with the reason for each object that was requested by name."""
    without = [ObjectWithoutPose(class_id=shortened(n), instance=-1, reason=sentence) for n in names]
    return Result(message=sentence, without_pose=without)


@dataclass(frozen=True)
class TimeOfRequest:
    """Holds when a request was made.

    Attributes:
        clock_ns: by the clock that stamps images; 0: not known.
        monotonic_s: by `time.monotonic`.
    """

    clock_ns: int = 0
    monotonic_s: float = field(default_factory=time.monotonic)


class EstimationRequest:
    """Holds one request; the first result counts. Thread-safe.

    Args:
        goal: objects, instances, image, camera_info, timeout, as in Estimate.action.
        default_timeout_s: where the goal says none.
        on_result: called once, in the thread that has the result.
        on_stage: called with (stage, sentence) when another thing is being done or waited for.
        is_cancelled: tells whether the caller has cancelled the request.
        asked: when it was made; None: now, by a clock that does not stamp images.

    Raises:
        VPOGError: a timeout that cannot be used.
    """

    def __init__(
        self,
        goal,
        default_timeout_s: float,
        on_result: Callable[[Result], None],
        on_stage: Callable[[str, str], None] = lambda stage, sentence: None,
        is_cancelled: Callable[[], bool] = lambda: False,
        asked: TimeOfRequest | None = None,
    ) -> None:
        self.timeout_s = goal.timeout or default_timeout_s
        if not 0.0 < self.timeout_s <= MOST_TIMEOUT_S:
            raise VPOGError(
                f"The timeout is {goal.timeout}: give up to {MOST_TIMEOUT_S:g} s, or 0 for request_timeout."
            )
        self.goal = goal
        self.image = goal.image if goal.image.width else None
        self.asked = asked or TimeOfRequest()
        self.image_came_s = self.asked.monotonic_s
        """When the first image came; detections are waited for from then on."""
        self._images: OrderedDict[int, Any] = OrderedDict()
        self.objects = None
        """The detections of the request, once they are known; see `request_detections.RequestedObjects`."""
        self.is_cancelled = is_cancelled
        self._deadline = self.asked.monotonic_s + self.timeout_s
        self._on_result, self._on_stage = on_result, on_stage
        self._stage = ("", "")
        self._working = self._is_complete = False
        self._lock = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Tell whether the request still waits for its result."""
        return not self._is_complete

    def take_image(self, message) -> bool:
        """Take an image that was taken after the request, and return whether the request waited for it.

        Later ones are kept as well: the detections of one of them may come first.
        """
        stamp_ns = stamp_to_ns(message.header.stamp)
        if self.goal.image.width or self._working or self._was_taken_before(stamp_ns):
            return False
        with self._lock:
            remember(self._images, stamp_ns, message, MAX_IMAGES)
        if self.image is not None:
            return False
        self.image, self.image_came_s = message, time.monotonic()
        return True

    def _was_taken_before(self, stamp_ns: int) -> bool:
        """Tell whether an image shows what was there before the request, by its stamp.

        If no newer one comes for `FRESH_S`, the stamps are not those of the node's clock.
        """
        asked = self.asked
        if not (stamp_ns and asked.clock_ns) or time.monotonic() - asked.monotonic_s > FRESH_S:
            return False
        return 0 < asked.clock_ns - stamp_ns < OTHER_CLOCK_S * 1e9

    def choose_image(self, num_shown: Callable[[int], int]) -> None:
        """Choose the image that shows the most of the request's objects, the first one of several.

        Args:
            num_shown: counts them, by the stamp of an image, nanoseconds.
        """
        with self._lock:
            images = list(self._images.items())
        _, self.image = max(images, key=lambda item: num_shown(item[0]), default=(0, self.image))

    def renew_image(self) -> None:
        """Wait for another image, unless the goal has brought its own."""
        if not self.goal.image.width:
            with self._lock:
                self._images.clear()
            self.image = None

    def begin_work(self) -> None:
        """Mark the request as being processed."""
        self._working = True

    def wait_for(self, stage: str, sentence: str) -> None:
        """Set what the request waits for; the sentence is its result if it times out."""
        self.tell(stage, sentence)

    def tell(self, stage: str, sentence: str = "") -> None:
        """Publish the current activity as feedback, once."""
        if (stage, sentence) != self._stage and self.is_open:
            self._stage = (stage, sentence)
            self._on_stage(stage, sentence)

    def answer(self, result: Result) -> None:
        """Complete the request with a result, unless it is complete already."""
        with self._lock:
            if self._is_complete:
                return
            self._is_complete = True
        self._on_result(result)

    def expire(self, now: float) -> None:
        """Complete the request if it was cancelled or has timed out."""
        if self.is_cancelled():
            self.answer(refusal(CANCELLED))
        elif now > self._deadline and not self._working:
            waited = self._stage[1] or "The node was busy with other images: ask with a longer timeout."
            names = self.goal.objects[:MAX_NAMES]
            self.answer(refusal(LATE.format(self.timeout_s, waited), names))


class OpenRequests:
    """Holds the requests that are not complete yet, in the order of arrival. Thread-safe.

    Args:
        wake: called when there may be something to do for who serves them.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._requests: list[EstimationRequest] = []
        self._newest: tuple[float, Any] | None = None
        """When the newest image arrived, and the image."""
        self._closed = ""
        self.answered = 0

    def close(self, sentence: str) -> None:
        """Complete waiting requests with a sentence, and refuse new ones with it; "": accept new ones."""
        with self._lock:
            self._closed, self._newest = sentence, None
            requests, self._requests = self._requests, []
        for request in requests if sentence else ():
            request.answer(refusal(sentence))

    def add(self, request: EstimationRequest) -> None:
        """Add a request, or complete it with the reason for its refusal.

        An image that arrived after the request was made, but before this call, is passed to it.
        """
        with self._lock:
            self._drop_answered()
            sentence = self._closed or (BUSY if len(self._requests) >= MOST_OPEN else "")
            if not sentence:
                self._requests.append(request)
            newest = self._newest
        if sentence:
            request.answer(refusal(sentence))
            return
        if newest is not None and newest[0] >= request.asked.monotonic_s:
            request.take_image(newest[1])
        self._wake()

    def open(self) -> list[EstimationRequest]:
        """Return the requests that wait for a result."""
        with self._lock:
            self._drop_answered()
            return list(self._requests)

    def add_image(self, message) -> None:
        """Pass an image to the open requests."""
        with self._lock:
            self._newest = time.monotonic(), message
        waited = [request.take_image(message) for request in self.open()]
        if any(waited):
            self._wake()

    def wake_if_open(self) -> None:
        """Wake the worker, because an input arrived that a request may wait for."""
        if self.open():
            self._wake()

    def expire(self) -> None:
        """Complete requests that were cancelled or have timed out; called several times a second."""
        now = time.monotonic()
        for request in self.open():
            request.expire(now)

    def _drop_answered(self) -> None:
        still = [request for request in self._requests if request.is_open]
        self.answered += len(self._requests) - len(still)
        self._requests = still
