import cv2
import numpy as np
import pytest

from vpog_core.geometry.se3 import (
    invert,
    rotation_x,
    rotation_y,
    rotation_z,
    transform,
    transform_points,
)
from vpog_core.inference.crop import crop_detection, pose_in_crop, recrop
from vpog_core.objects.renderer import Light, Renderer
from vpog_core.types import Camera, Detection, VPOGError

CAMERA = Camera(np.array([[600.0, 0, 320.0], [0, 600.0, 240.0], [0, 0, 1]]), 640, 480)
BOX = np.array([400.0, 100.0, 520.0, 200.0])
IMAGE = np.zeros((480, 640, 3), np.uint8)


def disc(centre, radius):
    return cv2.circle(np.zeros((480, 640), np.uint8), centre, radius, 1, -1).astype(bool)


def test_the_crop_is_what_its_camera_would_see(mesh):
    """A render warped into the crop and a render by the crop's own camera are the same picture."""
    renderer = Renderer(mesh)
    T_cam_obj = transform(rotation_x(2.0) @ rotation_y(0.5) @ rotation_z(1.0), [0.12, -0.08, 0.6])
    lights = Light(ambient=1.0, diffuse=0.0)  # no shading: the lamp would not turn with the camera
    image = renderer.render(T_cam_obj, CAMERA.K, (480, 640), lights, (90, 100, 80), supersample=2).rgb
    mask = renderer.render(T_cam_obj, CAMERA.K, (480, 640)).mask
    row, column = np.nonzero(mask)
    box = np.array([column.min(), row.min(), column.max(), row.max()], dtype=float)
    crop = crop_detection(image, CAMERA, Detection("thing", box, mask=mask), 112)
    T_virt_obj = invert(crop.virtual.T_cam_virt) @ T_cam_obj
    own = renderer.render(T_virt_obj, crop.virtual.K, (112, 112), lights, (90, 100, 80), supersample=2)
    # Two ways of averaging textured pixels; a shift by one pixel costs three times as much.
    difference = np.abs(crop.rgb.astype(int) - own.rgb)[own.mask].mean()
    shifted = np.abs(np.roll(crop.rgb, 1, axis=1).astype(int) - own.rgb)[own.mask].mean()
    assert difference < 0.5 * shifted
    assert (crop.mask & own.mask).sum() > 0.96 * (crop.mask | own.mask).sum()


def test_mask_and_picture_go_the_same_way():
    mask = disc((460, 150), 30)
    image = np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255
    crop = crop_detection(image, CAMERA, Detection("thing", BOX, mask=mask), 112)
    assert np.array_equal(crop.mask, crop.rgb[..., 0] > 127)
    assert 0.1 < crop.mask.mean() < 0.5


def test_without_a_mask():
    crop = crop_detection(IMAGE, CAMERA, Detection("thing", BOX), 48)
    assert crop.mask is None
    assert crop.rgb.shape == (48, 48, 3)
    assert crop.rgb.dtype == np.uint8


@pytest.mark.parametrize(
    ("box", "mask", "part"),
    [
        (BOX, np.ones((240, 320), dtype=bool), "320x240"),
        (BOX, np.zeros((480, 640), dtype=bool), "mask is empty"),
        (BOX, disc((50, 400), 20), "mask is empty"),
        ([700.0, 10, 900, 50], None, "outside"),
        ([50.0, 50, 50, 90], None, "empty"),
        ([50.0, 50, 40, 90], None, "empty"),
        ([np.nan, 50, 40, 90], None, "finite"),
        ([1.0, 2, 3], None, "four"),
    ],
)
def test_unusable_detections_say_why(box, mask, part):
    with pytest.raises(VPOGError, match=part):
        crop_detection(IMAGE, CAMERA, Detection("thing", np.array(box), mask=mask), 112)


def taken(mesh, part):
    """The crop around a part of an object's box: [2, 2] fractions (x, y) of its low and high corner."""
    renderer = Renderer(mesh)
    T_cam_obj = transform(rotation_x(2.0) @ rotation_y(0.5), [0.05, -0.04, 0.6])
    shown = renderer.render(T_cam_obj, CAMERA.K, (480, 640))
    hull = transform_points(T_cam_obj, mesh.hull_points)
    pixels = hull @ CAMERA.K.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    box = (low + np.asarray(part) * (high - low)).ravel()
    return shown, hull, crop_detection(shown.rgb, CAMERA, Detection("thing", box, mask=shown.mask), 112)


@pytest.mark.parametrize("part", [[[0, 0], [0.5, 1]], [[0.3, 0.2], [1, 0.8]], [[-0.5, -0.5], [1.5, 1.5]]])
def test_a_crop_of_a_part_is_taken_anew_around_the_whole_object(mesh, part):
    shown, hull, crop = taken(mesh, part)
    _, _, whole = taken(mesh, [[0, 0], [1, 1]])
    new = recrop(crop, shown.rgb, CAMERA, shown.mask, hull)
    # The crop of the object's own box, to a pixel.
    assert np.abs(new.virtual.R_virt_cam - whole.virtual.R_virt_cam).max() < 0.005
    assert new.virtual.K[0, 0] == pytest.approx(whole.virtual.K[0, 0], rel=0.02)
    assert new.mask.sum() == pytest.approx(whole.mask.sum(), rel=0.05)
    T_cam_obj = transform(rotation_z(0.3), [0.0, 0.1, 0.7])
    np.testing.assert_allclose(new.virtual.T_cam_virt @ pose_in_crop(new, T_cam_obj), T_cam_obj, atol=1e-12)


def test_a_crop_that_would_change_little_or_cannot_be_taken_stays(mesh):
    shown, hull, crop = taken(mesh, [[0.02, 0], [1, 0.98]])
    assert recrop(crop, shown.rgb, CAMERA, shown.mask, hull) is crop
    behind, aside = hull * (1, 1, -1), hull + np.array([0.4, 0, 0])
    assert recrop(crop, shown.rgb, CAMERA, shown.mask, behind) is crop
    assert recrop(crop, shown.rgb, CAMERA, shown.mask, aside) is crop  # where the mask is empty
    assert recrop(crop, shown.rgb, CAMERA, None, aside) is not crop
