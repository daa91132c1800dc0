"""Convert messages of detectors to detections of known objects: the best ones, numbered."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vpog_core.messages.instance_numbers import NO_NUMBER, InstanceNumbers
from vpog_core.messages.label_maps import LabelledRegion, LabelledRegions, LabelMapReader
from vpog_core.messages.reading import detection_from_instance
from vpog_core.messages.round_robin import RoundRobin
from vpog_core.types import MAX_SIDE, Detection, VPOGError

DETECTION_TYPES = (
    "vpog_ros/msg/Instance2DArray",
    "vision_msgs/msg/Detection2DArray",
    "yolo_msgs/msg/DetectionArray",
)
"""Types of messages that are read as detections."""

UNKNOWN = "detections of unknown classes"
UNUSABLE = "detections of objects left out"
NO_CLASS = "detections without a class"
OVER_LIMIT = "detections over max_detections"
SPECKS = "specks of label maps"

MAX_NUMBER = 2**31 - 1
"""Largest number that `ObjectPose.instance` holds."""

MAX_WORD = 60
"""Characters of a detector's word that are shown."""


@dataclass(frozen=True)
class Candidate:
    """Hold a detection as received: its message, object, score, and the detector's number."""

    message: object
    object_id: str
    score: float
    number: int | None


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

    def read(
        self, message, width: int, height: int, most: int, numbered: bool = True
    ) -> tuple[list[Detection], list[str]]:
        """Read the best detections of known objects, and a sentence for each that is broken.

        Args:
            message: of one of `DETECTION_TYPES`, or a label map, a sensor_msgs/Image.
            width, height: of the image, pixels.
            most: how many are taken, best scores first; those left out come first in the next image.
            numbered: objects of a class are numbered here, by where they were in the last image; False: what
                the detector does not number is left to a tracker, as `NO_NUMBER`.

        Raises:
            VPOGError: a label map that holds no labels.
        """
        if hasattr(message, "encoding"):
            message = self._of_labels(message)
        if hasattr(message, "instances"):
            candidates = [self._of_instance(item) for item in message.instances]
        else:
            candidates = [
                self._of_yolo(item) if hasattr(item, "class_name") else self._of_vision(item)
                for item in message.detections
            ]
        known = sorted((c for c in candidates if c is not None), key=lambda c: -c.score)
        usable, refused = [], []
        for candidate in self._within_limit(known, most):
            try:
                usable.append((candidate, detection_of(candidate, width, height)))
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
            given = [usable[row][0].number for row in own]
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

    def _within_limit(self, known: list[Candidate], most: int) -> list[Candidate]:
        """Choose the candidates to use: the best, after those that were left out of the last image."""
        objects = [candidate.object_id for candidate in known]
        boxes = np.array([rough_box(candidate.message) for candidate in known]).reshape(-1, 4)
        rows = self._round_robin.choose(objects, boxes, most)
        if len(known) > most:
            self._statistics.leave_out(OVER_LIMIT, len(known) - most)
            self._notices.log_once(
                OVER_LIMIT,
                f"A message holds {len(known)} detections of known objects and {most} are used, the best "
                "scores first; the others come first in the next image: raise max_detections to use more.",
            )
        return [known[row] for row in rows]

    def _of_labels(self, message) -> LabelledRegions:
        regions = self._label_maps.read(message)
        if regions.specks:
            self._statistics.leave_out(SPECKS, regions.specks)
        return regions

    def _of_instance(self, message) -> Candidate | None:
        object_id = self._known([message.class_id])
        if object_id is None:
            return None
        number = message.instance if message.instance >= 0 else None
        return Candidate(message, object_id, rank(message.score), number)

    def _of_vision(self, message) -> Candidate | None:
        hypotheses = sorted((r.hypothesis for r in message.results), key=lambda h: -rank(h.score))
        if not hypotheses:
            self._statistics.leave_out(NO_CLASS)
            self._notices.log_once(
                NO_CLASS,
                "A detection has no hypothesis and so no class: it is left out, as others like it are.",
            )
            return None
        object_id = self._known([hypothesis.class_id for hypothesis in hypotheses])
        if object_id is None:
            return None
        best = next(h for h in hypotheses if self._resolve(h.class_id) == object_id)
        return Candidate(message, object_id, rank(best.score), number_of(message.id))

    def _of_yolo(self, message) -> Candidate | None:
        """Read a yolo_msgs/Detection, of yolo_ros: by its class's name, else by its number."""
        object_id = self._known([message.class_name, str(message.class_id)])
        if object_id is None:
            return None
        return Candidate(message, object_id, rank(message.score), number_of(message.id))

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


