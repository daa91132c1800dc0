import cv2
import numpy as np
import pytest

from vpog_core.geometry.se3 import invert, rotation_x, rotation_y, rotation_z, transform
from vpog_core.inference.crop import crop_detection
from vpog_core.objects.renderer import Light, Renderer
from vpog_core.types import Camera, Detection, VPOGError

CAMERA = Camera(np.array([[600.0, 0, 320.0], [0, 600.0, 240.0], [0, 0, 1]]), 640, 480)
BOX = np.array([400.0, 100.0, 520.0, 200.0])
IMAGE = np.zeros((480, 640, 3), np.uint8)


def disc(centre, radius):
    return cv2.circle(np.zeros((480, 640), np.uint8), centre, radius, 1, -1).astype(bool)


def test_the_crop_is_what_its_camera_would_see(mesh):
    """A render warped into the crop and a render by the crop's own camera are the same image."""
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
