"""The tracker's rules, with an estimator that answers what it is told to."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from vpog_core.geometry.camera import project
from vpog_core.geometry.se3 import rotation_z, transform, transform_points
from vpog_core.inference.tracking import SIMILARITY_DROP, Tracker, TrackerSettings
from vpog_core.inference.tracks import Track, assign, box_of_pose, moved_with_box
from vpog_core.types import Camera, Detection, Estimates, PoseEstimate, VPOGError

CAMERA = Camera(np.array([[600.0, 0, 320.0], [0, 600.0, 240.0], [0, 0, 1]]), 640, 480, [0.1, -0.1, 0, 0])
POSE = transform(rotation_z(0.3), [0.02, -0.01, 0.6])
BOX = np.array([300.0, 200.0, 380.0, 280.0])
IMAGE = np.zeros((480, 640, 3), np.uint8)
MESH = SimpleNamespace(
    center=np.array([0.01, 0.0, 0.02]),
    hull_points=np.array([0.01, 0.0, 0.02])
    + 0.04 * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]),
    diameter=0.08 * 3**0.5,
)


@dataclass
class Scripted:
    """Answers `POSE` with a score, tracked where the prior says that is enough; remembers the questions."""

    score: float = 0.9
    pose: np.ndarray | None = field(default_factory=lambda: POSE)
    can_track: bool = True
    similarity: float = 0.8
    asked: list = field(default_factory=list)
    priors: list = field(default_factory=list)

    @property
    def library(self):
        return SimpleNamespace(mesh=lambda class_id: MESH)

    def estimate(self, image, camera, detections, priors, constraints=None):
        self.asked, self.priors = list(detections), list(priors)
        return Estimates([self._answer(d, p) for d, p in zip(detections, priors, strict=True)])

    def _answer(self, detection, prior) -> PoseEstimate:
        tried = prior is not None and prior.accept_score is not None and not prior.look_anew
        enough = tried and self.score >= prior.accept_score
        return PoseEstimate(
            detection.class_id, detection.instance, self.pose, self.score,
            similarity=self.similarity, tracked=enough,
        )  # fmt: skip


@pytest.fixture
def estimator() -> Scripted:
    return Scripted()


def ask(tracker, time, *detections):
    return tracker.estimate(IMAGE, CAMERA, detections or [Detection("mug", BOX)], time)


def ask_without(tracker, time):
    """An image in which nothing is detected."""
    return tracker.estimate(IMAGE, CAMERA, [], time)


def test_the_first_frame_knows_nothing_the_second_does(estimator):
    tracker = Tracker(estimator)
    ask(tracker, 0.0)
    assert estimator.priors == [None]
    ask(tracker, 0.1)
    np.testing.assert_allclose(estimator.priors[0].T_cam_obj, POSE, atol=1e-9)
    assert estimator.priors[0].accept_score == 0.4


def test_instances_and_classes_have_tracks_of_their_own(estimator):
    tracker = Tracker(estimator)
    ask(tracker, 0.0, Detection("mug", BOX, instance=1))
    others = [Detection("mug", BOX + 200.0, instance=2), Detection("cup", BOX, instance=1)]
    ask(tracker, 0.1, *others, Detection("mug", BOX, instance=1))
    assert [p is None for p in estimator.priors] == [True, True, False]


@pytest.mark.parametrize(("time", "kept"), [(1.0, True), (1.01, False), (-1.0, True), (-1.01, False)])
def test_a_gap_or_a_step_back_in_time_starts_anew(estimator, time, kept):
    """Detections of a slow detector may come after later images were answered without: a small step back."""
    tracker = Tracker(estimator, TrackerSettings(max_gap=1.0, without_detections=False))
    ask(tracker, 0.0)
    tracker.estimate(IMAGE, CAMERA, [], time / 2)
    ask(tracker, time)
    assert (estimator.priors[0] is not None) is kept


def test_what_the_last_answer_held_is_remembered_however_slow_answers_come(estimator):
    tracker = Tracker(estimator, TrackerSettings(max_gap=1.0))
    for time in (0.0, 7.0, 14.0):
        ask(tracker, time)
    assert estimator.priors[0] is not None
    ask_without(tracker, 21.0)
    ask(tracker, 28.0)
    assert estimator.priors == [None]


def test_a_box_somewhere_else_starts_anew(estimator):
    tracker = Tracker(estimator)
    ask(tracker, 0.0)
    (pose,) = ask(tracker, 0.1, Detection("mug", BOX + 81.0))
    assert estimator.priors == [None]
    assert pose.detected


@pytest.mark.parametrize("box", [np.full(4, np.nan), np.array([5.0, 5.0, 5.0, 5.0])])
def test_a_broken_box_is_left_to_the_estimator(estimator, box):
    tracker = Tracker(estimator)
    ask(tracker, 0.0)
    ask(tracker, 0.1, Detection("mug", box))
    assert estimator.priors[0] is None


def test_all_views_are_looked_at_every_n_frames(estimator):
    tracker = Tracker(estimator, TrackerSettings(retrieve_every=4))
    looked = []
    for frame in range(10):
        looked.append(not ask(tracker, 0.1 * frame)[0].tracked)
    assert looked == [True, False, False, False] * 2 + [True, False]
    never = Tracker(estimator, TrackerSettings(retrieve_every=0))
    assert sum(not ask(never, 0.1 * frame)[0].tracked for frame in range(50)) == 1


def test_the_similarity_that_is_accepted_follows_the_best_since_all_views_were_looked_at(estimator):
    tracker = Tracker(estimator, TrackerSettings(retrieve_every=4))
    accepted = []
    for frame, similarity in enumerate((0.6, 0.9, 0.8, 0.7, 0.5, 0.5)):
        estimator.similarity = similarity
        ask(tracker, 0.1 * frame)
        accepted += [p.accept_similarity + SIMILARITY_DROP for p in estimator.priors if p is not None]
    # The fifth answer is of all views again: what the image was like before it counts no longer.
    np.testing.assert_allclose(accepted, [0.6, 0.9, 0.9, 0.9, 0.5])


def test_an_object_that_turns_is_expected_to_turn_on(estimator):
    tracker = Tracker(estimator)
    for frame, angle in enumerate((0.0, 0.3, 0.6)):
        estimator.pose = POSE @ transform(rotation_z(angle), np.zeros(3))
        ask(tracker, 0.1 * frame)
        prior = estimator.priors[0]
    turned = prior.T_cam_obj[:3, :3].T @ prior.T_turned[:3, :3]
    np.testing.assert_allclose(turned, rotation_z(0.3), atol=1e-9)
    np.testing.assert_allclose(*(transform_points(T, MESH.center) for T in (prior.T_turned, prior.T_cam_obj)))


def test_no_pose_ends_a_track(estimator):
    tracker = Tracker(estimator)
    ask(tracker, 0.0)
    estimator.pose = None
    ask(tracker, 0.1)
    estimator.pose = POSE
    ask(tracker, 0.2)
    assert estimator.priors == [None]


def test_reset_forgets(estimator):
    tracker = Tracker(estimator)
    ask(tracker, 0.0)
    tracker.reset()
    ask(tracker, 0.1)
    assert estimator.priors == [None]


def test_reset_forgets_the_numbers_of_objects(estimator):
    tracker = Tracker(estimator)
    ask(tracker, 0.0, Detection("mug", BOX, instance=-1), Detection("mug", BOX + 200.0, instance=-1))
    tracker.reset()
    assert numbers_of(tracker, 0.1, Detection("mug", BOX + 200.0, instance=-1)) == [0]


def test_objects_that_have_changed_are_met_for_the_first_time(estimator):
    tracker = Tracker(estimator)
    ask(tracker, 0.0, Detection("thing", BOX), Detection("other", BOX))
    tracker.forget({"other"})
    assert {key[0] for key in tracker.boxes} == {"thing"}


def test_what_is_gone_takes_no_memory(estimator):
    """Detectors that never use a number twice."""
    tracker = Tracker(estimator)
    for frame in range(100):
        ask(tracker, 0.1 * frame, Detection("mug", BOX, instance=frame))
    assert len(tracker._tracks) == 1


def test_the_pose_moves_as_its_box_did():
    mesh = MESH
    track = Track(POSE, BOX, 0.0, 0.0)
    shift = np.array([40.0, -25.0])
    moved = moved_with_box(track, BOX + np.tile(shift, 2), CAMERA, mesh)
    before, after = (project(CAMERA, transform_points(T, mesh.center)[None])[0] for T in (POSE, moved))
    np.testing.assert_allclose(after - before, shift, atol=1e-3)
    np.testing.assert_array_equal(moved[:3, :3], POSE[:3, :3])
    assert transform_points(moved, mesh.center)[2] == pytest.approx(transform_points(POSE, mesh.center)[2])


@pytest.mark.parametrize(
    "change", [{"min_score": 1.5}, {"retrieve_every": -1}, {"max_gap": 0.0}, {"max_age": np.nan}]
)
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(VPOGError, match=next(iter(change))):
        TrackerSettings(**change)


def test_an_object_is_followed_where_no_detection_shows_it(estimator):
    tracker = Tracker(estimator, TrackerSettings(max_age=1.0))
    (first,) = ask(tracker, 0.0)
    assert (first.detected, first.detection_age) == (True, 0.0)
    (pose,) = ask_without(tracker, 0.25)
    assert (pose.class_id, pose.instance, pose.tracked, pose.detected) == ("mug", 0, True, False)
    assert pose.detection_age == pytest.approx(0.25)
    (prior,) = estimator.priors
    assert not prior.detected
    # What is asked for is a box around the object where it was.
    middle = project(CAMERA, transform_points(POSE, MESH.center)[None])[0]
    assert (estimator.asked[0].box[:2] < middle).all()
    assert (middle < estimator.asked[0].box[2:]).all()


@pytest.mark.parametrize(("time", "answers"), [(1.0, 1), (1.01, 0)])
def test_it_is_followed_for_so_long_and_no_longer(estimator, time, answers):
    tracker = Tracker(estimator, TrackerSettings(max_age=1.0))
    ask(tracker, 0.0)
    for n in range(1, 4):
        assert len(ask_without(tracker, 0.2 * n)) == 1
    assert len(ask_without(tracker, time)) == answers
    assert len(tracker.boxes) == answers


def test_it_is_not_followed_where_that_is_off_or_there_is_no_refiner(estimator, caplog):
    for settings, can_track in (
        (TrackerSettings(without_detections=False), True),
        (TrackerSettings(), False),
    ):
        estimator.can_track = can_track
        tracker = Tracker(estimator, settings)
        ask(tracker, 0.0)
        assert ask_without(tracker, 0.1) == []
        ask(tracker, 0.2)
        # The last pose tells which of several equivalent poses to give, at least.
        assert estimator.priors[0].accept_score == (0.4 if can_track else None)
    assert caplog.text.count("tracking needs the refiner") == 1


def test_what_is_lost_has_no_answer_until_it_is_detected_again(estimator):
    tracker = Tracker(estimator)
    ask(tracker, 0.0)
    estimator.pose = None
    assert ask_without(tracker, 0.1) == []
    estimator.pose = POSE
    assert ask_without(tracker, 0.2) == []
    assert estimator.asked == []
    (pose,) = ask(tracker, 0.3)
    # Where it was is looked at first.
    assert estimator.priors[0] is not None
    assert pose.detected


def test_what_has_left_the_image_is_not_asked_for(estimator):
    tracker = Tracker(estimator)
    estimator.pose = transform(np.eye(3), [5.0, 0.0, 0.6])
    ask(tracker, 0.0)
    assert ask_without(tracker, 0.1) == []
    assert estimator.asked == []


def numbers_of(tracker, time, *detections) -> list[int]:
    return [e.instance for e in ask(tracker, time, *detections) if e.detected]


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
    """Two mugs at different distances that pass each other in the image: poses and boxes, frame by frame."""
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
    """Every answer is `POSE`: the object that is not detected is where the other one is."""
    tracker = Tracker(estimator)
    ask(tracker, 0.0, Detection("mug", BOX, instance=0), Detection("mug", BOX + 200.0, instance=1))
    found = ask(tracker, 0.1, Detection("mug", BOX, instance=0))
    assert len(estimator.asked) == 2
    assert [(e.instance, e.detected) for e in found] == [(0, True)]
    ask(tracker, 0.2, Detection("mug", BOX, instance=0))
    assert len(estimator.asked) == 1


def test_the_number_decides_between_boxes_that_overlap_alike():
    tracks = {("mug", n): Track(POSE, BOX, 0.0, 0.0, detector_number=n) for n in (0, 1)}
    detections = [Detection("mug", BOX)] * 3
    assert assign(detections, [1, 0, 2], tracks, dict.fromkeys(tracks, BOX)) == [
        ("mug", 1),
        ("mug", 0),
        None,
    ]


def test_the_box_of_a_pose_lies_in_the_image():
    inside = box_of_pose(POSE, CAMERA, MESH)
    pixels = project(CAMERA, transform_points(POSE, MESH.hull_points))
    np.testing.assert_allclose(inside, [*pixels.min(axis=0), *pixels.max(axis=0)])
    at_the_rim = box_of_pose(transform(np.eye(3), [0.32, 0.0, 0.6]), CAMERA, MESH)
    assert at_the_rim[2] == 639.0
    for T in ([5.0, 0.0, 0.6], [0.0, 0.0, -0.6], [0.0, np.nan, 0.6]):
        assert box_of_pose(transform(np.eye(3), T), CAMERA, MESH) is None


def test_a_box_that_moves_as_a_detector_errs_leaves_the_pose_where_it_is():
    track = Track(POSE, BOX, 0.0, 0.0)
    np.testing.assert_array_equal(moved_with_box(track, BOX + 5.0, CAMERA, MESH), POSE)
