"""Test the tracker's rules with an estimator whose answers the test sets."""

from dataclasses import replace

import numpy as np
import pytest

from vpog_core.geometry.projection import project
from vpog_core.geometry.se3 import rotation_z, transform, transform_points
from vpog_core.inference.tracking import SIMILARITY_DROP, Tracker, TrackerSettings
from vpog_core.inference.tracks import (
    Track,
    assign,
    box_of_pose,
    moved_with_box,
    moved_with_pose,
    velocity_after,
)
from vpog_core.types import Camera, Detection, VPOGError

from .scripted import BOX, CAMERA, IMAGE, MESH, POSE, Scripted, ask, ask_without, numbers_of


@pytest.fixture
def estimator() -> Scripted:
    return Scripted()


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
    """A slow detector's results may come after later images were processed: a small step back is allowed."""
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


def test_a_detector_that_calls_an_object_by_an_alias_sees_the_same_object(estimator):
    tracker = Tracker(estimator)
    ask(tracker, 0.0, Detection("beaker", BOX))
    (pose,) = ask(tracker, 0.1)
    assert pose.class_id == "mug"
    assert estimator.priors[0] is not None
    assert [d.class_id for d in estimator.asked] == ["mug"]


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


def test_one_object_an_image_is_searched_for_among_all_views(estimator):
    tracker = Tracker(estimator, TrackerSettings(retrieve_every=4))
    boxes = [Detection("mug", BOX, instance=1), Detection("mug", BOX + 200.0, instance=2)]
    searched = []
    for frame in range(10):
        searched.append([n for n, e in enumerate(ask(tracker, 0.1 * frame, *boxes)) if not e.tracked])
    assert searched == [[0, 1], [], [], [], [0], [1], [], [], [0], [1]]


@pytest.mark.parametrize(("angle", "turns_on"), [(0.3, True), (1.5, False)])
def test_a_pose_found_elsewhere_says_nothing_of_the_motion(estimator, angle, turns_on):
    tracker = Tracker(estimator, TrackerSettings(retrieve_every=1))
    for frame, turned in enumerate((0.0, angle, angle)):
        estimator.pose = POSE @ transform(rotation_z(turned), np.zeros(3))
        ask(tracker, 0.1 * frame)
    prior = estimator.priors[0]
    assert np.allclose(prior.T_turned, prior.T_cam_obj) is not turns_on


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


@pytest.mark.parametrize("score", [0.9, 0.1])
def test_a_detected_object_without_a_pose_is_searched_for_anew_and_stays_the_same_object(estimator, score):
    tracker = Tracker(estimator)
    estimator.score = score
    assert numbers_of(tracker, 0.0, Detection("mug", BOX, instance=3)) == [3]
    estimator.pose = None
    ask(tracker, 0.1, Detection("mug", BOX, instance=3))
    assert tracker.boxes == {}
    estimator.pose = POSE
    # The detector renumbers it meanwhile.
    (pose,) = ask(tracker, 0.2, Detection("mug", BOX, instance=8))
    assert (pose.instance, pose.tracked) == (3, False)
    (prior,) = estimator.priors
    assert (prior.search_all_views, prior.accept_score) == (True, 0.4)
    # Of equivalent poses the nearest to the last one is given.
    np.testing.assert_array_equal(prior.T_cam_obj, POSE)


@pytest.mark.parametrize(("time", "kept"), [(1.0, True), (1.01, False)])
def test_a_detected_object_without_a_pose_is_remembered_for_the_gap(estimator, time, kept):
    tracker = Tracker(estimator, TrackerSettings(max_gap=1.0))
    ask(tracker, 0.0)
    estimator.pose = None
    for earlier in (0.3, 0.6, 0.9):
        ask(tracker, earlier)
    ask(tracker, time)
    assert (estimator.priors[0] is not None) is kept


def test_an_object_without_a_pose_takes_no_turn_of_another(estimator, monkeypatch):
    """A lost object is searched for in each image; the turns are those of objects that have a pose."""
    tracker = Tracker(estimator, TrackerSettings(retrieve_every=4))
    seen, hidden = Detection("mug", BOX, instance=1), Detection("cup", BOX, instance=1)
    answer, searched = estimator._answer, []

    def answer_for_one(detection, prior):
        found = answer(detection, prior)
        return found if detection.class_id == "mug" else replace(found, T_cam_obj=None, tracked=False)

    for frame in range(10):
        if frame == 4:
            monkeypatch.setattr(estimator, "_answer", answer_for_one)
        _, pose = ask(tracker, 0.1 * frame, hidden, seen)
        searched += [] if pose.tracked else [frame]
    # In the fourth image it was the turn of the other one.
    assert searched == [0, 5, 9]


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
    """The detector never uses a number twice."""
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
    assert at_the_rim[2] == 639.5
    for T in ([5.0, 0.0, 0.6], [0.0, 0.0, -0.6], [0.0, np.nan, 0.6]):
        assert box_of_pose(transform(np.eye(3), T), CAMERA, MESH) is None


def test_a_box_that_moves_as_a_detector_errs_leaves_the_pose_where_it_is():
    track = Track(POSE, BOX, 0.0, 0.0)
    np.testing.assert_array_equal(moved_with_box(track, BOX + 5.0, CAMERA, MESH), POSE)


def test_what_a_distortion_would_fold_back_into_the_image_is_not_seen():
    camera = Camera(CAMERA.K, 640, 480, [-0.3, 0, 0, 0, 0])
    here, outside = POSE, transform(np.eye(3), [1.0, 0.0, 0.6])
    assert box_of_pose(outside, camera, MESH) is None
    np.testing.assert_array_equal(moved_with_pose(Track(here, BOX, 0.0, 0.0), outside, camera, MESH), BOX)
    left = Track(outside, BOX, 0.0, 0.0)
    np.testing.assert_array_equal(moved_with_pose(left, here, camera, MESH), BOX)
    np.testing.assert_array_equal(moved_with_box(left, BOX + 50.0, camera, MESH), outside)


def test_the_same_image_with_other_detections_leaves_the_velocity():
    track = Track(POSE, BOX, 1.0, 1.0, velocity=np.arange(6.0), step=0.1)
    velocity, step = velocity_after(track, POSE, 1.0, MESH)
    np.testing.assert_array_equal(velocity, np.arange(6.0))
    assert step == 0.1
