import cv2
import numpy as np
import pytest

from vpog_core.geometry.boxes import usable_box
from vpog_core.geometry.camera import (
    BOX_PADDING,
    look_at_crop,
    pixels_inside,
    rotation_towards,
    scale_intrinsics,
    warp,
    warp_masked,
)
from vpog_core.geometry.projection import can_project, pixel_rays, project
from vpog_core.geometry.se3 import transform_points
from vpog_core.types import Camera, VPOGError

K = np.array([[600.0, 0, 321.5], [0, 610.0, 238.0], [0, 0, 1]])
PINHOLE = Camera(K, 640, 480)
CAMERAS = [
    PINHOLE,
    Camera(K, 640, 480, [0.08, -0.2, 0.001, -0.002, 0.05]),
    Camera(K, 640, 480, [0.3, -0.1, 0.001, -0.002, 0.02, 0.2, -0.05, 0.01], "rational_polynomial"),
    Camera(K, 640, 480, [0.02, -0.01, 0.003, -0.001], "equidistant"),
    Camera(K, 640, 480, [], "equidistant"),
]
BOX = np.array([400.0, 60.0, 560.0, 190.0])


def test_pinhole_projection_known_value_and_batch():
    points = np.array([[[0.1, -0.2, 2.0], [0.0, 0.0, 1.0]]])
    expected = [[[600 * 0.05 + 321.5, -610 * 0.1 + 238.0], [321.5, 238.0]]]
    np.testing.assert_allclose(project(PINHOLE, points), expected, atol=1e-9)


@pytest.mark.parametrize("camera", CAMERAS)
def test_rays_undo_projection(camera):
    pixels = np.random.default_rng(0).uniform([0, 0], [639, 479], (200, 2))
    rays = pixel_rays(camera, pixels)
    np.testing.assert_allclose(rays[:, 2], 1.0)
    # Rays are corrected until they are a hundredth of a pixel off along each axis.
    np.testing.assert_allclose(project(camera, 1.7 * rays), pixels, atol=0.02)


def test_rotation_towards_is_the_smallest_turn_onto_the_ray():
    ray = np.array([0.4, -0.3, 1.0])
    R = rotation_towards(ray)
    np.testing.assert_allclose(R @ ray, [0, 0, np.linalg.norm(ray)], atol=1e-12)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(R @ np.cross([0, 0, 1], ray), np.cross([0, 0, 1], ray), atol=1e-12)


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("roll", [0.0, 0.6, -2.5])
def test_crop_looks_at_the_box_and_holds_it(camera, roll):
    virtual = look_at_crop(camera, BOX, 112, roll)
    rays = (
        pixel_rays(camera, [[480.0, 125.0], *BOX.reshape(2, 2), BOX[[2, 1]], BOX[[0, 3]]])
        @ virtual.R_virt_cam.T
    )
    pixels = (rays / rays[:, 2:]) @ virtual.K.T
    np.testing.assert_allclose(pixels[0, :2], [55.5, 55.5], atol=1e-6)
    # Corners leave the padding free but for the box's keystone, under 3 % of the crop here.
    assert (pixels[1:, :2] > -0.03 * 112).all()
    assert (pixels[1:, :2] < 1.03 * 112).all()


def test_crop_scale_is_padding_times_the_diagonal():
    centred = Camera(np.array([[600.0, 0, 320], [0, 600.0, 240], [0, 0, 1]]), 640, 480)
    virtual = look_at_crop(centred, [290, 200, 350, 280], 112)
    assert virtual.K[0, 0] == pytest.approx(600 * 112 / (BOX_PADDING * 100.0), rel=1e-9)
    np.testing.assert_allclose(virtual.R_virt_cam, np.eye(3), atol=1e-12)


def test_roll_turns_the_content_from_x_towards_y():
    centre = pixel_rays(PINHOLE, [[490.0, 125.0]])[0]
    level, rolled = (look_at_crop(PINHOLE, BOX, 112, roll) for roll in (0.0, np.pi / 2))
    a, b = (v.K @ (v.R_virt_cam @ centre) for v in (level, rolled))
    a, b = a[:2] / a[2] - 55.5, b[:2] / b[2] - 55.5
    np.testing.assert_allclose(b, [-a[1], a[0]], atol=1e-9)
    assert a[0] > 3


