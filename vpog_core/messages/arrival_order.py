"""Pair images and detections without stamps by the order they come in, where that is safe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

START_QUIET_S = 1.0
"""Pause, seconds, needed before the first image: a detector could still process an earlier one."""

QUIET_S = 5.0
"""Pause, seconds, after which pairing starts again once the order was lost: a detector has finished then."""

PAIRED = (
    "Images and detections have no stamp (0): they are paired by the order they come in, which works only "
    "while every image waits for its detections; set header.stamp in the camera driver and copy it in the "
    "detector."
)
OUT_OF_ORDER = (
    "Images and detections have no stamp (0) and do not take turns, so the image that detections belong to "
    f"is not known: they are dropped until nothing comes for {QUIET_S:g} s; set header.stamp in the camera "
    "driver and copy it in the detector."
)


class ArrivalOrder:
    """Follows one stream of images and one detector's results, both without stamps.

    Detections belong to the last image only if images and detections have alternated since a pause. After two
    images, or two results, in a row, it is not known which result belongs to which image.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()
        self._quiet_s = START_QUIET_S
        self._image: Any = None
        self._in_order = False

    def add_image(self, image: Any) -> None:
        """Add an image without a stamp."""
        if self._came_after_a_pause():
            self._in_order, self._image = True, None
        if self._image is not None:
            self._in_order = False
        self._image = image if self._in_order else None

    def take_image(self) -> Any:
        """Return the image that new detections without a stamp belong to; None where it is not known."""
        self._came_after_a_pause()
        image, self._image = self._image, None
        self._in_order = image is not None
        return image

    def notices(self) -> dict[str, str]:
        """Return what users of messages without stamps must know: a sentence or "" for each kind."""
        return {
            "paired by order": PAIRED if self._in_order else "",
            "out of order": "" if self._in_order else OUT_OF_ORDER,
        }

    def _came_after_a_pause(self) -> bool:
        now = self._clock()
        paused = now - self._last >= self._quiet_s
        self._last, self._quiet_s = now, QUIET_S
        return paused
