import colorsys

import numpy as np
import pytest

from vpog_core.types import MatchView
from vpog_core.visualization.flow_image import colour_wheel, draw_match, flow_range, legend_wheel


def single(x, y, **options):
    return colour_wheel(np.array([[[x, y]]], np.float32), **options)[0, 0].astype(int)


@pytest.mark.parametrize("degrees", [0, 45, 90, 135, 180, 225, 270, 315])
@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_hue_is_the_direction_and_saturation_the_length(degrees, fraction):
    angle = np.deg2rad(degrees)
    colour = single(8 * fraction * np.cos(angle), 8 * fraction * np.sin(angle), max_px=8)
    expected = np.array(colorsys.hsv_to_rgb(degrees / 360, fraction, 1.0)) * 255
    np.testing.assert_allclose(colour, expected, atol=2)


def test_no_motion_is_white_and_beyond_the_range_is_clipped():
    assert single(0, 0, max_px=5).tolist() == [255, 255, 255]
    np.testing.assert_array_equal(single(50, 0, max_px=5), single(5, 0, max_px=5))


def test_unseen_is_grey_and_confidence_fades_to_it():
    flow = np.full((1, 3, 2), 5.0, np.float32)
    seen = np.array([[True, False, True]])
    image = colour_wheel(flow, 5, seen, np.array([[1.0, 1.0, 0.0]], np.float32))
    assert image[0, 1].tolist() == [128, 128, 128]
    assert image[0, 2].tolist() == [128, 128, 128]
    np.testing.assert_array_equal(image[0, 0], single(5, 5, max_px=5))


@pytest.mark.filterwarnings("error")
def test_values_that_are_not_finite_do_not_spread():
    flow = np.ones((4, 4, 2), np.float32)
    flow[0, 0], flow[1, 1] = np.nan, np.inf
    image = colour_wheel(flow, confidence=np.full((4, 4), np.nan))
    assert image.dtype == np.uint8
    assert flow_range(flow) == pytest.approx(np.sqrt(2))


def test_range_ignores_unseen_and_has_a_least_value():
    flow = np.zeros((10, 10, 2), np.float32)
    flow[0] = 100.0
    seen = np.ones((10, 10), bool)
    seen[0] = False
    assert flow_range(flow, seen) == 1.0
    assert flow_range(flow, np.zeros((10, 10), bool)) == 1.0
    assert flow_range(flow) > 50


def test_legend_shows_the_same_colours_as_the_flow():
    wheel = legend_wheel(101)
    assert wheel.shape == (101, 101, 4)
    assert wheel[50, 50, :3].min() > 245
    assert wheel[0, 0, 3] == 0
    # Half way to the right, down, left, up.
    for (row, column), (x, y) in {
        (50, 75): (1, 0),
        (75, 50): (0, 1),
        (50, 25): (-1, 0),
        (25, 50): (0, -1),
    }.items():
        np.testing.assert_allclose(wheel[row, column, :3], single(x, y, max_px=2), atol=8)


def match(size=112, count=300, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, size - 1, (count, 2)).astype(np.float32)
    return MatchView(
        crop=np.full((size, size, 3), 60, np.uint8),
        template=np.full((size, size, 3), 90, np.uint8),
        flow=np.full((size, size, 2), 4.0, np.float32),
        confidence=np.ones((size, size), np.float32),
        seen=np.ones((size, size), bool),
        points_2d=points,
        points_template=np.clip(points + 4.0, 0, size - 1),
        inlier=rng.random(count) < 0.5,
    )


def test_match_picture_holds_the_three_tiles_with_lines_of_both_kinds():
    view = match()
    picture = draw_match(view, tile=224)
    bare = draw_match(match(count=0), tile=224)
    assert picture.dtype == np.uint8
    assert picture.shape == bare.shape
    assert picture.shape[1] > 3 * 224
    green = (picture[..., 1] > 200) & (picture[..., 0] < 150) & (picture[..., 2] < 150)
    red = (picture[..., 0] > 220) & (picture[..., 1] < 130) & (picture[..., 2] < 130)
    third = picture.shape[1] // 3
    for dots in (green, red):
        assert dots[:, :third].sum() > 50
        assert dots[:, third : 2 * third].sum() > 50
    np.testing.assert_array_equal(picture[:, -200:], bare[:, -200:])


def test_match_points_are_drawn_where_they_are():
    view = match(count=1)
    view.points_2d[:], view.points_template[:], view.inlier[:] = (20, 30), (80, 90), True
    # Dots differ by more than 150 from the tile, the half transparent line between them does not.
    changed = np.abs(draw_match(view, 336).astype(int) - draw_match(match(count=0), 336)).sum(axis=2) > 150
    bar, gap = changed.shape[0] - 336 - 8, 8
    for left, point in ((gap, (20, 30)), (2 * gap + 336, (80, 90))):
        rows, columns = np.nonzero(changed[bar : bar + 336, left : left + 336])
        middle = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
        # The pixel (x, y) of the crop is the block of three around (3 x + 1, 3 y + 1).
        assert middle == pytest.approx((3 * point[0] + 1, 3 * point[1] + 1), abs=1)


@pytest.mark.filterwarnings("error")
def test_match_without_anything_seen_or_with_stray_points_still_draws():
    view = match()
    view.seen[:] = False
    view.points_template[:50] = np.nan
    view.points_2d[50:100] = 1e6
    view.flow[:] = np.nan
    assert draw_match(view).shape == draw_match(match()).shape
