"""Find the CameraInfo that belongs to an image."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from vpog_core.messages.reading import stamp_to_ns
from vpog_core.messages.ring import remember
from vpog_core.types import VPOGError

MAX_KEPT = 300
"""Number of messages kept: an image's calibration is needed when its detections come, some time later."""

FIRST_S = 0.5
"""Seconds that a frame waits for the first CameraInfo, or for its own if every image so far had one."""

JUMP_NS = 1_000_000_000
"""A stamp further back than this means that time has started again, as when a bag is played again."""


class CameraInfos:
    """Stores the calibrations received so far; thread-safe.

    An image has the calibration of its own stamp, else the newest one before it, if the next one is equal: a
    calibration published once is valid for all images after it.
    """

    def __init__(self, kept: int | None = MAX_KEPT, wait_s: float = FIRST_S) -> None:
        """Keep `kept` messages (None: all), and wait up to `wait_s` seconds for one that is on its way."""
        self._capacity, self._wait_s = kept, wait_s
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._newest: Any = None
        self._newest_ns = 0
        self._exact = False
        self._changed = threading.Condition()

    def add(self, message, stamp_ns: int | None = None) -> None:
        """Add a message; may be called from any thread.

        Args:
            stamp_ns: its stamp where it is not the one in its header.
        """
        stamp_ns = stamp_to_ns(message.header.stamp) if stamp_ns is None else stamp_ns
        with self._changed:
            if self._capacity is not None and stamp_ns < self._newest_ns - JUMP_NS:
                self._kept.clear()
            self._newest, self._newest_ns = message, stamp_ns
            remember(self._kept, stamp_ns, message, self._capacity)
            self._changed.notify_all()

    def of_image(self, stamp_ns: int) -> Any:
        """Return the calibration of an image; None where none has come in time.

        Args:
            stamp_ns: of the image; without a stamp, 0, the newest calibration holds.

        Raises:
            VPOGError: the calibration has changed about this image, and which one is its is not known.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None, self._wait_s)
            if self._newest is None or not stamp_ns:
                return self._newest
            if self._exact:
                self._changed.wait_for(lambda: self._is_complete(stamp_ns), self._wait_s)
            self._exact = stamp_ns in self._kept
            return self._kept[stamp_ns] if self._exact else self._of_neighbours(stamp_ns)

    def _is_complete(self, stamp_ns: int) -> bool:
        """Tell whether the image's own CameraInfo has arrived, or a newer one, which ends the wait."""
        return stamp_ns in self._kept or max(self._kept) > stamp_ns

    def _of_neighbours(self, stamp_ns: int) -> Any:
        before = max((s for s in self._kept if s < stamp_ns), default=None)
        after = min((s for s in self._kept if s > stamp_ns), default=None)
        if before is None or after is None:
            return self._kept[after if before is None else before]
        if calibration(self._kept[before]) != calibration(self._kept[after]):
            raise VPOGError(
                "The CameraInfo changed about the time of an image, and none has the image's stamp: publish "
                "one with every image, of the same stamp."
            )
        return self._kept[before]


def calibration(info) -> tuple:
    """Return the calibration in a CameraInfo, for comparison."""
    roi = info.roi
    return (
        *(info.width, info.height, info.distortion_model),
        *(tuple(info.d), tuple(info.k), tuple(info.p)),
        *(info.binning_x, info.binning_y),
        *(roi.x_offset, roi.y_offset, roi.width, roi.height),
        info.header.frame_id,
    )
