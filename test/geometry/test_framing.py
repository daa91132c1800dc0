"""Test the frame of a pose: it shows all of the object in the middle, and impossible ones are refused."""

import numpy as np
import pytest

from vpog_core.geometry.framing import FRAME_PADDING, frame_hull
from vpog_core.geometry.se3 import random_rotation, transform, transform_points

SIZE = 128


def cloud(rng: np.random.Generator, distance: float) -> np.ndarray:
    """Return [40, 3] points of a flat object of about 0.2 m, turned anyhow, somewhere before the camera."""
    points = rng.uniform(-1, 1, (40, 3)) * (0.1, 0.06, 0.02)
    place = distance * np.array([*rng.uniform(-0.5, 0.5, 2), 1.0])
    return transform_points(transform(random_rotation(rng), place), points)


def pixels_in(frame, points: np.ndarray) -> np.ndarray:
    image = points @ frame.R_virt_cam.T @ frame.K.T
    return image[:, :2] / image[:, 2:]


@pytest.mark.parametrize("distance", [0.3, 1.0, 4.0])
def test_the_frame_shows_all_points_with_the_margin_that_is_asked_for(distance):
    rng = np.random.default_rng(3)
    for _ in range(20):
        points = cloud(rng, distance)
        frame = frame_hull(points, SIZE)
        away = np.abs(pixels_in(frame, points) - (SIZE - 1) / 2)
        # The farthest point from the middle touches the margin, exactly.
        assert away.max() == pytest.approx(SIZE / FRAME_PADDING / 2)
        assert frame.size == SIZE
        np.testing.assert_allclose(frame.R_virt_cam @ frame.R_virt_cam.T, np.eye(3), atol=1e-12)


def test_what_is_shown_lies_in_the_middle():
    rng = np.random.default_rng(4)
    for distance in (0.5, 3.0):
        for _ in range(20):
            points = cloud(rng, distance)
            pixels = pixels_in(frame_hull(points, SIZE), points)
            middle = (pixels.min(axis=0) + pixels.max(axis=0)) / 2
            # Turning the camera stretches near things a little: less than a tenth of the frame at 0.5 m.
            assert np.abs(middle - (SIZE - 1) / 2).max() < SIZE * 0.05 / distance


def test_a_wider_margin_shows_the_same_smaller():
    points = cloud(np.random.default_rng(5), 1.0)
    near, wide = (frame_hull(points, SIZE, pad) for pad in (1.2, 2.4))
    assert near.K[0, 0] == pytest.approx(2 * wide.K[0, 0])
    np.testing.assert_array_equal(near.R_virt_cam, wide.R_virt_cam)


@pytest.mark.parametrize(
    "change",
    [
        lambda points: points * np.nan,
        lambda points: np.where(np.arange(40)[:, None] == 7, np.inf, points),
        lambda points: points - (0, 0, 2),  # behind the camera
        lambda points: points - (0, 0, 1),  # around the camera
        lambda points: points * 1e-4,  # right before it
        lambda points: points[:0],
    ],
)
def test_what_no_camera_sees_has_no_frame(change):
    assert frame_hull(change(cloud(np.random.default_rng(6), 1.0)), SIZE) is None


def test_points_that_no_single_view_holds_have_no_frame():
    """Both ends of a beam that passes right beside the camera: turned to its middle, one end is behind."""
    beam = np.array([[-0.01, 0.0, 0.002], [40.0, 0.0, 0.002]])
    assert frame_hull(beam, SIZE) is None
