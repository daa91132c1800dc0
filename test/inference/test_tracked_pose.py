"""Test following by the shipped networks: unseen objects that move, are hidden, and are lost."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

import vpog_core.inference.tracked_pose as tracked_pose
from vpog_core.evaluation.pose_error import add
from vpog_core.geometry.projection import project
from vpog_core.geometry.se3 import rotation_from_vector, rotation_x, transform, transform_points
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.inference.calibration import DEFAULT_CALIBRATION, DEFAULT_FLOW, Calibration
from vpog_core.inference.crop import crop_detection
from vpog_core.inference.networks import DEFAULT_REFINER
from vpog_core.inference.observation import Observation
from vpog_core.inference.options import DEFAULT_TRACKER_SETTINGS
from vpog_core.inference.query import Prior, Query
from vpog_core.models.checkpoint import load_refiner
from vpog_core.objects.recent_renders import RecentRenders
from vpog_core.objects.renderer import Light, Renderer
from vpog_core.synthetic.objects import make_object
from vpog_core.types import Camera, Detection

CAMERA = Camera(np.array([[600.0, 0, 320.0], [0, 600.0, 240.0], [0, 0, 1]]), 640, 480)
LIGHT = Light(direction=(0.6, -0.5, -0.5), ambient=0.35, diffuse=0.6)
DETECTION = Detection("thing", np.array([200.0, 120.0, 440.0, 360.0]))
SEEDS = (900_001, 900_003, 900_009)
UNSURE_OF_FLOW = Calibration(flow=replace(DEFAULT_FLOW, bias=-30.0))
"""No pose found by flow alone is taken: the refiner corrects all."""


@pytest.fixture(scope="module")
def refiner():
    return load_refiner(DEFAULT_REFINER)


@pytest.fixture(scope="module")
def renderers() -> list[Renderer]:
    return [Renderer(make_object(seed, vertices=6000)) for seed in SEEDS]


def pose_at(renderer: Renderer, turn: float, x: float = 0.0) -> np.ndarray:
    """Return a pose [4, 4]: the object turned by some radians, its middle x diameters beside the axis."""
    mesh = renderer.mesh
    R = rotation_from_vector(turn * np.array([0.3, 0.9, 0.2])) @ rotation_x(2.2)
    return transform(R, np.array([x, 0.0, 4.0]) * mesh.diameter - R @ mesh.center)


def image_of(renderer: Renderer, T_cam_obj: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    wall = np.kron(rng.integers(60, 160, (24, 32, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    shown = renderer.render(T_cam_obj, CAMERA.K, (480, 640), LIGHT)
    return np.where(shown.mask[..., None], shown.rgb, wall)


def follow(
    refiner,
    renderer: Renderer,
    image: np.ndarray,
    T_before: np.ndarray,
    T_turned=None,
    calibration: Calibration = DEFAULT_CALIBRATION,
):
    """Return the hypothesis that the last pose [4, 4], or that turned on, leads to in an image, or None."""
    query = Query(
        DETECTION, crop_detection(image, CAMERA, DETECTION, 112), Observation(image, CAMERA), None,
        Symmetry.none(), Prior(T_before, 0.4, T_turned=T_turned),
    )  # fmt: skip
    recent = RecentRenders(renderer)
    return tracked_pose.follow(refiner, [query], lambda _: recent, calibration)[0]


def error(T: np.ndarray, T_true: np.ndarray, renderer: Renderer) -> float:
    """Return ADD in diameters."""
    return add(T, T_true, renderer.mesh.hull_points) / renderer.mesh.diameter


def errors_along(refiner, renderer: Renderer, frames: int, calibration: Calibration) -> Iterator[float]:
    """Yield the errors while the object moves and turns by 3 degrees an image, followed from the truth."""
    T = pose_at(renderer, 0.0)
    for n in range(1, frames + 1):
        T_true = pose_at(renderer, 0.05 * n, 0.3 * np.sin(0.2 * n))
        found = follow(refiner, renderer, image_of(renderer, T_true), T, calibration=calibration)
        T = found.T_cam_obj
        yield error(T, T_true, renderer)


@pytest.mark.parametrize("calibration", [DEFAULT_CALIBRATION, UNSURE_OF_FLOW], ids=["flow", "refiner"])
def test_errors_do_not_add_up(refiner, renderers, calibration):
    """The object turns by 45 degrees in all: a tenth lost in each image would be seen."""
    for renderer in renderers[:2]:
        errors = list(errors_along(refiner, renderer, 15, calibration))
        assert np.median(errors[8:]) < 0.05, errors
        assert max(errors) < 0.1, errors


def test_an_object_that_turns_fast_is_found_where_it_turns_to(refiner, renderers):
    """A turn of 80 degrees an image, more than the refiner corrects, is found; a wrong guess does no harm."""
    for renderer in renderers[:2]:
        T_true, before = pose_at(renderer, 1.4), pose_at(renderer, 0.0)
        image, expected = image_of(renderer, T_true), pose_at(renderer, 1.3)
        found = follow(refiner, renderer, image, before, expected)
        assert error(found.T_cam_obj, T_true, renderer) < 0.05
        still = follow(refiner, renderer, image_of(renderer, before), before, expected)
        assert error(still.T_cam_obj, before, renderer) < 0.05


def test_right_poses_score_more_than_wrong_ones_and_hidden_objects_are_lost(refiner, renderers):
    for renderer in renderers:
        T_true = pose_at(renderer, 0.0)
        image, near = image_of(renderer, T_true), pose_at(renderer, 0.05, 0.05)
        right = follow(refiner, renderer, image, near)
        assert right.score > 0.7
        assert error(right.T_cam_obj, T_true, renderer) < error(near, T_true, renderer)
        turned = T_true.copy()
        turned[:3, :3] = T_true[:3, :3] @ rotation_from_vector(np.array([0.0, 2.0, 0.0]))
        wall = image_of(renderer, pose_at(renderer, 0.0, x=9.0))
        for lost in (follow(refiner, renderer, image, turned), follow(refiner, renderer, wall, T_true)):
            assert lost is None or lost.score < DEFAULT_TRACKER_SETTINGS.min_score


def test_what_is_out_of_the_image_is_lost(refiner, renderers):
    renderer = renderers[0]
    image = image_of(renderer, pose_at(renderer, 0.0))
    for x in (9.0, np.nan):
        assert follow(refiner, renderer, image, pose_at(renderer, 0.0, x)) is None


def test_the_refiner_is_not_asked_where_the_flow_is_sure(refiner, renderers, monkeypatch):
    """A printed object that hardly moved is followed by flow; one turned far is not."""
    asked = []
    real = tracked_pose.refine
    monkeypatch.setattr(tracked_pose, "refine", lambda *a: asked.extend(a[1]) or real(*a))
    renderer = renderers[1]
    image, T_true = image_of(renderer, pose_at(renderer, 0.0)), pose_at(renderer, 0.0)
    found = follow(refiner, renderer, image, pose_at(renderer, 0.03, 0.02))
    assert not asked
    assert found.score > tracked_pose.SURE
    assert error(found.T_cam_obj, T_true, renderer) < 0.02
    follow(refiner, renderer, image, pose_at(renderer, 1.0))
    assert asked


def test_a_second_round_is_run_only_where_the_first_moved_the_pose_far(refiner, renderers, monkeypatch):
    rounds = []
    real = tracked_pose.refine
    monkeypatch.setattr(tracked_pose, "refine", lambda *a: rounds.append(len(a[1])) or real(*a))
    renderer = renderers[0]
    image = image_of(renderer, pose_at(renderer, 0.0))
    for turn, x, expected in ((0.02, 0.0, [1]), (0.3, 0.3, [1, 1])):
        rounds.clear()
        follow(refiner, renderer, image, pose_at(renderer, turn, x), calibration=UNSURE_OF_FLOW)
        assert [n for n in rounds if n] == expected


def test_renders_of_the_refiner_are_not_kept(refiner, renderers, monkeypatch):
    """Renders for the refiner are of no use for the next image, and would push out those that are."""
    sizes, real = [], RecentRenders.render
    monkeypatch.setattr(
        RecentRenders, "render", lambda self, *view: sizes.append(view[2]) or real(self, *view)
    )
    renderer = renderers[0]
    image = image_of(renderer, pose_at(renderer, 0.0))
    found = follow(refiner, renderer, image, pose_at(renderer, 0.02), calibration=UNSURE_OF_FLOW)
    assert found is not None
    side = refiner.config.image_size
    assert sizes
    assert (side, side) not in sizes


def test_the_covariance_is_of_the_size_of_the_error(refiner, renderers):
    """The error is counted in standard deviations; bounds are wide, as one image tells little."""
    renderer = renderers[0]
    T_true = pose_at(renderer, 0.0)
    found = follow(refiner, renderer, image_of(renderer, T_true), pose_at(renderer, 0.03))
    sigma = np.sqrt(np.diag(found.covariance)[:3])
    assert (sigma > 0).all()
    assert (sigma < 0.1 * renderer.mesh.diameter).all()
    middles = [transform_points(T, renderer.mesh.center)[None] for T in (found.T_cam_obj, T_true)]
    # A pixel is 1/150 of the object here.
    assert np.linalg.norm(project(CAMERA, middles[0]) - project(CAMERA, middles[1])) < 3.0
