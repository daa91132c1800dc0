import numpy as np
import pytest

from vpog_core.evaluation.vsd import TAUS, ray_lengths, vsd, vsd_of_poses
from vpog_core.geometry.se3 import transform
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer

K = np.array([[100.0, 0, 9.5], [0, 100.0, 9.5], [0, 0, 1]])


def plate(depth, columns=slice(0, 10)):
    """Return a depth map [20, 20] with a flat piece in some columns."""
    out = np.zeros((20, 20))
    out[5:15, columns] = depth
    return out


def test_the_same_pose_has_no_error():
    assert vsd(plate(1.0), plate(1.0), plate(1.0), K, 0.2).tolist() == [0.0] * 10


def test_an_offset_along_the_ray_costs_below_its_tolerance():
    """2 cm of a 20 cm object are a tenth, and along the axis a little more for slanted rays (under 1 %)."""
    errors = vsd(plate(1.02), plate(1.0), np.zeros((20, 20)), K, 0.2)
    assert errors.tolist() == [1.0, 1.0] + [0.0] * 8


def test_half_overlap_costs_what_is_not_shared():
    """5 of 15 columns are in both."""
    errors = vsd(plate(1.0, slice(5, 15)), plate(1.0), plate(1.0, slice(0, 20)), K, 0.2)
    assert errors == pytest.approx(np.full(10, 10 / 15))


def test_what_something_hides_does_not_count():
    """The right half of the true object and of the estimate lies 10 cm behind a screen."""
    screen = plate(1.0, slice(0, 20))
    screen[:, 5:] = 0.9
    assert vsd(plate(1.0), plate(1.0), screen, K, 0.2)[0] == 0.0
    shifted = vsd(plate(1.0, slice(0, 5)), plate(1.0), screen, K, 0.2)
    assert shifted[0] == 0.0, "the estimate lacks only what cannot be seen"


def test_unmeasured_depth_counts_as_visible():
    nothing = np.zeros((20, 20))
    assert vsd(plate(1.0, slice(0, 5)), plate(1.0), nothing, K, 0.2) == pytest.approx(np.full(10, 0.5))


def test_nothing_visible_at_all_is_an_error_of_one():
    near = np.full((20, 20), 0.1)
    assert vsd(plate(1.0), plate(1.0), near, K, 0.2).tolist() == [1.0] * 10


def test_distances_are_along_the_ray():
    assert ray_lengths(K, (20, 20))[0, 0] == pytest.approx(np.sqrt(1 + 2 * 0.095**2))


def test_poses_are_rendered_in_the_window_of_both():
    """Rendering the whole image gives the same as rendering the window of both poses."""
    points = np.array([[x, y, z] for x in (-0.1, 0.1) for y in (-0.1, 0.1) for z in (-0.05, 0.05)])
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
    faces += [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    renderer = Renderer(Mesh(points, np.array(faces)))
    K_image = np.array([[200.0, 0, 79.5], [0, 200.0, 59.5], [0, 0, 1]])
    T_gt = transform(np.eye(3), [0.02, 0.01, 1.0])
    T_est = transform(np.eye(3), [0.05, 0.01, 1.02])
    depth = np.full((120, 160), 1.3, dtype=np.float32)
    whole = [renderer.render(T, K_image, (120, 160)).depth for T in (T_est, T_gt)]
    expected = vsd(*whole, depth, K_image, renderer.mesh.diameter)
    found = vsd_of_poses(renderer, T_est, T_gt, depth, K_image, renderer.mesh.diameter)
    np.testing.assert_array_equal(found, expected)
    assert 0 < found[-1] < found[0]


def test_poses_that_cannot_meet_in_the_image_differ_wholly():
    corner = np.array([[0.0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]])
    renderer = Renderer(Mesh(corner, np.array([[0, 1, 2]])))
    here, there = transform(np.eye(3), [0, 0, 1.0]), transform(np.eye(3), [0.5, 0, 1.0])
    depth = np.ones((20, 20), np.float32)
    assert vsd_of_poses(renderer, there, here, depth, K, 0.14).tolist() == [1.0] * len(TAUS)
