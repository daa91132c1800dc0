"""Test refinement by the shipped network: poses of unseen objects improve, others stay and have a reason."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from vpog_core.evaluation.pose_error import add
from vpog_core.geometry.projection import pixel_rays, project
from vpog_core.geometry.se3 import (
    random_rotation,
    rotation_angle,
    rotation_from_vector,
    transform,
    transform_points,
)
from vpog_core.inference.alignment import align
from vpog_core.inference.networks import DEFAULT_REFINER
from vpog_core.inference.observation import Observation
from vpog_core.inference.render_and_compare import Pair, PoseToRefine, make_pair, refine
from vpog_core.models.checkpoint import load_refiner
from vpog_core.objects.renderer import Light, Renderer
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.plain import painted_plain
from vpog_core.types import Camera

CAMERA = Camera(np.array([[600.0, 0, 322.0], [0, 605.0, 236.0], [0, 0, 1]]), 640, 480)
LIGHT = Light(direction=(0.6, -0.5, -0.5), ambient=0.35, diffuse=0.6)
SEEDS = (900_001, 900_003, 900_005, 900_008)


@pytest.fixture(scope="module")
def refiner():
    return load_refiner(DEFAULT_REFINER)


def shown(seed: int, plain: bool) -> tuple[PoseToRefine, np.ndarray]:
    """Return an object before a wall, at a pose 10 degrees and 4 % off, and the true pose [4, 4]."""
    rng = np.random.default_rng(seed)
    mesh = make_object(seed, vertices=6000)
    renderer = Renderer(painted_plain(mesh, "thing") if plain else mesh)
    R = random_rotation(rng)
    middle = np.array([0.02, -0.03, 4.5 * mesh.diameter])
    T_true = transform(R, middle - R @ mesh.center)
    image = renderer.render(T_true, CAMERA.K, (480, 640), LIGHT, background=(95, 120, 100), supersample=2).rgb
    axis = rng.normal(size=3)
    R_off = rotation_from_vector(np.radians(10) * axis / np.linalg.norm(axis)) @ R
    beside = 1.04 * middle + 0.03 * mesh.diameter * np.array([1, -1, 0])
    T_off = transform(R_off, beside - R_off @ mesh.center)
    return PoseToRefine(renderer, Observation(image, CAMERA), T_off), T_true


def error(T: np.ndarray, pose: PoseToRefine, T_true: np.ndarray) -> float:
    """Return ADD of a pose [4, 4], in diameters."""
    mesh = pose.renderer.mesh
    return add(T, T_true, mesh.hull_points) / mesh.diameter


@pytest.fixture(scope="module")
def textured():
    return [shown(seed, plain=False) for seed in SEEDS]


@pytest.mark.parametrize("plain", [False, True])
def test_poses_of_unseen_objects_get_better(refiner, plain):
    """Two rounds take half of the error away, at least, in the median of four objects."""
    pairs = [shown(seed, plain) for seed in SEEDS]
    refined = refine(refiner, [pose for pose, _ in pairs], rounds=2)
    before = [error(pose.T_cam_obj, pose, T_true) for pose, T_true in pairs]
    after = [error(found.T_cam_obj, *pair) for found, pair in zip(refined, pairs, strict=True)]
    assert np.median(after) < 0.5 * np.median(before)


def test_all_poses_go_through_together_as_they_do_alone(refiner, textured):
    poses = [pose for pose, _ in textured]
    together = refine(refiner, poses, rounds=1)
    for pose, found in zip(poses, together, strict=True):
        (alone,) = refine(refiner, [pose], rounds=1)
        # Sums in float32 differ with the size of the batch.
        np.testing.assert_allclose(found.T_cam_obj, alone.T_cam_obj, atol=1e-4)


def test_what_agrees_lies_where_the_image_shows_it(refiner, textured):
    pose, T_true = textured[0]
    (found,) = refine(refiner, [pose], rounds=2)
    pixels = project(CAMERA, found.rays / found.rays[:, 2:])
    truly = project(CAMERA, transform_points(T_true, found.points))
    assert len(found.points) > 50
    # A cell of the network is four pixels of its crop, which are about as large as the image's.
    assert np.median(np.linalg.norm(pixels - truly, axis=1)) < 4.0
    assert (found.weights > 0).all()


def test_the_pose_that_is_right_agrees_more_than_one_that_is_wrong(refiner, textured):
    pose, T_true = textured[0]
    wrong = T_true.copy()
    wrong[:3, :3] = wrong[:3, :3] @ rotation_from_vector(np.array([0.0, np.pi / 2, 0.0]))
    right, other = refine(refiner, [replace(pose, T_cam_obj=T) for T in (T_true, wrong)], rounds=1)
    assert right.agreement > other.agreement
    assert right.precision < other.precision


def bad_poses(T: np.ndarray) -> dict[str, np.ndarray]:
    """Return poses that cannot be refined."""
    behind, beside, tiny, lost = (T.copy() for _ in range(4))
    behind[2, 3] = -1.0
    beside[0, 3] = 50 * T[2, 3]
    tiny[:3, 3] *= 1e6
    lost[0, 0] = np.nan
    return {"behind": behind, "beside": beside, "far away": tiny, "not finite": lost}


@pytest.mark.parametrize("name", ["behind", "beside", "far away", "not finite"])
def test_a_pose_that_cannot_be_compared_stays_and_says_why(refiner, textured, name):
    pose, _ = textured[0]
    bad = bad_poses(pose.T_cam_obj)[name]
    found, other = refine(refiner, [replace(pose, T_cam_obj=bad), pose], rounds=2)
    np.testing.assert_array_equal(found.T_cam_obj, bad)
    assert found.reason
    assert found.agreement == 0.0
    assert other.reason == ""


def test_the_coarser_axis_decides_what_is_too_small(textured):
    """Twelve pixels across are enough, six are not, even if they are twelve along the other axis."""
    pose, _ = textured[0]
    far = transform(pose.T_cam_obj[:3, :3], pose.T_cam_obj[:3, 3] * 10)
    made = {}
    for name, focal in (
        ("square", (600.0, 600.0)),
        ("wide pixels", (300.0, 600.0)),
        ("tall", (600.0, 300.0)),
    ):
        camera = Camera(np.array([[focal[0], 0, 320.0], [0, focal[1], 240.0], [0, 0, 1]]), 640, 480)
        observation = Observation(pose.observation.image, camera)
        made[name] = make_pair(replace(pose, observation=observation), far, 128)
    assert isinstance(made["square"], Pair)
    assert "too small" in made["wide pixels"]
    assert "too small" in made["tall"]


def test_a_mask_of_zeros_hides_everything(refiner, textured):
    pose, _ = textured[0]
    mask = np.zeros((480, 640), np.uint8)
    masked = replace(pose, observation=replace(pose.observation, mask=mask))
    (found,) = refine(refiner, [masked], rounds=1)
    assert "mask" in found.reason
    np.testing.assert_array_equal(found.T_cam_obj, pose.T_cam_obj)


def test_a_black_image_is_no_support(refiner, textured):
    pose, T_true = textured[0]
    black = replace(pose, observation=Observation(np.zeros((480, 640, 3), np.uint8), CAMERA))
    (found,) = refine(refiner, [black], rounds=1)
    (seen,) = refine(refiner, [replace(pose, T_cam_obj=T_true)], rounds=1)
    assert np.isfinite(found.T_cam_obj).all()
    assert found.agreement < 0.7 * seen.agreement
    assert found.precision > seen.precision


def test_alignment_begins_where_the_refiner_leads(refiner, textured):
    pose, T_true = textured[1]
    (refined,) = refine(refiner, [pose], rounds=2)
    arguments = (pose.renderer, pose.observation, pose.T_cam_obj, 0)
    alone, helped = align(*arguments), align(*arguments, refined)
    assert not alone.moved
    assert helped.moved
    assert helped.similarity > alone.similarity
    np.testing.assert_array_equal(helped.T_cam_obj, refined.T_cam_obj)
    assert rotation_angle(helped.T_cam_obj[:3, :3], T_true[:3, :3]) < np.radians(10)


def test_nothing_to_refine_is_no_error(refiner):
    assert refine(refiner, [], rounds=2) == []


def test_a_wide_lens_is_no_obstacle(refiner, textured):
    """The crop's camera turns towards the object, so only the warp has to know the distortion."""
    pose, _ = textured[0]
    camera = Camera(CAMERA.K, 640, 480, np.array([-0.25, 0.08, 0.0, 0.0, 0.0]))
    rows, columns = np.mgrid[0:480, 0:640]
    rays = pixel_rays(camera, np.stack([columns, rows], axis=-1).reshape(-1, 2))
    straight = project(CAMERA, rays).astype(np.float32).reshape(480, 640, 2)
    image = cv2.remap(pose.observation.image, straight, None, cv2.INTER_LINEAR)
    bent = replace(pose, observation=Observation(image, camera))
    (through_lens,), (plain,) = refine(refiner, [bent], rounds=2), refine(refiner, [pose], rounds=2)
    torch.testing.assert_close(
        torch.from_numpy(through_lens.T_cam_obj), torch.from_numpy(plain.T_cam_obj), atol=0.02, rtol=0
    )
