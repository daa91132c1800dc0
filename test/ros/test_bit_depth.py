"""Test that sixteen-bit messages of sensors with fewer bits become as bright as eight-bit ones."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import CompressedImage, Image

from vpog_core.io.bit_depth import BitDepth
from vpog_core.types import VPOGError
from vpog_ros.image_conversion import image_to_rgb

HEIGHT, WIDTH = 48, 64


@pytest.fixture
def rgb() -> np.ndarray:
    """Return [48, 64, 3] uint8 in blocks of 8, from black to white."""
    small = np.random.default_rng(0).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    small[0, 0], small[0, 1] = 0, 255
    return small.repeat(8, axis=0).repeat(8, axis=1)


def sensor(eight: np.ndarray, bits: int) -> np.ndarray:
    """Return pixels as a sensor of so many bits measures what `eight` shows."""
    return (eight.astype(np.uint16) * 257) >> (16 - bits)


def message(pixels: np.ndarray, encoding: str, big_endian: bool = False) -> Image:
    result = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    result.is_bigendian = int(big_endian)
    result.step = pixels.nbytes // pixels.shape[0]
    result.data = pixels.astype(">u2" if big_endian else "<u2").tobytes()
    return result


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_every_bit_depth_looks_alike(rgb, bits, big_endian):
    depth = BitDepth()
    for encoding, eight in (
        ("mono16", np.repeat(rgb[..., :1], 3, axis=2)),
        ("rgb16", rgb),
        ("bgr16", rgb),
    ):
        pixels = eight[..., 0] if encoding == "mono16" else eight[..., ::-1] if "bgr" in encoding else eight
        shown = image_to_rgb(message(sensor(pixels, bits), encoding, big_endian), depth)
        # The lower bits that a sensor of fewer bits does not measure.
        np.testing.assert_allclose(shown.astype(int), eight, atol=1)
        assert f"The {encoding} images use {bits} of 16 bits" in depth.note


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_bayer_of_few_bits(bits):
    mosaic = np.empty((HEIGHT, WIDTH), np.uint8)
    for (row, column), value in (((0, 0), 240), ((0, 1), 130), ((1, 0), 130), ((1, 1), 40)):
        mosaic[row::2, column::2] = value
    shown = image_to_rgb(message(sensor(mosaic, bits), "bayer_rggb16"))
    np.testing.assert_allclose(shown.astype(int), np.broadcast_to((240, 130, 40), shown.shape), atol=1)


def test_alpha_says_nothing_about_the_bits(rgb):
    opaque = np.full((HEIGHT, WIDTH, 1), 65535, np.uint16)
    shown = image_to_rgb(message(np.dstack([sensor(rgb, 12), opaque]), "rgba16"))
    np.testing.assert_allclose(shown.astype(int), rgb, atol=1)


def test_brightness_does_not_follow_the_scene(rgb):
    bright = sensor(rgb[..., 0], 12)
    dark = np.minimum(bright // 4, 250)
    depth = BitDepth()
    image_to_rgb(message(dark, "mono16"), depth)
    assert "use 8 of 16 bits" in depth.note
    first = image_to_rgb(message(bright, "mono16"), depth)
    assert "use 12 of 16 bits" in depth.note
    note = depth.note
    np.testing.assert_allclose(first[..., 0].astype(int), rgb[..., 0], atol=1)
    shown = image_to_rgb(message(dark, "mono16"), depth)
    np.testing.assert_allclose(shown[..., 0].astype(int), dark // 16, atol=1)
    assert depth.note == note


def test_lights_that_fade_do_not_change_the_bits(rgb):
    depth = BitDepth()
    for strength in np.linspace(1, 0.02, 40):
        frame = (strength * sensor(rgb[..., 0], 12)).astype(np.uint16)
        shown = image_to_rgb(message(frame, "mono16"), depth)
        np.testing.assert_array_equal(shown[..., 0], frame >> 4)


def test_a_camera_that_changes_its_bits_looks_as_before(rgb):
    depth = BitDepth()
    for bits in (16, 12, 10, 14, 8, 16):
        shown = image_to_rgb(message(sensor(rgb[..., 0], bits), "mono16"), depth)
        np.testing.assert_allclose(shown[..., 0].astype(int), rgb[..., 0], atol=1)
        assert f"use {bits} of 16 bits" in depth.note


def test_a_few_stray_values_add_no_bits(rgb):
    # Hot pixels, and counters that some cameras write into the first pixels.
    pixels = np.tile(sensor(rgb[..., 0], 10), (4, 4))
    pixels[0, :4] = 65535
    depth = BitDepth()
    shown = image_to_rgb(message(pixels, "mono16"), depth)
    assert "use 10 of 16 bits" in depth.note
    np.testing.assert_allclose(shown[1:, :, 0].astype(int), np.tile(rgb[..., 0], (4, 4))[1:], atol=1)


def test_a_given_number_of_bits_is_kept_and_what_does_not_fit_is_said(rgb):
    depth = BitDepth(12)
    shown = image_to_rgb(message(sensor(rgb[..., 0], 12) // 16, "mono16"), depth)
    np.testing.assert_allclose(shown[..., 0].astype(int), rgb[..., 0] // 16, atol=1)
    assert depth.note == ""
    assert image_to_rgb(message(sensor(rgb[..., 0], 14), "mono16"), depth).max() == 255
    assert "use 14 bits, but image_bits is 12" in depth.note
    with pytest.raises(VPOGError, match="image_bits is 7"):
        BitDepth(7)


def test_another_encoding_is_another_camera(rgb):
    depth = BitDepth()
    image_to_rgb(message(sensor(rgb[..., 0], 16), "mono16"), depth)
    shown = image_to_rgb(message(sensor(rgb, 12), "rgb16"), depth)
    np.testing.assert_allclose(shown.astype(int), rgb, atol=1)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_compressed_images_of_sixteen_bits(rgb, bits):
    png = CompressedImage(format="rgb16; png compressed bgr16")
    png.data = cv2.imencode(".png", sensor(rgb[..., ::-1], bits))[1].tobytes()
    np.testing.assert_allclose(image_to_rgb(png, BitDepth()).astype(int), rgb, atol=1)