@pytest.mark.parametrize("camera", CAMERAS)
def test_warp_puts_a_point_where_the_virtual_camera_sees_it(camera):
    point = np.array([0.32, -0.22, 1.3])
    pixel = project(camera, point)
    y, x = np.mgrid[:480, :640]
    image = (255 * np.exp(-((x - pixel[0]) ** 2 + (y - pixel[1]) ** 2) / 50.0)).astype(np.uint8)
    box = [pixel[0] - 70, pixel[1] - 50, pixel[0] + 50, pixel[1] + 60]
    virtual = look_at_crop(camera, box, 112, roll=0.4)
    crop = warp(image, camera, virtual).astype(float)
    q = virtual.K @ transform_points(np.linalg.inv(virtual.T_cam_virt), point)
    rows, columns = np.mgrid[:112, :112]
    seen = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
    # A blob of 5 px is bent a little by perspective and rounding.
    np.testing.assert_allclose(seen, q[:2] / q[2], atol=0.1)


def test_warp_of_a_large_box_does_not_alias():
    stripes = np.zeros((480, 640), np.uint8)
    stripes[:, ::2] = 255
    crop = warp(stripes, PINHOLE, look_at_crop(PINHOLE, [20, 20, 620, 460], 112))
    inside = crop[40:72, 40:72].astype(float)
    # One-pixel stripes seen seven times smaller are even grey, not moire.
    assert abs(inside.mean() - 127.5) < 5
    assert inside.std() < 10


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("box", [[20, 20, 620, 460], [300, 200, 639, 479]], ids=["all", "a corner"])
def test_warp_keeps_positions_when_it_shrinks(camera, box):
    point = np.array([0.2, 0.12, 1.0])
    pixel = project(camera, point)
    y, x = np.mgrid[:480, :640]
    image = (255 * np.exp(-((x - pixel[0]) ** 2 + (y - pixel[1]) ** 2) / 500.0)).astype(np.uint8)
    virtual = look_at_crop(camera, box, 112)
    crop = warp(image, camera, virtual).astype(float)
    q = virtual.K @ (virtual.R_virt_cam @ point)
    rows, columns = np.mgrid[:112, :112]
    seen = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
    # The blob is wide, and a lens bends it: its middle is not quite where the point is.
    np.testing.assert_allclose(seen, q[:2] / q[2], atol=0.2)


def test_warp_is_black_outside_the_image():
    white = np.full((480, 640, 3), 255, np.uint8)
    crop = warp(white, PINHOLE, look_at_crop(PINHOLE, [-200, 100, 60, 300], 112))
    assert crop.shape == (112, 112, 3)
    assert crop[56, 56].min() == 255
    assert crop[:, 0].max() == 0
    repeated = warp(
        white, PINHOLE, look_at_crop(PINHOLE, [-200, 100, 60, 300], 112), border=cv2.BORDER_REPLICATE
    )
    assert repeated.min() == 255


@pytest.mark.parametrize("size", [24, 112, 256])
@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: f"{c.model}{len(c.distortion)}")
def test_no_mask_is_one_of_255_everywhere(camera, size):
    rng = np.random.default_rng(size)
    image = rng.integers(0, 256, (480, 640, 3)).astype(np.uint8)
    everywhere = np.full((480, 640), 255, np.uint8)
    inside = []
    for _ in range(40):
        middle, side = rng.uniform((20, 20), (620, 460)), rng.uniform(10, 200)
        virtual = look_at_crop(camera, np.concatenate([middle - side, middle + side]), size)
        warped, seen = warp_masked(image, None, camera, virtual)
        np.testing.assert_array_equal(warped, warp(image, camera, virtual))
        np.testing.assert_array_equal(seen, warp(everywhere, camera, virtual))
        inside.append(bool((seen == 255).all()))
    assert any(inside)
    assert not all(inside)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: f"{c.model}{len(c.distortion)}")
