from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vpog_core.geometry.se3 import transform, transform_points
from vpog_core.objects.renderer import Light, Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.synthetic.objects import make_object
from vpog_core.training.query_composer import MIN_VISIBLE, Sprite, compose, similarity

SIZE, RENDER_SIDE = 112, 151


class PlainStage:
    """A black background and black squares."""

    def background(self, rng, size):
        return np.zeros((size, size, 3), np.uint8)

    def sprite(self, rng):
        return Sprite(np.zeros((64, 64, 3), np.uint8), np.full((64, 64), 255, np.uint8))


@pytest.fixture(scope="module")
def scene():
    """An object, its camera and its picture."""
    renderer = Renderer(make_object(900_002, vertices=4000))
    flat = Light(ambient=1.0, diffuse=0.0)  # the lamp would not turn with the picture
    K, T = template_camera(renderer.mesh, np.array([0.6, -0.7, 0.4]), RENDER_SIDE, distance=4.0)
    return renderer, K, T, renderer.render(T, K, (RENDER_SIDE, RENDER_SIDE), lights=flat, supersample=2)


def composed(scene, seed, roll, depth=None):
    _, K, _, render = scene
    given = SimpleNamespace(rgb=render.rgb, mask=render.mask, depth=render.depth if depth is None else depth)
    return compose(np.random.default_rng(seed), given, K, roll, SIZE, PlainStage())


@pytest.mark.parametrize("seed", range(12))
def test_the_crops_camera_reproduces_every_pixel(scene, seed):
    """Points of the object project, by the crop's K and rotation, onto the pixels that show them.

    The depth image carries the index of each render pixel instead, so that each crop pixel tells which
    point it shows. Nearest sampling misses by up to half a render pixel along each axis (0.71 times the
    scale, which is mostly 0.7 to 0.8), and by nothing on average.
    """
    _, _, T, render = scene
    roll = np.random.default_rng(seed + 100).uniform(-np.pi, np.pi)
    index = np.arange(1, RENDER_SIDE**2 + 1, dtype=np.float32).reshape(RENDER_SIDE, RENDER_SIDE)
    query = composed(scene, seed, roll, depth=index)
    row, column = np.nonzero(query.depth)
    assert len(row) > 300
    points = render.coords.reshape(-1, 3)[query.depth[row, column].astype(int) - 1].astype(np.float64)
    T_crop_obj = transform(query.R_crop_render, np.zeros(3)) @ T
    projected = transform_points(T_crop_obj, points) @ query.K.T
    error = projected[:, :2] / projected[:, 2:] - np.stack([column, row], axis=1)
    scale = query.K[0, 0] / scene[1][0, 0]
    assert np.linalg.norm(error, axis=1).max() < 0.71 * scale + 0.01
    assert np.linalg.norm(error.mean(axis=0)) < 0.03


@pytest.mark.parametrize("seed", range(6))
def test_depth_of_the_crop_is_the_objects(scene, seed):
    """The crop's depth, lifted by its camera, lies on the surface that the same camera sees."""
    renderer, _, T, _ = scene
    query = composed(scene, seed, roll=1.0 + seed)
    T_crop_obj = transform(query.R_crop_render, np.zeros(3)) @ T
    again = renderer.render(T_crop_obj, query.K, (SIZE, SIZE))
    both = (query.depth > 0) & again.mask
    # All but a rim of pixels of the crop's object is object in the picture of that camera.
    assert both.sum() > 0.93 * (query.depth > 0).sum()
    gap = np.abs(query.depth - again.depth)[both]
    assert np.median(gap) < 0.002 * renderer.mesh.diameter
    assert (gap < 0.02 * renderer.mesh.diameter).mean() > 0.95


def test_the_picture_lies_where_the_camera_says(scene):
    """The warped picture and a render by the crop's camera register to a tenth of a pixel."""
    renderer, _, T, _ = scene
    for seed in range(30):
        query = composed(scene, seed, roll=-2.0)
        T_crop_obj = transform(query.R_crop_render, np.zeros(3)) @ T
        flat = Light(ambient=1.0, diffuse=0.0)
        again = renderer.render(T_crop_obj, query.K, (SIZE, SIZE), lights=flat, supersample=2)
        if (query.depth > 0).sum() > 0.97 * again.mask.sum():
            gray = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float64) for p in (query.rgb, again.rgb)]
            shift, response = cv2.phaseCorrelate(*gray)
            assert np.hypot(*shift) < 0.1
            assert response > 0.3
            return
    pytest.fail("every draw was occluded")


def test_roll_turns_the_picture_from_x_towards_y(scene):
    """The direction that pointed right in the render points down after a quarter turn."""
    turned = composed(scene, 0, roll=np.pi / 2).R_crop_render @ np.array([1.0, 0, 0])
    np.testing.assert_allclose(turned, [0, 1, 0], atol=1e-12)


def test_occluders_leave_enough(scene):
    occluded = 0
    for seed in range(25):
        query = composed(scene, seed, roll=0.0)
        scale = query.K[0, 0] / scene[1][0, 0]
        # Of the object's own area in the crop; a loose box may cut some of it away.
        share = (query.depth > 0).sum() / (scene[3].mask.sum() * scale**2)
        assert share > MIN_VISIBLE * 0.9
        occluded += share < 0.9
    assert occluded > 3


def test_the_object_fills_the_crop_as_a_detectors_box_does(scene):
    """The crop's side is 1.05 box diagonals; 4 %, sometimes 10 % of jitter, and occluded boxes around it."""
    extents = []
    for seed in range(25):
        row, column = np.nonzero(composed(scene, seed, roll=0.4).depth)
        extents.append(np.hypot(np.ptp(row) + 1, np.ptp(column) + 1))
    assert np.median(extents) == pytest.approx(SIZE / 1.05, rel=0.1)


def test_similarity_maps_its_points():
    matrix = similarity(2.0, np.pi / 2, np.array([3.0, 4.0]), np.array([10.0, 20.0]))
    np.testing.assert_allclose(matrix @ [3, 4, 1], [10, 20], atol=1e-12)
    np.testing.assert_allclose(matrix @ [4, 4, 1], [10, 22], atol=1e-12)


def test_the_same_generator_composes_the_same(scene):
    one, two, other = (composed(scene, seed, 0.3) for seed in (1, 1, 2))
    assert np.array_equal(one.rgb, two.rgb)
    assert np.array_equal(one.depth, two.depth)
    assert not np.array_equal(one.depth, other.depth)
