import numpy as np
import pytest

from vpog_core.geometry.boxes import (
    box_of_counts,
    box_of_mask,
    clip_box,
    counts_of_box,
    jitter_box,
    jitter_box_normal,
    outer_box,
    overlap,
    projected_box,
    seen_box,
    shared_area,
)
from vpog_core.geometry.projection import can_project, project
from vpog_core.geometry.se3 import transform, transform_points
from vpog_core.types import Camera

BOX = np.array([100.0, 200, 180, 300])


def test_a_mask_s_box_runs_through_its_pixels_or_around_them():
    mask = np.zeros((20, 30), bool)
    mask[5:9, 10:21] = True
    np.testing.assert_array_equal(outer_box(mask), [9.5, 4.5, 20.5, 8.5])
    np.testing.assert_array_equal(outer_box(mask), [9.5, 4.5, 20.5, 8.5])
    np.testing.assert_array_equal(outer_box(mask), box_of_counts(10, 5, 11, 4))
    assert outer_box(mask & False) is None


def test_specks_of_a_mask_are_not_in_its_box():
    mask = np.zeros((400, 600), bool)
    assert box_of_mask(mask) is None
    mask[100:150, 200:260] = True
    np.testing.assert_array_equal(box_of_mask(mask), [199.5, 99.5, 259.5, 149.5])
    # Four stray pixels far away, and a rim of the picture.
    mask[0:2, 0:2] = mask[399, 599] = True
    np.testing.assert_array_equal(box_of_mask(mask), [199.5, 99.5, 259.5, 149.5])
    # What an occluder has cut off is a part of the object: 80 of 3000 pixels.
    mask[170:174, 280:300] = True
    np.testing.assert_array_equal(box_of_mask(mask), [199.5, 99.5, 299.5, 173.5])


def test_boxes_share_an_area():
    other = np.array([140.0, 250, 400, 260])
    assert shared_area(BOX, other) == shared_area(other, BOX) == 40 * 10
    assert overlap(BOX, other) == pytest.approx(400 / (8000 + 2600 - 400))
    assert shared_area(BOX, BOX + 100) == overlap(BOX, BOX + 100) == 0


def test_clipped_boxes_end_at_the_image_s_edges():
    np.testing.assert_array_equal(clip_box(BOX - 150, 20, 80), [0, 50, 20, 80])
    np.testing.assert_array_equal(clip_box(BOX - 150, 20, 80, first=-0.5), [-0.5, 50, 19.5, 79.5])


def test_a_projected_box_holds_the_projected_points():
    K, points = np.array([[500.0, 0, 320], [0, 480, 240], [0, 0, 1]]), np.random.default_rng(0).random((9, 3))
    T = np.eye(4)
    T[2, 3] = 2.0
    pixels = project(Camera(K, 640, 480), points + np.array([0, 0, 2]))
    expected = [*pixels.min(axis=0), *pixels.max(axis=0)]
    np.testing.assert_allclose(projected_box(T, points, K), expected, atol=1e-9)  # rounding
    T[2, 3] = -0.5
    assert projected_box(T, points, K) is None


FOLDED = Camera(np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]), 640, 480, [-0.3, 0, 0, 0, 0])
"""A camera whose distortion holds up to a tangent of 1.05; what lies further out it would fold back."""
CUBE = 0.1 * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])


def test_a_box_is_of_the_points_that_the_camera_can_see():
    in_view, at_the_rim, out_of_view = (transform(np.eye(3), [x, 0.0, 0.6]) for x in (0.1, 0.6, 1.0))
    pixels = project(FOLDED, transform_points(in_view, CUBE))
    np.testing.assert_allclose(seen_box(FOLDED, in_view, CUBE), [*pixels.min(axis=0), *pixels.max(axis=0)])
    points = transform_points(at_the_rim, CUBE)
    seen = can_project(FOLDED, points)
    assert 0 < seen.sum() < len(CUBE)
    pixels = project(FOLDED, points[seen])
    np.testing.assert_allclose(seen_box(FOLDED, at_the_rim, CUBE), [*pixels.min(axis=0), *pixels.max(axis=0)])
    assert seen_box(FOLDED, out_of_view, CUBE) is None
    for place in ([0.0, 0.0, 0.05], [0.0, np.nan, 0.6]):
        assert seen_box(FOLDED, transform(np.eye(3), place), CUBE) is None


def test_normal_errors_are_of_the_size_asked_for_and_leave_a_box():
    rng = np.random.default_rng(0)
    boxes = np.stack([jitter_box_normal(rng, BOX, 0.1, least=4) for _ in range(4000)])
    # Of 4000 draws a standard deviation is off by 1.1 %, one sigma.
    np.testing.assert_allclose((boxes - BOX).std(axis=0), [8, 10, 8, 10], rtol=0.05)
    wild = np.stack([jitter_box_normal(rng, BOX, 2.0, least=4) for _ in range(200)])
    assert (wild[:, 2:] - wild[:, :2] >= 4).all()
    assert np.abs(jitter_box(rng, BOX, 0.05) - BOX).max() <= 5


def test_whole_pixels_of_a_box():
    assert counts_of_box(box_of_counts(10, 5, 11, 4)) == (10, 5, 11, 4)
    # The columns 10 to 39 are touched, and the rows 21 to 59.
    assert counts_of_box(np.array([10.4, 20.6, 39.2, 58.9])) == (10, 21, 30, 39)
    assert counts_of_box(np.array([-7.0, 3.0, 2.0, 3.0])) == (0, 3, 3, 1)
