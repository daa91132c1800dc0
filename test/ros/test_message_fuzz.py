"""Test that anything a driver sends becomes a usable camera and image, or an error of one sentence."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy")

from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest

from vpog_core.geometry.camera import look_at_crop, warp
from vpog_core.geometry.camera_checks import camera_doubts
from vpog_core.io.bit_depth import BitDepth
from vpog_core.messages.images import ALIASES, BYTES_PER_PIXEL, DEPTH_ENCODINGS
from vpog_core.messages.reading import camera_from_info
from vpog_core.types import VPOGError
from vpog_ros.image_conversion import image_to_rgb

# The same examples in every run: a test that fails for one change must not fail for the next at random.
fuzz = settings(max_examples=200, deadline=None, derandomize=True, database=None)

usual = st.floats(-2000, 2000)
numbers = st.one_of(st.just(0.0), usual, st.floats(width=64))
coefficients = st.one_of(st.just(0.0), st.floats(-1, 1), st.floats(width=64))
sides = st.one_of(st.integers(0, 2000), st.integers(0, 2**32 - 1))
models = st.sampled_from(
    ["", "none", "plumb_bob", "rational_polynomial", "equidistant", "fisheye", "omni", "\x00", "Ω"]
)


def unless_refused(function, *arguments):
    """Return what the function returns, or None where it raises a VPOGError of one line."""
    try:
        return function(*arguments)
    except VPOGError as error:
        sentence = str(error)
    assert "\n" not in sentence
    return None


@st.composite
def intrinsics(draw) -> list[float]:
    """Return nine numbers, most often with zeros and one where K has them."""
    values = draw(st.lists(numbers, min_size=9, max_size=9))
    if draw(st.integers(0, 4)):
        focal = draw(st.one_of(st.floats(50, 5000), numbers))
        values = [focal, 0.0, values[2], 0.0, focal, values[5], 0.0, 0.0, 1.0]
    return values


@st.composite
def camera_infos(draw) -> CameraInfo:
    info = CameraInfo(width=draw(sides), height=draw(sides), distortion_model=draw(models))
    info.k = draw(intrinsics())
    k = draw(intrinsics())
    info.p = [*k[:3], draw(numbers), *k[3:6], 0.0, *k[6:], 0.0]
    info.d = draw(st.lists(coefficients, max_size=15))
    info.binning_x, info.binning_y = draw(st.integers(0, 4)), draw(sides)
    if draw(st.booleans()):
        x, y, width, height = (draw(sides) for _ in range(4))
        info.roi = RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)
    return info


@st.composite
def plausible_infos(draw) -> CameraInfo:
    """Return infos that pass most checks, so that what follows is reached: any distortion, any region."""
    info = CameraInfo(width=640, height=480, distortion_model=draw(models))
    focal = draw(st.floats(60, 5000))
    info.k = [focal, 0.0, draw(st.floats(1, 638)), 0.0, focal, draw(st.floats(1, 478)), 0.0, 0.0, 1.0]
    count = draw(st.sampled_from([0, 4, 5, 8, 12, 14]))
    info.d = draw(st.lists(coefficients, min_size=count, max_size=count))
    info.binning_x = info.binning_y = draw(st.integers(0, 3))
    x, y = draw(st.integers(0, 639)), draw(st.integers(0, 479))
    if draw(st.booleans()):
        info.roi = RegionOfInterest(x_offset=x, y_offset=y, width=640 - x, height=480 - y)
    return info


@fuzz
@given(st.one_of(camera_infos(), plausible_infos()), st.booleans(), st.tuples(*[st.floats(width=32)] * 4))
def test_any_camera_info_is_refused_or_gives_pictures(info, rectified, box):
    camera = unless_refused(camera_from_info, info, rectified)
    if camera is None:
        return
    assert all(isinstance(doubt, str) for doubt in camera_doubts(camera))
    middle = np.array([0.2 * camera.width, 0.2 * camera.height, 0.8 * camera.width, 0.8 * camera.height])
    image = np.zeros((min(camera.height, 2000), min(camera.width, 2000)), np.uint8)
    for corners in (np.array(box), middle):
        virtual = unless_refused(look_at_crop, camera, corners, 32)
        if virtual is None:
            continue
        assert np.isfinite(virtual.K).all()
        np.testing.assert_allclose(virtual.R_virt_cam @ virtual.R_virt_cam.T, np.eye(3), atol=1e-9)
        assert warp(image, camera, virtual).shape == (32, 32)


encodings = st.one_of(st.sampled_from([*BYTES_PER_PIXEL, *ALIASES, *DEPTH_ENCODINGS]), st.text(max_size=12))


@st.composite
def images(draw) -> Image:
    """Return images of some pixels whose fields fit each other, or nearly."""
    width, height = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    image = Image(width=width, height=height, encoding=draw(encodings))
    image.is_bigendian = draw(st.integers(0, 255))
    row = width * BYTES_PER_PIXEL.get(ALIASES.get(image.encoding, image.encoding), 1)
    image.step = draw(st.one_of(st.just(row), st.just(0), st.integers(0, row + 5), sides))
    rows = draw(st.integers(0, 15))
    image.data = draw(st.binary(min_size=rows * row, max_size=rows * row + 8))
    return image


@fuzz
@given(images(), st.sampled_from([0, 8, 12, 16]))
def test_any_image_is_refused_or_gives_a_picture_of_its_size(image, bits):
    rgb = unless_refused(image_to_rgb, image, BitDepth(bits))
    assert rgb is None or (rgb.shape, rgb.dtype) == ((image.height, image.width, 3), np.uint8)


@st.composite
def compressed_images(draw) -> CompressedImage:
    """Return encoded images, whole, cut or with some bytes changed, and mere bytes."""
    suffix = draw(st.sampled_from([".png", ".jpg", ".webp", ".tiff"]))
    kind = draw(st.sampled_from([np.uint8, np.uint16])) if suffix in (".png", ".tiff") else np.uint8
    channels = draw(st.sampled_from([(), (3,), (4,)]))
    pixels = np.arange(48 * int(np.prod(channels)), dtype=kind).reshape(6, 8, *channels)
    data = bytearray(cv2.imencode(suffix, pixels)[1].tobytes())
    for place in draw(st.lists(st.integers(0, len(data) - 1), max_size=3)):
        data[place] = draw(st.integers(0, 255))
    data = data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))]
    message = CompressedImage(
        format=draw(st.one_of(encodings, encodings.map(lambda e: f"{e}; png compressed ")))
    )
    message.data = draw(st.one_of(st.just(bytes(data)), st.binary(max_size=40)))
    return message


@fuzz
@given(compressed_images())
def test_any_compressed_image_is_refused_or_gives_a_picture(message):
    rgb = unless_refused(image_to_rgb, message)
    assert rgb is None or (rgb.ndim, rgb.shape[2], rgb.dtype) == (3, 3, np.uint8)