def detection_of(candidate: Candidate, width: int, height: int) -> Detection:
    """Convert a candidate's message to a detection of its object.

    Raises:
        VPOGError: the mask cannot be used.
    """
    message = candidate.message
    if isinstance(message, LabelledRegion):
        return message.detection(candidate.object_id, width, height)
    if hasattr(message, "roi"):
        detection = detection_from_instance(message, width, height)
        return replace(detection, class_id=candidate.object_id)
    if hasattr(message, "class_name"):
        mask = mask_of_outline(message.mask, width, height)
        return Detection(candidate.object_id, box_of_yolo(message.bbox), candidate.score, mask)
    return Detection(candidate.object_id, box_of_vision(message.bbox), candidate.score)


def rough_box(message) -> np.ndarray:
    """Read the box [4] of a detection's message without its mask; of no size where the mask alone tells."""
    if isinstance(message, LabelledRegion):
        return message.box
    if hasattr(message, "roi"):
        roi = message.roi
        x, y = roi.x_offset, roi.y_offset
        return np.array([x, y, x + roi.width, y + roi.height], np.float64)
    return box_of_yolo(message.bbox) if hasattr(message, "class_name") else box_of_vision(message.bbox)


def box_of_vision(bbox) -> np.ndarray:
    """Read a vision_msgs/BoundingBox2D as [4] (x0, y0, x1, y1), pixels; a turned one about its corners."""
    return _box(bbox.center, bbox.size_x, bbox.size_y)


def box_of_yolo(bbox) -> np.ndarray:
    """Read a yolo_msgs/BoundingBox2D as [4] (x0, y0, x1, y1), pixels; a turned one about its corners."""
    return _box(bbox.center, bbox.size.x, bbox.size.y)


def mask_of_outline(message, width: int, height: int) -> np.ndarray | None:
    """Read a yolo_msgs/Mask, which holds the outline of an object, as [height, width] bool; None without one.

    Raises:
        VPOGError: the outline is of an image of another size, or not finite.
    """
    if len(message.data) < 3:
        return None
    if (message.width, message.height) != (width, height):
        raise VPOGError(
            f"The outline of a mask is of a {message.width}x{message.height} image and this one is "
            f"{width}x{height}: let the detector work on the images as they are."
        )
    points = np.array([[point.x, point.y] for point in message.data], np.float64)
    if not np.isfinite(points).all():
        raise VPOGError("The outline of a mask has points that are not finite: check the detector.")
    points = np.clip(np.round(points), -MAX_SIDE, 2 * MAX_SIDE).astype(np.int32)
    return cv2.fillPoly(np.zeros((height, width), np.uint8), [points], 1).astype(bool)


def _box(center, size_x: float, size_y: float) -> np.ndarray:
    x, y, turn = center.position.x, center.position.y, center.theta
    c, s = (abs(math.cos(turn)), abs(math.sin(turn))) if math.isfinite(turn) else (1.0, 0.0)
    half_x = (c * size_x + s * size_y) / 2
    half_y = (s * size_x + c * size_y) / 2
    return np.array([x - half_x, y - half_y, x + half_x, y + half_y], np.float64)


def number_of(word: str) -> int | None:
    """Return the number in an id of vision_msgs, or None if it is not one that a message can carry."""
    if len(word) > len(str(MAX_NUMBER)) or not word.isdecimal() or int(word) > MAX_NUMBER:
        return None
    return int(word)


def shortened(words: str, length: int = MAX_WORD) -> str:
    """Shorten a sender's words where they are too long for a line of the log."""
    return words if len(words) <= length else f"{words[:length]}..."


def rank(score: float) -> float:
    """Return a score to sort by; what is not a number counts as 0."""
    return 0.0 if math.isnan(score) else float(score)
