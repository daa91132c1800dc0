"""The tracker's rules, with an estimator that answers what it is told to."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from vpog_core.geometry.camera import project
from vpog_core.geometry.se3 import rotation_z, transform, transform_points
from vpog_core.inference.tracking import Track, Tracker, TrackerSettings, moved_with_box
from vpog_core.types import Camera, Detection, PoseEstimate, VPOGError

CAMERA = Camera(np.array([[600.0, 0, 320.0], [0, 600.0, 240.0], [0, 0, 1]]), 640, 480, [0.1, -0.1, 0, 0])
POSE = transform(rotation_z(0.3), [0.02, -0.01, 0.6])
BOX = np.array([300.0, 200.0, 380.0, 280.0])
IMAGE = np.zeros((480, 640, 3), np.uint8)


@dataclass
class Scripted:
    """Answers `POSE` with a score, tracked where the prior says that is enough; remembers the priors."""

    score: float = 0.9
    pose: np.ndarray | None = field(default_factory=lambda: POSE)
    priors: list = field(default_factory=list)

    @property
    def library(self):
        return SimpleNamespace(mesh=lambda class_id: SimpleNamespace(center=np.array([0.01, 0.0, 0.02])))

    def estimate(self, image, camera, detections, priors):
        self.priors = list(priors)
        enough = [
            p is not None and p.accept_score is not None and self.score >= p.accept_score for p in priors
        ]
        return [
            PoseEstimate(d.class_id, d.instance, self.pose, self.score, tracked=e)
            for d, e in zip(detections, enough, strict=True)
        ]


@pytest.fixture
def estimator() -> Scripted:
    return Scripted()


def ask(tracker, time, *detections):
    return tracker.estimate(IMAGE, CAMERA, detections or [Detection("mug", BOX)], time)


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
    others = [Detection("mug", BOX, instance=2), Detection("cup", BOX, instance=1)]
    ask(tracker, 0.1, *others, Detection("mug", BOX, instance=1))
    assert [p is None for p in estimator.priors] == [True, True, False]


@pytest.mark.parametrize(("time", "kept"), [(1.0, True), (1.01, False), (-0.1, False)])
def test_a_gap_or_a_step_back_in_time_starts_anew(estimator, time, kept):
    tracker = Tracker(estimator, TrackerSettings(max_gap=1.0))
    ask(tracker, 0.0)
    tracker.estimate(IMAGE, CAMERA, [], time / 2)
    ask(tracker, time)
    assert (estimator.priors[0] is not None) is kept


def test_what_the_last_answer_held_is_remembered_however_slow_answers_come(estimator):
    tracker = Tracker(estimator, TrackerSettings(max_gap=1.0))
    for time in (0.0, 7.0, 14.0):
        ask(tracker, time)
    assert estimator.priors[0] is not None
    tracker.estimate(IMAGE, CAMERA, [], 21.0)
    ask(tracker, 28.0)
    assert estimator.priors == [None]


def test_a_box_somewhere_else_starts_anew(estimator):
    tracker = Tracker(estimator)
    ask(tracker, 0.0)
    ask(tracker, 0.1, Detection("mug", BOX + 81.0))
    assert estimator.priors == [None]


@pytest.mark.parametrize("box", [np.full(4, np.nan), np.array([5.0, 5.0, 5.0, 5.0])])
def test_a_broken_box_is_left_to_the_estimator(estimator, box):
    tracker = Tracker(estimator)
    ask(tracker, 0.0)
    ask(tracker, 0.1, Detection("mug", box))
    assert estimator.priors == [None]


def test_a_weak_track_says_only_which_equivalent_pose_to_give(estimator):
    tracker = Tracker(estimator)
    estimator.score = 0.3
    ask(tracker, 0.0)
    ask(tracker, 0.1)
    assert estimator.priors[0] is not None
    assert estimator.priors[0].accept_score is None


def test_all_views_are_looked_at_every_n_frames(estimator):
    tracker = Tracker(estimator, TrackerSettings(retrieve_every=4))
    looked = []
    for frame in range(10):
        looked.append(not ask(tracker, 0.1 * frame)[0].tracked)
    assert looked == [True, False, False, False] * 2 + [True, False]
    never = Tracker(estimator, TrackerSettings(retrieve_every=0))
    assert sum(not ask(never, 0.1 * frame)[0].tracked for frame in range(50)) == 1


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


def test_what_is_gone_takes_no_memory(estimator):
    """Detectors that never use a number twice."""
    tracker = Tracker(estimator)
    for frame in range(100):
        ask(tracker, 0.1 * frame, Detection("mug", BOX, instance=frame))
    assert len(tracker._tracks) <= 12


def test_the_pose_moves_as_its_box_did():
    mesh = SimpleNamespace(center=np.array([0.01, 0.0, 0.02]))
    track = Track(POSE, BOX, 0.9, 0.0)
    shift = np.array([40.0, -25.0])
    moved = moved_with_box(track, BOX + np.tile(shift, 2), CAMERA, mesh)
    before, after = (project(CAMERA, transform_points(T, mesh.center)[None])[0] for T in (POSE, moved))
    np.testing.assert_allclose(after - before, shift, atol=1e-3)
    np.testing.assert_array_equal(moved[:3, :3], POSE[:3, :3])
    assert transform_points(moved, mesh.center)[2] == pytest.approx(transform_points(POSE, mesh.center)[2])


@pytest.mark.parametrize("change", [{"min_score": 1.5}, {"retrieve_every": -1}, {"max_gap": 0.0}])
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(VPOGError, match=next(iter(change))):
        TrackerSettings(**change)
