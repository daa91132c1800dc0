"""Test how detections are read from what detectors send, and which are chosen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import RegionOfInterest
from vpog_ros.msg import Instance2D, Instance2DArray

from vpog_core.messages.detections import NO_CLASS, OVER_LIMIT, UNKNOWN, UNUSABLE, DetectionReader
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.mesh import save_mesh
from vpog_core.synthetic.objects import make_object
from vpog_ros.diagnostics import Statistics
from vpog_ros.notices import Notices


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str) -> None:
        self.lines.append(text)

    warning = info


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> ObjectLibrary:
    folder = tmp_path_factory.mktemp("objects")
    save_mesh(make_object(900_020, vertices=500), folder / "mug.ply")
    save_mesh(make_object(900_021, vertices=500), folder / "can.ply")
    (folder / "objects.yaml").write_text('objects:\n  mug: {aliases: [cup, "3"]}\n')
    return ObjectLibrary(folder)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def statistics() -> Statistics:
    return Statistics()


@pytest.fixture
def read(library, log, statistics):
    reader = DetectionReader(library, statistics, Notices(log))

    def read(message, most: int = 16):
        detections, refused = reader.read(message, 640, 480, most)
        assert refused == []
        return detections

    return read


def instances(*rows: tuple) -> Instance2DArray:
    """Return detections (class, number, score) side by side, the first one leftmost."""
    result = []
    for column, (class_id, number, score) in enumerate(rows):
        roi = RegionOfInterest(x_offset=10 + 40 * (column % 15), y_offset=20, width=30, height=60)
        result.append(Instance2D(class_id=class_id, instance=number, score=score, roi=roi))
    return Instance2DArray(instances=result)


def vision(*rows: tuple, size=(20.0, 10.0), theta=0.0):
    """Make what looks like a vision_msgs/Detection2DArray; the package may be missing."""
    detections = []
    for column, (word, scores) in enumerate(rows):
        results = [
            SimpleNamespace(hypothesis=SimpleNamespace(class_id=name, score=score))
            for name, score in scores.items()
        ]
        centre = SimpleNamespace(position=SimpleNamespace(x=100.0 + 50 * column, y=50.0), theta=theta)
        bbox = SimpleNamespace(center=centre, size_x=size[0], size_y=size[1])
        detections.append(SimpleNamespace(results=results, id=word, bbox=bbox))
    return SimpleNamespace(__msgtype__="vision_msgs/msg/Detection2DArray", detections=detections)


def yolo(*rows: tuple, outline=(), mask_size=(640, 480)):
    """Make what looks like a yolo_msgs/DetectionArray: (class name, class number, track, score)."""
    detections = []
    for column, (name, number, track, score) in enumerate(rows):
        centre = SimpleNamespace(position=SimpleNamespace(x=100.0 + 50 * column, y=50.0), theta=0.0)
        bbox = SimpleNamespace(center=centre, size=SimpleNamespace(x=20.0, y=10.0))
        points = [SimpleNamespace(x=x, y=y) for x, y in outline]
        mask = SimpleNamespace(width=mask_size[0], height=mask_size[1], data=points)
        detections.append(
            SimpleNamespace(class_name=name, class_id=number, id=track, score=score, bbox=bbox, mask=mask)
        )
    return SimpleNamespace(__msgtype__="yolo_msgs/msg/DetectionArray", detections=detections)


def names(detections: list) -> list[tuple[str, int]]:
    return [(detection.class_id, detection.instance) for detection in detections]


def test_unknown_classes_crowd_nothing_out_and_are_said_once(read, log, statistics):
    persons = [("person", n, 0.9) for n in range(40)]
    for _ in range(3):
        assert names(read(instances(*persons, ("mug", 0, 0.5)))) == [("mug", 0)]
    assert statistics.left_out[UNKNOWN] == 120
    assert not statistics.failures
    (line,) = log.lines
    assert "'person'" in line
    assert "objects.yaml" in line


def test_objects_that_were_left_out_crowd_nothing_out_and_are_no_failures(library, log, statistics):
    reader = DetectionReader(library, statistics, Notices(log), {"can": "The mesh 'can.ply' is empty."})
    cans = [("can", n, 0.9) for n in range(40)]
    for _ in range(2):
        detections, refused = reader.read(instances(*cans, ("mug", 0, 0.5)), 640, 480, 16)
        assert names(detections) == [("mug", 0)]
        assert refused == []
    assert statistics.left_out[UNUSABLE] == 80
    (line,) = log.lines
    assert "'can'" in line


def test_endless_classes_fill_neither_log_nor_line(read, log):
    for number in range(1000):
        read(instances((f"{number}" + 10_000 * "x", 0, 0.9)))
    assert len(log.lines) < 250
    assert max(len(line) for line in log.lines) < 400


def test_what_max_detections_cuts_is_counted_and_said_once(read, log, statistics):
    rows = [("mug", n, 0.1 * n) for n in range(5)]
    assert names(read(instances(*rows), most=2)) == [("mug", 4), ("mug", 3)]
    assert names(read(instances(*rows), most=2)) == [("mug", 2), ("mug", 1)], "those left out come first"
    assert statistics.left_out[OVER_LIMIT.format("max_detections")] == 6
    (line,) = log.lines
    assert "5 detections" in line
    assert "raise max_detections" in line


def test_the_best_hypothesis_of_a_known_class_is_used(read):
    (detection,) = read(vision(("", {"person": 0.9, "can": 0.3, "cup": 0.6, "dog": float("nan")})))
    assert (detection.class_id, detection.score) == ("mug", 0.6)
    np.testing.assert_array_equal(detection.box, [90, 45, 110, 55])


def test_a_turned_box_is_taken_about_its_corners(read):
    (detection,) = read(vision(("", {"mug": 0.9}), theta=np.pi / 2))
    np.testing.assert_allclose(detection.box, [95, 40, 105, 60])


def test_a_detection_without_hypotheses_is_counted(read, log, statistics):
    assert read(vision(("", {}))) == []
    assert statistics.left_out[NO_CLASS] == 1
    assert "no hypothesis" in log.lines[0]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (("17", "4"), [17, 4]),
        (("1", ""), [1, 0]),
        (("5", "5"), [0, 1]),
        (("-1", "0"), [1, 0]),
        (("", ""), [0, 1]),
        (("9" * 5000, "9" * 5000), [0, 1]),
        (("a1b2", "²"), [0, 1]),
        ((str(2**31 - 1), str(2**31)), [2**31 - 1, 0]),
    ],
)
def test_ids_of_any_kind_tell_two_objects_apart(read, words, numbers):
    """Their frames on /tf are <class>_<number>."""
    detections = read(vision(*((word, {"mug": 0.9 - 0.1 * n}) for n, word in enumerate(words))))
    assert [detection.instance for detection in detections] == numbers


def test_names_and_aliases_of_one_object_share_its_numbers(read, log):
    detections = read(instances(("mug", 0, 0.9), ("cup", 0, 0.8), ("3", 0, 0.7), ("can", 0, 0.6)))
    assert names(detections) == [("mug", 0), ("mug", 1), ("mug", 2), ("can", 0)]
    assert "gives one number to several objects of class 'mug'" in log.lines[0]


def test_numbers_follow_the_objects_when_scores_change_their_order(read):
    first = read(instances(("mug", 0, 0.9), ("mug", 0, 0.8)))
    second = read(instances(("mug", 0, 0.7), ("mug", 0, 0.8)))
    left = {detection.box[0]: detection.instance for detection in first}
    assert {detection.box[0]: detection.instance for detection in second} == left


def test_a_broken_mask_costs_its_detection_alone(library, statistics, log):
    message = instances(("mug", 0, 0.9), ("can", 0, 0.8))
    message.instances[0].mask.encoding = "rgb8"
    message.instances[0].mask.width, message.instances[0].mask.height = 3, 3
    message.instances[0].mask.data = bytes(27)
    detections, refused = DetectionReader(library, statistics, Notices(log)).read(message, 640, 480, 16)
    assert names(detections) == [("can", 0)]
    (sentence,) = refused
    assert sentence.startswith("mug: A mask has the encoding 'rgb8'")


def test_yolo_s_detections_are_known_by_name_or_number(read):
    detections = read(yolo(("cup", 41, "7", 0.8), ("bowl", 3, "", 0.6), ("person", 0, "1", 0.9)))
    assert names(detections)[0] == ("mug", 7)
    assert [detection.class_id for detection in detections] == ["mug", "mug"]
    np.testing.assert_allclose(detections[0].box, [90, 45, 110, 55])
    assert detections[0].mask is None


def test_yolo_s_outlines_are_masks(read):
    (detection,) = read(yolo(("cup", 41, "", 0.8), outline=[(95, 46), (104, 46), (104, 53), (95, 53)]))
    rows, columns = np.nonzero(detection.mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (46, 53, 95, 104)
    assert detection.mask.sum() == 8 * 10


@pytest.mark.parametrize(
    ("outline", "size", "sentence"),
    [
        ([(1, 1), (9, 1), (5, 9)], (320, 240), "is of a 320x240 image"),
        ([(1, 1), (9, 1), (5, float("nan"))], (640, 480), "not finite"),
    ],
)
def test_yolo_s_outlines_that_cannot_be_are_refused(library, log, statistics, outline, size, sentence):
    reader = DetectionReader(library, statistics, Notices(log))
    _, (refused,) = reader.read(yolo(("cup", 1, "", 0.8), outline=outline, mask_size=size), 640, 480, 16)
    assert sentence in refused
