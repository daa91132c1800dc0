from __future__ import annotations

import time

import numpy as np
import pytest

from vpog_core.geometry.boxes import outer_box
from vpog_core.geometry.projection import project
from vpog_core.geometry.se3 import invert, rotation_angle, transform_points
from vpog_core.objects.renderer import Renderer
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.scene import make_scene
from vpog_core.types import VPOGError


@pytest.fixture(scope="module")
def meshes():
    return [make_object(900030 + i, vertices=4000) for i in range(4)]


@pytest.fixture(scope="module")
def scene(meshes):
    return make_scene(1, meshes)


@pytest.fixture(scope="module")
def frame(scene):
    return scene.render(2.0)


def test_frame_has_what_it_says(scene, frame):
    H, W = scene.camera.height, scene.camera.width
    assert (H, W) == (480, 640)
    assert frame.image.shape == (H, W, 3)
    assert frame.image.dtype == np.uint8
    assert frame.masks.shape == (4, H, W)
    assert frame.masks.dtype == bool
    assert len(frame.T_cam_obj) == 4
    assert frame.boxes_visible.shape == frame.boxes_amodal.shape == (4, 4)
    assert frame.masks.sum(axis=0).max() == 1


def test_poses_explain_the_masks(scene, frame, meshes):
    """Rendering each object alone at its pose covers its visible mask, and its amodal box."""
    for mesh, T, mask, box, fraction in zip(
        meshes, frame.T_cam_obj, frame.masks, frame.boxes_amodal, frame.visible_fraction, strict=True
    ):
        alone = Renderer(mesh).render(T, scene.camera.K, mask.shape).mask
        assert not (mask & ~alone).any()
        assert mask.sum() / alone.sum() == pytest.approx(fraction)
        pixels = project(scene.camera, transform_points(T, mesh.vertices))
        np.testing.assert_allclose(box, [*pixels.min(0), *pixels.max(0)], atol=1e-6)


def test_visible_box_is_that_of_the_mask(frame):
    for mask, box in zip(frame.masks, frame.boxes_visible, strict=True):
        np.testing.assert_array_equal(box, outer_box(mask))


def test_colours_in_the_image_are_those_of_the_object(scene, frame, meshes):
    """The image inside a mask is the object's own render, but for softness at edges and noise."""
    for index in np.flatnonzero(frame.visible_fraction > 0.5):
        lone = Renderer(meshes[index]).render(
            frame.T_cam_obj[index], scene.camera.K, (480, 640), scene._lights
        )
        mask = frame.masks[index]
        difference = np.abs(frame.image[mask].astype(int) - lone.rgb[mask])
        assert np.median(difference) < 10


def test_objects_stand_on_or_over_the_table(scene, frame, meshes):
    T_world_cam = scene.camera_pose(2.0)
    for mesh, T in zip(meshes, frame.T_cam_obj, strict=True):
        lowest = transform_points(T_world_cam @ T, mesh.vertices)[:, 2].min()
        assert -1e-6 < lowest < 0.2


def test_most_is_visible_and_at_a_few_diameters(meshes):
    fractions, distances = [], []
    for seed in range(3):
        scene = make_scene(seed, meshes)
        for t in (0.0, 5.0):
            frame = scene.render(t)
            fractions += list(frame.visible_fraction)
            distances += [T[2, 3] / mesh.diameter for T, mesh in zip(frame.T_cam_obj, meshes, strict=True)]
            assert (frame.boxes_visible[:, 2] <= 639.5).all()
    assert np.mean(np.array(fractions) > 0.5) > 0.8
    assert min(fractions) < 0.97
    assert 3 < np.median(distances) < 7


def test_motion_is_smooth_and_there_is_motion(scene):
    before, after, later = (scene.render(t).T_cam_obj for t in (3.0, 3.0 + 1 / 30, 5.0))
    for a, b, c in zip(before, after, later, strict=True):
        assert np.linalg.norm(a[:3, 3] - b[:3, 3]) < 0.02
        assert rotation_angle(a[:3, :3], b[:3, :3]) < 0.05
        assert rotation_angle(a[:3, :3], c[:3, :3]) > 0.05


def test_same_seed_and_time_same_frame_other_seed_other_frame(meshes, frame):
    again = make_scene(1, meshes).render(2.0)
    np.testing.assert_array_equal(frame.image, again.image)
    other = make_scene(2, meshes, distractors=0).render(2.0)
    assert not np.allclose(frame.T_cam_obj[0], other.T_cam_obj[0])


def test_camera_pose_is_rigid(scene):
    T = scene.camera_pose(1.5)
    np.testing.assert_allclose(T @ invert(T), np.eye(4), atol=1e-12)


def test_small_images_work_and_no_meshes_do_not(meshes):
    frame = make_scene(0, meshes[:1], size=(120, 160), distractors=0, noise=0.0).render(0.0)
    assert frame.image.shape == (120, 160, 3)
    assert frame.visible_fraction[0] == 1.0
    with pytest.raises(VPOGError, match="at least one mesh"):
        make_scene(0, [])


def test_frame_is_quick(scene):
    scene.render(0.0)
    start = time.perf_counter()
    for t in range(3):
        scene.render(float(t))
    # About 45 ms on one idle core; the rest is for busy machines.
    assert (time.perf_counter() - start) / 3 < 1.0
