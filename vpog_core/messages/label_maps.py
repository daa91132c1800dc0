"""Read label maps of segmentation networks as instances: images whose pixels are numbers of classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np

from vpog_core.geometry.boxes import box_of_counts, box_of_mask
from vpog_core.messages.images import PackedImage, unpad
from vpog_core.types import Detection, VPOGError

ENCODINGS = {"mono8": "mono8", "8UC1": "mono8", "mono16": "mono16", "16UC1": "mono16"}
"""Encodings that hold labels, and what their bytes are read as."""

BACKGROUND = 0
"""The label of pixels that show no object."""

MIN_PIXELS = 64
"""Least number of pixels of an instance; smaller regions are specks at the edges of others."""

REGIONS = ("connected", "value")
"""Choices for what one instance is: a connected region of a label, or all pixels of a label."""


@dataclass(frozen=True)
class LabelledRegion:
    """Holds one instance of a label map, with the fields of `vpog_ros/Instance2D` that name its object.

    Attributes:
        numbers: [H, W], where the pixels of this region hold `number`.
        box: [4] (x0, y0, x1, y1), the outer edges of its pixels, without specks; area: pixels.
    """

    class_id: str
    numbers: np.ndarray
    number: int
    box: np.ndarray
    area: int

    def detection(self, width: int, height: int) -> Detection:
        """Return the detection in an image of this size.

        Raises:
            VPOGError: the label map is of an image of another size.
        """
        if self.numbers.shape != (height, width):
            raise VPOGError(
                f"A label map is {self.numbers.shape[1]}x{self.numbers.shape[0]} and its image is "
                f"{width}x{height}: publish it in the image's size."
            )
        return Detection(self.class_id, self.box, mask=self.numbers == self.number)


@dataclass(frozen=True)
class LabelledRegions:
    """Holds the instances of a label map, the largest first, and the number of specks left out."""

    instances: list[LabelledRegion]
    specks: int = 0


@dataclass
class LabelMapReader:
    """Reads label maps.

    Attributes:
        names: class of each label; a label that is not there is a class of its own number, such as "3".
        regions: one of `REGIONS`.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    regions: str = "connected"

    def read(self, message) -> LabelledRegions:
        """Read a sensor_msgs/Image whose pixels are labels.

        Raises:
            VPOGError: it holds no labels, or its fields do not fit together.
        """
        labels = labels_of(message)
        found: list[LabelledRegion] = []
        for label in np.unique(labels):
            if label != BACKGROUND:
                found += self._regions(labels == label, self._class_of(label))
        kept = [region for region in found if region.area >= MIN_PIXELS]
        return LabelledRegions(sorted(kept, key=lambda region: -region.area), len(found) - len(kept))

    def class_names(self, message) -> set[str]:
        """Return the classes of the labels in a label map, without looking for regions.

        Raises:
            VPOGError: it holds no labels, or its fields do not fit together.
        """
        labels = np.flatnonzero(np.bincount(labels_of(message).ravel()))
        return {self._class_of(label) for label in labels if label != BACKGROUND}

    def _class_of(self, label: int) -> str:
        return self.names.get(int(label), str(label))

    def _regions(self, mask: np.ndarray, class_id: str) -> list[LabelledRegion]:
        pixels = mask.astype(np.uint8)
        if self.regions == "value":
            return [LabelledRegion(class_id, pixels, 1, box_of_mask(mask), np.count_nonzero(mask))]
        _, numbers, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8)
        return [
            LabelledRegion(
                class_id,
                numbers,
                number,
                box_of_counts(x, y, width, height),
                int(area),
            )
            for number, (x, y, width, height, area) in enumerate(stats[1:], start=1)
        ]


def labels_of(message) -> np.ndarray:
    """Read a label map's pixels [H, W] as integers.

    Raises:
        VPOGError: another encoding than mono8, mono16, 8UC1, 16UC1, or fields that do not fit together.
    """
    if message.encoding not in ENCODINGS:
        raise VPOGError(
            f"A label map has the encoding '{message.encoding}': publish one of {', '.join(ENCODINGS)}; an "
            "image in which labels have colours is for looking at."
        )
    encoding, size = ENCODINGS[message.encoding], (message.height, message.width)
    packed = unpad(PackedImage(*size, encoding, message.is_bigendian, message.step, message.data))
    kind = np.uint8 if packed.encoding == "mono8" else np.dtype(">u2" if packed.is_bigendian else "<u2")
    return packed.data.view(kind).reshape(packed.height, packed.width)


def names_of_info(message) -> dict[int, str]:
    """Read the names of labels of a vision_msgs/LabelInfo."""
    return {int(item.class_id): item.class_name for item in message.class_map if item.class_name}


def parse_names(text: str) -> dict[int, str]:
    """Read the names of labels as a parameter has them: "1: mug, 2: drill".

    Raises:
        VPOGError: it is written in another way, or names a label twice.
    """
    names: dict[int, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        label, colon, name = (part.strip() for part in item.partition(":"))
        if not (colon and name and label.isdecimal() and 0 < int(label) < 2**16):
            raise VPOGError(
                f"label_names holds '{item}': write a label from 1 to 65535, a colon and a class, such as "
                "'1: mug, 2: drill'."
            )
        if int(label) in names:
            raise VPOGError(f"label_names names the label {int(label)} twice: give each label one class.")
        names[int(label)] = name
    return names
