"""Check the detections that a caller gives, and find the boxes of those that have only a mask."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from vpog_core.geometry.boxes import box_of_mask
from vpog_core.types import Detection, VPOGError

REMEDY = 'give a list such as [vpog.Detection("mug", box)]'


def detection_list(detections: Iterable[Detection] | Detection) -> list[Detection]:
    """Return detections as a list, also a single one, and each with a box; see `box_of_mask`.

    A detection whose mask is empty keeps no usable box, and gets the reason when its crop is cut out.

    Raises:
        VPOGError: what is no `Detection`, or one with neither a box nor a mask.
    """
    if isinstance(detections, Detection):
        detections = [detections]
    if not isinstance(detections, Iterable) or isinstance(detections, (str, dict)):
        raise VPOGError(f"The detections are a {type(detections).__name__}: {REMEDY}.")
    return [_with_box(number, detection) for number, detection in enumerate(detections)]


def _with_box(number: int, detection: Detection) -> Detection:
    if not isinstance(detection, Detection):
        raise VPOGError(f"Detection {number} is a {type(detection).__name__}: {REMEDY}.")
    if detection.box is not None:
        try:
            np.asarray(detection.box, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise VPOGError(
                f"The box of detection {number} is {str(detection.box)[:60]!r}: give four numbers, "
                "x0, y0, x1, y1."
            ) from error
        return detection
    if detection.mask is None:
        raise VPOGError(f"Detection {number} has neither a box nor a mask: give one of them.")
    mask = np.asarray(detection.mask)
    box = box_of_mask(mask) if mask.ndim == 2 else None
    return replace(detection, box=np.full(4, np.nan) if box is None else box)
