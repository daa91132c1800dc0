"""Number tracked objects so that mug_0 stays mug_0 if the detector changes its number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vpog_core.inference.tracks import Key
from vpog_core.messages.instance_numbers import InstanceNumbers
from vpog_core.types import Detection, PoseEstimate


class TrackNumbers:
    """Numbers the detections of an image; an object that has a track keeps its track's number.

    A new object gets its detector's number where that is free, else that of an object which was there lately,
    else the lowest that has not been used for long. A detector that gives one number to two objects, in one
    image or one after the other, does not tell objects apart: its numbers of that class count no more.
    """

    def __init__(self) -> None:
        self._numbers = InstanceNumbers()

    def trusted(self, detections: Sequence[Detection]) -> list[int | None]:
        """Return the detector's number of each detection; None where there is none or it is ambiguous."""
        detector_numbers = [d.instance if d.instance >= 0 else None for d in detections]
        for class_id, rows in _rows(detections).items():
            if self._numbers.is_ambiguous(class_id, [detector_numbers[row] for row in rows]):
                for row in rows:
                    detector_numbers[row] = None
        return detector_numbers

    def compare(
        self,
        detector_numbers: Sequence[int | None],
        keys: Sequence[Key | None],
        before: Mapping[Key, int | None],
    ) -> None:
        """Compare the detector's numbers with the tracks that detections were found to belong to.

        Args:
            detector_numbers: trusted numbers of the detections; keys: of their tracks, None for new ones.
            before: the detector's number of each track in the last image.
        """
        key_of_number = {(key[0], number): key for key, number in before.items() if number is not None}
        for number, key in zip(detector_numbers, keys, strict=True):
            if key is not None and key_of_number.get((key[0], number), key) != key:
                self._numbers.distrust(key[0])

    def numbered(
        self,
        detections: Sequence[Detection],
        detector_numbers: Sequence[int | None],
        keys: Sequence[Key | None],
        others: Mapping[Key, int | None],
    ) -> list[Detection]:
        """Return the detections under their objects' numbers; no two of a class have the same.

        Args:
            others: objects that no detection belongs to and that are being followed, with their detector's
                numbers. They keep their own, unless the detector has the object elsewhere now.
        """
        self._numbers.next_frame()
        result = list(detections)
        for class_id, rows in _rows(detections).items():
            elsewhere = {key[1]: number for key, number in others.items() if key[0] == class_id}
            moved = {
                n
                for n, number in elsewhere.items()
                if number == n and n in [detector_numbers[r] for r in rows]
            }
            taken = {keys[row][1] for row in rows if keys[row] is not None} | (elsewhere.keys() - moved)
            free = [None if detector_numbers[row] in taken else detector_numbers[row] for row in rows]
            numbers = [free[n] if keys[row] is None else keys[row][1] for n, row in enumerate(rows)]
            boxes = [_box(detections[row]) for row in rows]
            filled = self._numbers.fill(class_id, numbers, boxes, taken)
            for row, number in zip(rows, filled, strict=True):
                result[row] = replace(detections[row], instance=number)
        return result

    def keep(self, boxes: Mapping[Key, np.ndarray]) -> None:
        """Store the boxes of the objects that have a pose, so that they keep their numbers."""
        for (class_id, number), box in boxes.items():
            self._numbers.keep(class_id, number, box)


def reuse_lost_numbers(
    detections: Sequence[Detection],
    detector_numbers: Sequence[int | None],
    keys: Sequence[Key | None],
    estimates: Sequence[PoseEstimate],
    lost: Sequence[Key],
) -> tuple[list[Detection], list[PoseEstimate]]:
    """Give the numbers of objects that were lost in this image to new objects that have a pose.

    Args:
        detector_numbers: trusted numbers of the detections; keys: of their tracks, None for new ones;
            estimates: of the detections.

    Returns:
        The detections and their estimates, under their numbers.
    """
    free, detections, estimates = list(lost), list(detections), list(estimates)
    for n, (detection, estimate) in enumerate(zip(detections, estimates, strict=True)):
        is_new = keys[n] is None and detector_numbers[n] is None and estimate.T_cam_obj is not None
        key = next((key for key in free if key[0] == detection.class_id), None) if is_new else None
        if key is not None:
            free.remove(key)
            detections[n], estimates[n] = (
                replace(detection, instance=key[1]),
                replace(estimate, instance=key[1]),
            )
    return detections, estimates


def _rows(detections: Sequence[Detection]) -> dict[str, list[int]]:
    """Return the rows of the detections of each class."""
    rows = defaultdict(list)
    for row, detection in enumerate(detections):
        rows[detection.class_id].append(row)
    return rows


def _box(detection: Detection) -> np.ndarray:
    """Return the box [4]; an empty one for an invalid box, which the estimator reports."""
    box = np.asarray(detection.box, dtype=np.float64)
    return box if box.shape == (4,) else np.zeros(4)
