"""List the messages of detectors that are read, each with the function that reads it.

Another detector's message needs a function here, which returns a `MessageDetection` for each of its
detections, and a row in `DETECTION_INPUTS`: the node, its interface, the launch files and `vpog replay` take
it from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from vpog_core.messages.reading import box_of_roi, detection_from_instance, message_type
from vpog_core.types import MAX_SIDE, Detection, VPOGError

MAX_NUMBER = 2**31 - 1
"""Largest number that `ObjectPose.instance` holds."""


@dataclass(frozen=True)
class MessageDetection:
    """Holds one detection of a message, as its detector has it.

    Attributes:
        classes: (name, score) of what it may show, the likeliest first; names may be unknown here.
        box: [4] (x0, y0, x1, y1), pixels; of no size where the mask alone tells.
        number: the detector's number of the instance, or None.
        read: returns box and mask as a `Detection`, given width and height of the image; raises a VPOGError
            where the mask cannot be used. None: there is only the box.
    """

    classes: list[tuple[str, float]]
    box: np.ndarray
    number: int | None = None
    read: Callable[[int, int], Detection] | None = None


@dataclass(frozen=True)
class DetectionInput:
    """Holds a row of the table: type of the messages, a description, and the function that reads one."""

    type: str
    description: str
    read: Callable[[Any], list[MessageDetection]]


def read_instances(message) -> list[MessageDetection]:
    """Read a vpog_ros/Instance2DArray."""
    return [
        MessageDetection(
            [(item.class_id, rank(item.score))],
            box_of_roi(item.roi),
            item.instance if item.instance >= 0 else None,
            partial(detection_from_instance, item),
        )
        for item in message.instances
    ]


def read_vision(message) -> list[MessageDetection]:
    """Read a vision_msgs/Detection2DArray."""
    found = []
    for item in message.detections:
        classes = [(result.hypothesis.class_id, rank(result.hypothesis.score)) for result in item.results]
        classes.sort(key=lambda of_class: -of_class[1])
        box = _box(item.bbox.center, item.bbox.size_x, item.bbox.size_y)
        found.append(MessageDetection(classes, box, number_of(item.id)))
    return found


def read_yolo(message) -> list[MessageDetection]:
    """Read a yolo_msgs/DetectionArray, of yolo_ros: classes go by their names, else by their numbers."""
    found = []
    for item in message.detections:
        classes = [(name, rank(item.score)) for name in (item.class_name, str(item.class_id))]
        box = _box(item.bbox.center, item.bbox.size.x, item.bbox.size.y)
        read = partial(_with_outline, item, box)
        found.append(MessageDetection(classes, box, number_of(item.id), read))
    return found


def _with_outline(item, box: np.ndarray, width: int, height: int) -> Detection:
    return Detection(item.class_name, box, mask=mask_of_outline(item.mask, width, height))


DETECTION_INPUTS = {
    "instances": DetectionInput(
        "vpog_ros/msg/Instance2DArray",
        "2D detections: boxes, and masks where there are any, with the header of their image.",
        read_instances,
    ),
    "detections": DetectionInput(
        "vision_msgs/msg/Detection2DArray",
        "2D detections: boxes, with the header of their image.",
        read_vision,
    ),
    "yolo_detections": DetectionInput(
        "yolo_msgs/msg/DetectionArray",
        "2D detections of yolo_ros: boxes, and outlines as masks, with the header of their image.",
        read_yolo,
    ),
}
"""Message type and converter of each detection topic, by the topic's name."""

_READERS = {row.type: row.read for row in DETECTION_INPUTS.values()}


def read_detections(message) -> list[MessageDetection]:
    """Read the detections of a message of one of the types in `DETECTION_INPUTS`."""
    return _READERS[message_type(message)](message)


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
    """Return a box [4] (x0, y0, x1, y1), pixels; of a turned one the box about its corners."""
    x, y, turn = center.position.x, center.position.y, center.theta
    c, s = (abs(math.cos(turn)), abs(math.sin(turn))) if math.isfinite(turn) else (1.0, 0.0)
    half_x = (c * size_x + s * size_y) / 2
    half_y = (s * size_x + c * size_y) / 2
    return np.array([x - half_x, y - half_y, x + half_x, y + half_y], np.float64)


def number_of(word: str) -> int | None:
    """Return the number that an id of a detector holds, or None where it is none that a message can carry."""
    if len(word) > len(str(MAX_NUMBER)) or not word.isdecimal() or int(word) > MAX_NUMBER:
        return None
    return int(word)


def rank(score: float) -> float:
    """Return a score to order by; NaN counts as 0."""
    return 0.0 if math.isnan(score) else float(score)
