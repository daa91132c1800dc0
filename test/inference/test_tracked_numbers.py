"""Test that objects keep their numbers from image to image, whatever numbers their detector sends."""

import numpy as np
import pytest

from vpog_core.geometry.se3 import transform
from vpog_core.inference.tracking import Tracker, TrackerSettings
from vpog_core.inference.tracks import box_of_pose
from vpog_core.types import Detection, PoseEstimate

from .scripted import BOX, CAMERA, MESH, POSE, Scripted, ask, ask_without, numbers_of


@pytest.fixture
def estimator() -> Scripted:
    return Scripted()


def test_an_object_that_its_detector_numbers_anew_keeps_its_number(estimator):
    tracker = Tracker(estimator)
    ask(tracker, 0.0, Detection("mug", BOX, instance=0), Detection("mug", BOX + 200.0, instance=1))
    swapped = Detection("mug", BOX + 202.0, instance=0), Detection("mug", BOX + 2.0, instance=1)
    assert numbers_of(tracker, 0.1, *swapped) == [1, 0]
    assert [p is not None for p in estimator.priors] == [True, True]
    assert numbers_of(tracker, 0.2, Detection("mug", BOX + 3.0, instance=7)) == [0]
    # A detector that has called two objects by one number does not tell them apart.
    assert numbers_of(tracker, 0.3, Detection("mug", BOX + 4.0, instance=1)) == [0]


@pytest.mark.parametrize("given", [0, -1, 5])
def test_objects_of_one_number_are_told_apart(estimator, given):
    """Each number is what some detectors without numbers send, or what `Detection` has by default."""
    tracker = Tracker(estimator, TrackerSettings(without_detections=False))
    mugs = [Detection("mug", BOX + shift, instance=given) for shift in (0.0, 200.0)]
    assert numbers_of(tracker, 0.0, *mugs) == [0, 1]
    assert numbers_of(tracker, 0.1, *mugs[::-1]) == [1, 0]
    assert numbers_of(tracker, 0.2, mugs[1]) == [1]
    assert numbers_of(tracker, 0.3, *mugs) == [0, 1]


def test_a_detector_s_own_numbers_are_kept(estimator):
    tracker = Tracker(estimator)
    mugs = [Detection("mug", BOX, instance=17), Detection("mug", BOX + 200.0, instance=4)]
    assert numbers_of(tracker, 0.0, *mugs) == [17, 4]
    # It says where the object has gone, however far.
    assert numbers_of(tracker, 0.1, Detection("mug", BOX - 190.0, instance=17), mugs[1]) == [17, 4]


def test_a_number_is_given_to_another_object_late(estimator):
    tracker = Tracker(estimator)
    left, right = (Detection("mug", BOX + shift, instance=-1) for shift in (-200.0, 200.0))
    assert numbers_of(tracker, 0.0, left, right) == [0, 1]
    estimator.pose = None  # Both are lost.
    ask_without(tracker, 0.1)
    for frame in range(20):
        ask_without(tracker, 0.2 + 0.1 * frame)
    estimator.pose = POSE
    new = Detection("mug", BOX + np.array([0.0, 190.0, 0.0, 190.0]), instance=-1)
    assert numbers_of(tracker, 3.0, new) == [2]
    # The one that was hidden comes back where it was.
    assert numbers_of(tracker, 3.1, new, right) == [2, 1]


def test_what_is_followed_gives_its_number_to_no_new_object(estimator):
    """The first mug is hidden from the detector when the second one is put down."""
    tracker = Tracker(estimator)
    ask(tracker, 0.0, Detection("mug", BOX, instance=-1))
    assert numbers_of(tracker, 0.1, Detection("mug", BOX + 150.0, instance=-1)) == [1]


def test_an_object_that_jumps_keeps_its_number(estimator, monkeypatch):
    tracker = Tracker(estimator)
    ask(tracker, 0.0, Detection("mug", BOX, instance=-1))
    answer = estimator._answer

    def lost_where_it_was(detection, prior):
        found = answer(detection, prior)
        return found if prior is None else PoseEstimate("mug", detection.instance, reason="lost")

    monkeypatch.setattr(estimator, "_answer", lost_where_it_was)
    for time, shift in ((0.1, 150.0), (0.2, -20.0)):
        found = ask(tracker, time, Detection("mug", BOX + shift, instance=-1))
        assert [(e.instance, e.detected) for e in found] == [(0, True)]


def crossing(step: float):
    """Yield two mugs at different distances that pass each other: poses and boxes, frame by frame."""
    for frame in range(11):
        x = -0.1 + step * frame
        poses = [transform(np.eye(3), [x, 0.0, 0.6]), transform(np.eye(3), [-x, 0.0, 0.61])]
        yield frame, poses, [box_of_pose(T, CAMERA, MESH) for T in poses]


@pytest.mark.parametrize("given", [[-1, -1], [3, 3]])
@pytest.mark.parametrize("step", [0.01, 0.016, 0.02])
def test_objects_that_cross_keep_their_numbers(estimator, monkeypatch, given, step):
    tracker = Tracker(estimator)
    for frame, poses, boxes in crossing(step):
        rows = [0, 1] if frame % 2 else [1, 0]  # In no order.
        of_box = {tuple(boxes[row]): poses[row] for row in rows}
        monkeypatch.setattr(
            estimator,
            "_answer",
            lambda d, prior, of_box=of_box: PoseEstimate("mug", d.instance, of_box[tuple(d.box)], 0.9),
        )
        detections = [Detection("mug", boxes[row], instance=given[row]) for row in rows]
        found = numbers_of(tracker, 0.1 * frame, *detections)
        assert found == ([1, 0] if rows == [0, 1] else [0, 1]), f"frame {frame}"


def test_two_tracks_that_come_to_one_place_are_one_object(estimator):
    """Every result is `POSE`: the object that is not detected is where the other one is."""
    tracker = Tracker(estimator)
    ask(tracker, 0.0, Detection("mug", BOX, instance=0), Detection("mug", BOX + 200.0, instance=1))
    found = ask(tracker, 0.1, Detection("mug", BOX, instance=0))
    assert len(estimator.asked) == 2
    assert [(e.instance, e.detected) for e in found] == [(0, True)]
    ask(tracker, 0.2, Detection("mug", BOX, instance=0))
    assert len(estimator.asked) == 1