@pytest.mark.parametrize("middle", [(320, 240), (3, 200), (630, 470)])
def test_pixels_inside_see_the_image(camera, middle):
    """Those that see less than a pixel beyond its border are blended with black, and are not inside."""
    image = np.full((480, 640), 255, np.uint8)
    virtual = look_at_crop(camera, np.concatenate([np.subtract(middle, 60), np.add(middle, 60)]), 112)
    inside, seen = pixels_inside(camera, virtual), warp(image, camera, virtual)
    # An image that is scaled down for the crop is blended a third of a pixel further in.
    assert seen[inside > 0].min() > 0.8 * 255
    assert (inside[seen == 255] == 1).mean() > 0.97


def test_a_mask_goes_the_way_of_its_image():
    squares = np.random.default_rng(0).integers(0, 2, (24, 32))
    mask = np.kron(squares, np.full((20, 20), 255)).astype(np.uint8)
    virtual = look_at_crop(PINHOLE, BOX, 112)
    warped, seen = warp_masked(mask, mask, PINHOLE, virtual)
    np.testing.assert_array_equal(seen, warped)


def test_scaled_intrinsics_agree_with_opencv_resizing():
    y, x = np.mgrid[:480, :640]
    image = np.exp(-((x - 400.0) ** 2 + (y - 100.0) ** 2) / 800.0).astype(np.float32)
    small = cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA)
    rows, columns = np.mgrid[:120, :160]
    seen = np.array([(small * columns).sum(), (small * rows).sum()]) / small.sum()
    ray = np.linalg.inv(K) @ [400.0, 100.0, 1.0]
    np.testing.assert_allclose((scale_intrinsics(K, 0.25) @ ray)[:2], seen, atol=1e-2)


@pytest.mark.parametrize(
    ("box", "what"),
    [
        ([10, 10, 10, 50], "empty"),
        ([50, 50, 10, 10], "empty"),
        ([700, 10, 800, 90], "outside"),
        ([-90, -90, -10, -10], "outside"),
        ([0, 0, np.nan, 10], "finite"),
        ([0, 0, 10], "four"),
    ],
)
def test_unusable_boxes_are_refused_with_their_numbers(box, what):
    with pytest.raises(VPOGError, match=what) as caught:
        look_at_crop(PINHOLE, np.array(box, float), 112)
    assert f"{box[0]:g}" in str(caught.value)


def test_boxes_are_cut_at_the_image():
    np.testing.assert_allclose(usable_box([-20, 10, 700, 500], PINHOLE), [-0.5, 10, 639.5, 479.5])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"K": np.diag([0.0, 600, 1])}, "focal length"),
        ({"K": np.full((3, 3), np.nan)}, "focal length"),
        ({"width": 0}, "size"),
        ({"model": "thin_prism"}, "thin_prism"),
        ({"distortion": [0.1, 0.2, 0.3]}, "3 coefficients"),
        ({"distortion": [np.inf, 0, 0, 0]}, "finite"),
        ({"distortion": np.zeros(5), "model": "equidistant"}, "5 coefficients"),
    ],
)
def test_impossible_cameras_are_refused(change, what):
    with pytest.raises(VPOGError, match=what):
        Camera(**{"K": K, "width": 640, "height": 480, **change})


def test_boxes_where_a_fisheye_lens_sees_no_pinhole_s_rays_are_refused():
    lens = Camera([[180, 0, 319.5], [0, 180, 239.5], [0, 0, 1]], 640, 480, model="equidistant")
    look_at_crop(lens, np.array([380.0, 200, 460, 280]), 32)
    # 300 pixels are 95 degrees off the axis.
    with pytest.raises(VPOGError, match=r"The box \(600, 200, 638, 280\) lies where .* over 85 degrees off"):
        look_at_crop(lens, np.array([600.0, 200, 638, 280]), 32)


def wide_fisheye() -> Camera:
    """Return the camera of an equisolid lens (image radius 2 sin(angle / 2)) that sees 220 degrees."""
    angle = np.linspace(0.01, np.deg2rad(115), 200)
    powers = np.stack([angle**n for n in (3, 5, 7, 9)], axis=1)
    k = np.linalg.lstsq(powers, 2 * np.sin(angle / 2) - angle, rcond=None)[0]
    return Camera([[386, 0, 639.5], [0, 386, 479.5], [0, 0, 1]], 1280, 960, k, "equidistant")


