import numpy as np

from vpog_core.geometry import pinhole
from vpog_core.geometry.projection import pixel_rays, project
from vpog_core.types import Camera

K = np.array([[500.0, 0, 31.5], [0, 480, 23.5], [0, 0, 1]])
CAMERA = Camera(K, 64, 48)
PIXELS = np.array([[0.0, 0], [63, 47], [10.25, 40.5]])


def test_it_agrees_with_the_camera_without_distortion():
    points = np.array([[0.1, -0.2, 1.0], [-0.3, 0.1, 2.5]])
    np.testing.assert_allclose(pinhole.to_pixels(points, K), project(CAMERA, points), atol=1e-9)  # rounding
    np.testing.assert_allclose(pinhole.to_rays(PIXELS, K), pixel_rays(CAMERA, PIXELS), atol=1e-12)  # rounding


def test_rays_lead_back_to_their_pixels():
    rays = pinhole.image_rays(K, (48, 64))
    v, u = np.mgrid[0:48, 0:64]
    np.testing.assert_allclose(pinhole.to_pixels(rays, K), np.stack([u, v], axis=-1), atol=1e-9)  # rounding
    np.testing.assert_array_equal(pinhole.to_rays(np.stack([u, v], axis=-1), K), rays)


def test_points_behind_the_camera_are_projected_as_if_near():
    behind = np.array([[0.1, 0.2, -3.0]])
    np.testing.assert_allclose(pinhole.to_pixels(behind, K, nearest=0.5)[0, 0], (0.1 * 500 - 3 * 31.5) / 0.5)
