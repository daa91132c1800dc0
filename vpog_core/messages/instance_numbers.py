"""Number objects of one class so that each keeps its number from frame to frame."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from vpog_core.geometry.boxes import overlap

MIN_OVERLAP = 0.1
"""Intersection over union above which two boxes of successive frames are one object's."""

MAX_COORDINATE = 1e6
"""Boxes are clipped to this range (pixels), so that invalid ones get a number as well."""

MEMORY_FRAMES = 100
"""Frames without a detection after which an object's number is free again: many, so that an object that was
hidden for a while finds its number unused."""

NO_NUMBER = -1
"""`Detection.instance` of a detection without a number."""


class InstanceNumbers:
    """Numbers the detections of a class in a frame: each number once, whatever the detector sends.

    A detector's number is kept if no other object of the class has it. Once a detector has given one number
    to two objects of a class, its numbers are ignored from then on. An object without a number gets that of
    the remembered box it overlaps most, else of the nearest one in the last frame that is free, else the
    lowest free number.
    """

    def __init__(self) -> None:
        self._seen: dict[str, dict[int, tuple[np.ndarray, int]]] = defaultdict(dict)
        self._ambiguous: set[str] = set()
        self._frame = 0

    def next_frame(self) -> None:
        """Begin a new image."""
        self._frame += 1

    def keep(self, class_id: str, number: int, box: np.ndarray) -> None:
        """Store the box of an object that was tracked without a detection, so that it keeps its number."""
        self._seen[class_id][number] = (
            np.clip(np.nan_to_num(box), -MAX_COORDINATE, MAX_COORDINATE),
            self._frame,
        )

    def replace(self, boxes: Mapping[tuple[str, int], np.ndarray]) -> None:
        """Forget where the objects of some classes were, and store where they are now.

        Args:
            boxes: [4] (x0, y0, x1, y1), pixels, by class and number.
        """
        for class_id, _ in boxes:
            self._seen.pop(class_id, None)
        for (class_id, number), box in boxes.items():
            self.keep(class_id, number, box)

    def assign(self, class_id: str, given: Sequence[int | None], boxes: Sequence[np.ndarray]) -> list[int]:
        """Return the numbers of all detections of one class in this frame.

        Args:
            given: the detector's number of each, 0 or more; None where it gives none.
            boxes: [4] (x0, y0, x1, y1) of each, pixels.
        """
        numbers = [None] * len(given) if self.is_ambiguous(class_id, given) else given
        return self.fill(class_id, numbers, boxes)

    def fill(
        self,
        class_id: str,
        numbers: Sequence[int | None],
        boxes: Sequence[np.ndarray],
        taken: Collection[int] = (),
    ) -> list[int]:
        """Number the detections of one class in this frame that have no number yet.

        Args:
            numbers: of each, all different; None where it is to be found.
            boxes: [4] (x0, y0, x1, y1) of each, pixels.
            taken: numbers of other objects, which are not given to these.
        """
        boxes = [np.clip(np.nan_to_num(box), -MAX_COORDINATE, MAX_COORDINATE) for box in boxes]
        memory = self._remembered(class_id)
        known = {n: item for n, item in memory.items() if n not in taken}
        overlaps = {n: [overlap(box, old) for box in boxes] for n, (old, _) in known.items()}
        numbers = fill_numbers(numbers, overlaps, MIN_OVERLAP)
        last = {n: old for n, (old, frame) in known.items() if frame == self._frame - 1}
        nearness = {n: [-distance(box, old) for box in boxes] for n, old in last.items()}
        numbers = fill_numbers(numbers, nearness, -np.inf)
        for row, box in enumerate(boxes):
            if numbers[row] is None:
                numbers[row] = lowest_free({*memory, *numbers, *taken})
            self._seen[class_id][numbers[row]] = (box, self._frame)
        return numbers

    def is_ambiguous(self, class_id: str, given: Sequence[int | None]) -> bool:
        """Tell whether the detector has given one number to several objects of a class, now or before."""
        if any(count > 1 for number, count in Counter(given).items() if number is not None):
            self._ambiguous.add(class_id)
        return class_id in self._ambiguous

    def distrust(self, class_id: str) -> None:
        """Mark a class's numbers as ambiguous: its detector gave one to another object."""
        self._ambiguous.add(class_id)

    def _remembered(self, class_id: str) -> dict[int, tuple[np.ndarray, int]]:
        """Return the last box of the numbers that are still in use, and its frame."""
        oldest = self._frame - MEMORY_FRAMES
        self._seen[class_id] = {n: item for n, item in self._seen[class_id].items() if item[1] >= oldest}
        return dict(self._seen[class_id])


def fill_numbers(
    numbers: Sequence[int | None], similarity: dict[int, list[float]], min_similarity: float
) -> list[int | None]:
    """Assign free numbers to rows without one, so that the sum of similarities is largest.

    Args:
        numbers: of each row, or None.
        similarity: of each number to each row.
        min_similarity: rows and numbers less similar than this are not brought together.
    """
    result = list(numbers)
    rows = [row for row, number in enumerate(numbers) if number is None]
    free = [number for number in similarity if number not in numbers]
    if not rows or not free:
        return result
    table = np.array([[similarity[number][row] for number in free] for row in rows])
    for i, j in zip(*linear_sum_assignment(-table), strict=True):
        if table[i, j] >= min_similarity:
            result[rows[i]] = free[j]
    return result


def lowest_free(taken: set[int | None]) -> int:
    """Return the lowest number from 0 on that is not taken."""
    number = 0
    while number in taken:
        number += 1
    return number


def distance(box: np.ndarray, other: np.ndarray) -> float:
    """Compute the distance between the middles of two boxes [4], pixels."""
    return float(np.linalg.norm(box[:2] + box[2:] - other[:2] - other[2:]) / 2)