def test_what_a_fisheye_lens_sees_behind_the_camera_has_no_ray():
    lens = wide_fisheye()
    radius = 386 * 2 * np.sin(np.deg2rad([70, 84, 98, 102, 109]) / 2)
    pixels = np.stack([639.5 + radius, np.full(5, 479.5)], axis=1)
    rays = pixel_rays(lens, pixels)
    # The polynomial is within 0.1 degrees of the lens.
    np.testing.assert_allclose(np.rad2deg(np.arctan(rays[:2, 0])), [70, 84], atol=0.1)
    assert np.isnan(rays[2:, :2]).all()
    for x in pixels[2:, 0]:
        with pytest.raises(VPOGError, match="over 85 degrees off"):
            look_at_crop(lens, np.array([x - 14, 465, x + 14, 493]), 112)


FOLDED = Camera([[420, 0, 319.5], [0, 420, 239.5], [0, 0, 1]], 640, 480, [-0.3, 0, 0, 0])
"""A camera whose distortion r - 0.3 r^3 turns back at r = 1.05, where the image is 0.70 from its middle."""


def test_rays_near_the_end_of_the_distortion_are_exact_and_further_out_there_are_none():
    angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for tangent in (0.3, 0.7, 0.9):
        points = np.concatenate([tangent * ring, np.ones((8, 1))], axis=1)
        pixels = project(FOLDED, points)
        # A hundredth of a pixel, where the image is up to four times as dense as in its middle.
        np.testing.assert_allclose(pixel_rays(FOLDED, pixels), points, atol=4 * 0.01 / 420)
    assert np.isnan(pixel_rays(FOLDED, [319.5, 239.5] + 0.72 * 420 * ring)[:, :2]).all()
    assert can_project(FOLDED, [[1.0, 0, 1], [0.5, 0.5, 1]]).all()
    assert not can_project(FOLDED, [[1.1, 0, 1], [0.1, 0, -1], [0, 0, 0]]).any()


def test_a_crop_beyond_the_distortion_shows_nothing_there():
    """Rays beyond 1.05 would fold back onto pixels that see something else."""
    virtual = look_at_crop(FOLDED, np.array([520.0, 200, 600, 280]), 64, pad=2.5)
    seen = warp(np.full((480, 640), 255, np.uint8), FOLDED, virtual)
    columns, rows = np.meshgrid(np.arange(64), np.arange(64))
    plane = np.stack([columns, rows], axis=-1) - virtual.K[:2, 2]
    rays = np.concatenate([plane / virtual.K[0, 0], np.ones((64, 64, 1))], axis=-1) @ virtual.R_virt_cam
    tangents = np.hypot(rays[..., 0], rays[..., 1]) / rays[..., 2]
    assert (tangents > 1.06).mean() > 0.1
    assert not seen[(tangents > 1.06) | (rays[..., 2] <= 0)].any()
    assert (seen[tangents < 0.9] == 255).all()


def test_an_image_with_pixels_that_are_not_square_is_scaled_down_as_much_as_each_axis_needs():
    """Stripes across the axis that needs no scaling keep their contrast."""
    camera = Camera([[1200, 0, 319.5], [0, 300, 119.5], [0, 0, 1]], 640, 240)
    stripes = np.repeat((np.arange(240) // 2 % 2 * 255).astype(np.uint8)[:, None], 640, axis=1)
    virtual = look_at_crop(camera, np.array([240.0, 100, 400, 140]), 64)
    assert virtual.K[0, 0] / 1200 < 0.5
    assert virtual.K[1, 1] / 300 > 1
    crop = warp(stripes, camera, virtual)[24:40, 24:40]
    # The camera's own stripes have a standard deviation of 127.5; a scale of one half leaves none of it.
    assert crop.std() > 90


@pytest.mark.parametrize("k", [47.0, 1e150])
def test_distortion_that_has_no_solution_is_refused_with_the_box(k):
    lens = Camera([[131, 0, 1.0], [0, 131, 1], [0, 0, 1]], 640, 480, [0, 0, 0, k], "equidistant")
    with pytest.raises(VPOGError, match="distortion cannot be undone"):
        look_at_crop(lens, np.array([128.0, 96, 512, 384]), 32)


def test_no_pixels_have_no_rays():
    assert pixel_rays(Camera(K=np.diag([50.0, 50.0, 1.0]), width=64, height=48), np.zeros((0, 2))).shape == (
        0,
        3,
    )
