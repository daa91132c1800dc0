"""Convert detectors' messages to the detections to estimate: the best-scored, of known objects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from vpog_core.messages.detection_inputs import MessageDetection, read_detections
from vpog_core.messages.instance_numbers import NO_NUMBER, InstanceNumbers
from vpog_core.messages.label_maps import LabelMapReader
from vpog_core.messages.round_robin import RoundRobin
from vpog_core.types import Detection, VPOGError

UNKNOWN = "detections of unknown classes"
UNUSABLE = "detections of objects left out"
NO_CLASS = "detections without a class"
OVER_LIMIT = "detections over {}"
"""Reason for detections left out; the placeholder is the parameter that sets the limit."""
SPECKS = "specks of label maps"

MAX_WORD = 60
"""Largest number of characters of a class name in messages to the user."""


@dataclass(frozen=True)
class Candidate:
    """Holds a detection of a message, with the object of the library that it shows and its score."""

    found: MessageDetection
    object_id: str
    score: float

    def detection(self, width: int, height: int) -> Detection:
        """Return the detection in an image of this size.

        Raises:
            VPOGError: the mask cannot be used.
        """
        read = self.found.read
        detection = Detection("", self.found.box) if read is None else read(width, height)
        return replace(detection, class_id=self.object_id, score=self.score)


class DetectionReader:
    """Converts detectors' messages to detections, and keeps instance numbers from image to image.

    Args:
        library: the estimator's ObjectLibrary.
        statistics: counts what is left out, by `leave_out(kind, number)`.
        notices: logs it, by `log_once(kind, sentence, of)`.
        left_out: the objects that cannot be used, which the node has named when it was configured.
        label_maps: reads label maps.
    """

    def __init__(
        self,
        library,
        statistics,
        notices,
        left_out: Collection[str] = (),
        label_maps: LabelMapReader | None = None,
    ) -> None:
        self._library = library
        self._left_out = frozenset(left_out)
        self._statistics = statistics
        self._notices = notices
        self._numbers = InstanceNumbers()
        self._label_maps = label_maps or LabelMapReader()
        self._round_robin = RoundRobin()

    def use(self, library, left_out: Collection[str] = ()) -> None:
        """Read detections of another library's objects from now on; numbers are kept."""
        self._library, self._left_out = library, frozenset(left_out)

    def renumber(self, boxes: Mapping[tuple[str, int], np.ndarray]) -> None:
        """Number the objects of some classes by where they are known to be, not by the last image.

        Args:
            boxes: [4] (x0, y0, x1, y1), pixels, by class and number.
        """
        self._numbers.replace(boxes)

    def read(
        self,
        message,
        width: int,
        height: int,
        most: int,
        numbered: bool = True,
        limited_by: str = "max_detections",
        only: Collection[str] = (),
    ) -> tuple[list[Detection], list[str]]:
        """Read the best detections of known objects, and a sentence for each that is broken.

        Args:
            message: of a type in `DETECTION_INPUTS`, or a label map, a sensor_msgs/Image.
            width, height: of the image, pixels.
            most: how many are taken, best scores first; those left out come first in the next image.
            numbered: objects of a class are numbered here, by where they were in the last image; False: what
                the detector does not number is left to a tracker, as `NO_NUMBER`.
            limited_by: the parameter that `most` comes from.
            only: the objects whose detections are read; empty: all.

        Raises:
            VPOGError: a label map that holds no labels.
        """
        is_label_map = hasattr(message, "encoding")
        found = self._of_labels(message) if is_label_map else read_detections(message)
        candidates = [self._candidate(item) for item in found]
        known = sorted(
            (c for c in candidates if c is not None and (not only or c.object_id in only)),
            key=lambda c: -c.score,
        )
        usable, refused = [], []
        for candidate in self._within_limit(known, most, limited_by):
            try:
                usable.append((candidate, candidate.detection(width, height)))
            except VPOGError as error:
                refused.append(f"{candidate.object_id}: {error}")
        return self._numbered(usable, numbered), refused

    def _numbered(self, usable: list[tuple[Candidate, Detection]], numbered: bool) -> list[Detection]:
        """Number the detections: as the detector does, or so that none of an object has another's number."""
        self._numbers.next_frame()
        rows = defaultdict(list)
        for row, (candidate, _) in enumerate(usable):
            rows[candidate.object_id].append(row)
        result = [detection for _, detection in usable]
        for object_id, own in rows.items():
            given = [usable[row][0].found.number for row in own]
            ambiguous = self._numbers.is_ambiguous(object_id, given)
            if numbered:
                numbers = self._numbers.assign(object_id, given, [result[row].box for row in own])
            else:
                numbers = [NO_NUMBER if ambiguous or number is None else number for number in given]
            if ambiguous:
                self._notices.log_once(
                    "numbers",
                    f"The detector gives one number to several objects of class '{object_id}': they are "
                    "numbered here, by where they were in the last image.",
                    of=object_id,
                )
            for row, number in zip(own, numbers, strict=True):
                result[row] = replace(result[row], instance=number)
        return result

    def _within_limit(self, known: list[Candidate], most: int, limited_by: str) -> list[Candidate]:
        """Choose the candidates to use: the best, after those that were left out of the last image."""
        objects = [candidate.object_id for candidate in known]
        boxes = np.array([candidate.found.box for candidate in known]).reshape(-1, 4)
        rows = self._round_robin.choose(objects, boxes, most)
        if len(known) > most:
            over = OVER_LIMIT.format(limited_by)
            self._statistics.leave_out(over, len(known) - most)
            self._notices.log_once(
                over,
                f"A message holds {len(known)} detections of known objects and {most} are used, the best "
                "scores first; the others come first in the next image: "
                f"raise {limited_by} to use more.",
            )
        return [known[row] for row in rows]

    def _of_labels(self, message) -> list[MessageDetection]:
        regions = self._label_maps.read(message)
        if regions.specks:
            self._statistics.leave_out(SPECKS, regions.specks)
        return [MessageDetection([(r.class_id, 1.0)], r.box, read=r.detection) for r in regions.instances]

    def _candidate(self, found: MessageDetection) -> Candidate | None:
        """Find the object that a detection shows; None, counted and said once, where it cannot be used."""
        if not found.classes:
            self._statistics.leave_out(NO_CLASS)
            self._notices.log_once(
                NO_CLASS,
                "A detection has no hypothesis and so no class: it is left out, as others like it are.",
            )
            return None
        object_id = self._known([name for name, _ in found.classes])
        if object_id is None:
            return None
        score = next(score for name, score in found.classes if self._resolve(name) == object_id)
        return Candidate(found, object_id, score)

    def _known(self, class_ids: list[str]) -> str | None:
        """Return the first object that a class names; None, counted and logged once, if it is unusable."""
        for class_id in class_ids:
            object_id = self._resolve(class_id)
            if object_id is not None:
                return self._usable(object_id)
        self._statistics.leave_out(UNKNOWN)
        known = ", ".join(self._library.ids)
        self._notices.log_once(
            UNKNOWN,
            f"Detections of class '{shortened(class_ids[0])}' are left out: no object is called so (known: "
            f"{shortened(known, 200)}); add its mesh or an alias in objects.yaml if you want its pose.",
            of=class_ids[0],
        )
        return None

    def _usable(self, object_id: str) -> str | None:
        """Return the object; None, counted and logged once, if it was left out at configuration."""
        if object_id not in self._left_out:
            return object_id
        self._statistics.leave_out(UNUSABLE)
        self._notices.log_once(
            UNUSABLE,
            f"Detections of '{object_id}' are left out, as the object is: it cannot be used.",
            of=object_id,
        )
        return None

    def _resolve(self, class_id: str) -> str | None:
        try:
            return self._library.resolve(class_id)
        except VPOGError:
            return None


def shortened(words: str, length: int = MAX_WORD) -> str:
    """Shorten text from a message to fit a line of the log."""
    return words if len(words) <= length else f"{words[:length]}..."
