"""Test that label maps of segmentation networks become detections with boxes and masks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import Image

from vpog_core.messages.detections import SPECKS, DetectionReader
from vpog_core.messages.label_maps import LabelMapReader, labels_of, names_of_info, parse_names
from vpog_core.types import VPOGError


def message(labels: np.ndarray, encoding: str = "mono8", bigendian: bool = False) -> Image:
    height, width = labels.shape
    kind = "u1" if "8" in encoding else ">u2" if bigendian else "<u2"
    data = labels.astype(kind)
    image = Image(height=height, width=width, encoding=encoding, is_bigendian=int(bigendian))
    image.step = width * data.itemsize + 3
    rows = [row.tobytes() + b"pad" for row in data]
    image.data = b"".join(rows)
    return image


@pytest.fixture
def labels() -> np.ndarray:
    """Return two regions of label 3, one of label 500, and a speck."""
    labels = np.zeros((60, 80), np.uint16)
    labels[5:15, 10:30] = labels[30:50, 40:60] = 3
    labels[40:50, 5:25] = 500
    labels[0:2, 0:2] = 3
    return labels


class Library:
    ids = ("mug", "drill")

    def resolve(self, class_id: str) -> str:
        if class_id not in self.ids:
            raise VPOGError("unknown")
        return class_id


@pytest.fixture
def said() -> SimpleNamespace:
    """Count and remember what is left out; `counted` holds the numbers."""
    counted = {}

    def leave_out(kind: str, number: int = 1) -> None:
        counted[kind] = counted.get(kind, 0) + number

    return SimpleNamespace(counted=counted, log_once=lambda *_, **__: None, leave_out=leave_out)


@pytest.mark.parametrize(("encoding", "bigendian"), [("mono16", False), ("16UC1", True)])
def test_labels_are_read_with_padding_and_in_either_byte_order(labels, encoding, bigendian):
    assert np.array_equal(labels_of(message(labels, encoding, bigendian)), labels)


def test_each_connected_region_of_a_label_is_a_detection_with_its_mask(labels, said):
    reader = DetectionReader(Library(), said, said, (), LabelMapReader({3: "mug", 500: "drill"}))
    detections, refused = reader.read(message(labels, "mono16"), 80, 60, 16)
    assert refused == []
    assert said.counted[SPECKS] == 1
    assert [(d.class_id, d.box.tolist()) for d in detections] == [
        ("mug", [39.5, 29.5, 59.5, 49.5]),
        ("mug", [9.5, 4.5, 29.5, 14.5]),
        ("drill", [4.5, 39.5, 24.5, 49.5]),
    ]
    assert len({d.instance for d in detections if d.class_id == "mug"}) == 2
    assert np.array_equal(detections[2].mask, labels == 500)


def test_all_pixels_of_a_label_are_one_detection_where_that_is_asked_for(labels, said):
    reader = DetectionReader(Library(), said, said, (), LabelMapReader({3: "mug"}, "value"))
    (mug,), _ = reader.read(message(labels, "mono16"), 80, 60, 16)
    # The speck is in the mask, and not in the box.
    assert mug.box.tolist() == [9.5, 4.5, 59.5, 49.5]
    assert np.array_equal(mug.mask, labels == 3)


def test_a_label_without_a_name_is_the_class_of_its_number(labels):
    found = LabelMapReader({}).read(message(labels, "mono16")).instances
    assert {region.class_id for region in found} == {"3", "500"}


def test_an_empty_label_map_holds_no_detection(said):
    reader = DetectionReader(Library(), said, said)
    assert reader.read(message(np.zeros((60, 80))), 80, 60, 16) == ([], [])


def test_what_is_no_label_map_is_refused(labels, said):
    with pytest.raises(VPOGError, match="encoding 'rgb8': publish one of mono8"):
        labels_of(Image(height=1, width=1, encoding="rgb8", step=3))
    reader = DetectionReader(Library(), said, said, (), LabelMapReader({3: "mug"}))
    _, refused = reader.read(message(labels, "mono16"), 640, 480, 16)
    assert "80x60 and its image is 640x480: publish it in the image's size" in refused[0]


def test_names_of_labels_are_read_from_the_parameter_and_from_label_info():
    assert parse_names(" 1: mug , 20:drill,") == {1: "mug", 20: "drill"}
    for text, told in [("mug", "'mug': write a label"), ("0: floor", "'0: floor'"), ("1: a, 1: b", "twice")]:
        with pytest.raises(VPOGError, match=told):
            parse_names(text)
    classes = [SimpleNamespace(class_id=1, class_name="mug"), SimpleNamespace(class_id=2, class_name="")]
    assert names_of_info(SimpleNamespace(class_map=classes)) == {1: "mug"}
