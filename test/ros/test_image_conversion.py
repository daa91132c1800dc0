"""Compare every usual encoding with an image known pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vpog_core.messages.images import ALIASES
from vpog_core.types import VPOGError
from vpog_ros.image_conversion import image_to_rgb, mask_to_image, rgb_to_image

HEIGHT, WIDTH = 12, 16


@pytest.fixture
def rgb() -> np.ndarray:
    """Return an image in blocks of 4x4 pixels, so that Bayer and 4:2:2 chroma lose nothing inside a block."""
    blocks = np.random.default_rng(0).integers(20, 236, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
    return np.repeat(np.repeat(blocks, 4, axis=0), 4, axis=1)


def message(pixels: np.ndarray, encoding: str, big_endian: bool = False, padding: int = 0) -> Image:
    """Return an Image of an array [H, W(, C)], its rows padded with bytes that must not show."""
    height, width = pixels.shape[:2]
    if big_endian:
        pixels = pixels.byteswap()
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAB)
    result = Image(height=height, width=width, encoding=encoding, step=rows.shape[1])
    result.is_bigendian = int(big_endian)
    result.data = rows.tobytes()
    return result


def widen(pixels: np.ndarray) -> np.ndarray:
    """Widen eight bits to sixteen, so that white stays white."""
    return pixels.astype(np.uint16) * 257


def colour(encoding: str, rgb: np.ndarray) -> np.ndarray:
    """Return the image as an array in one of the plain colour encodings."""
    alpha = np.full((*rgb.shape[:2], 1), 255, np.uint8)
    pixels = rgb if encoding.startswith("rgb") else rgb[..., ::-1]
    pixels = np.concatenate([pixels, alpha], axis=2) if "a" in encoding else pixels
    return widen(pixels) if encoding.endswith("16") else pixels


COLOUR = ["rgb8", "bgr8", "rgba8", "bgra8", "rgb16", "bgr16", "rgba16", "bgra16"]


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", COLOUR)
def test_colour(rgb, encoding, padding):
    result = image_to_rgb(message(colour(encoding, rgb), encoding, padding=padding))
    assert result.dtype == np.uint8
    # Sixteen to eight bits may round either way.
    np.testing.assert_allclose(result.astype(int), rgb, atol=1 if encoding.endswith("16") else 0)


@pytest.mark.parametrize("encoding", ["rgb16", "bgr16", "rgba16", "bgra16"])
def test_big_endian_colour(rgb, encoding):
    result = image_to_rgb(message(colour(encoding, rgb), encoding, big_endian=True))
    np.testing.assert_allclose(result.astype(int), rgb, atol=1)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 10])
def test_mono16(rgb, big_endian, padding):
    grey = rgb[..., 0]
    result = image_to_rgb(message(widen(grey), "mono16", big_endian, padding))
    np.testing.assert_allclose(result.astype(int), np.repeat(grey[..., None], 3, axis=2), atol=1)


def test_mono8_ignores_the_endian_flag(rgb):
    grey = message(rgb[..., 1], "mono8")
    grey.is_bigendian = 1
    np.testing.assert_array_equal(image_to_rgb(grey), np.repeat(rgb[..., 1:2], 3, axis=2))


BAYER = {"rggb": "RGGB", "bggr": "BGGR", "gbrg": "GBRG", "grbg": "GRBG"}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", BAYER)
def test_bayer(pattern, bits):
    rgb = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    rgb[:] = (200, 120, 40)
    mosaic = np.empty((HEIGHT, WIDTH), np.uint8)
    for index, letter in enumerate(BAYER[pattern]):
        mosaic[index // 2 :: 2, index % 2 :: 2] = rgb[0, 0, "RGB".index(letter)]
    result = image_to_rgb(message(widen(mosaic) if bits == 16 else mosaic, f"bayer_{pattern}{bits}"))
    np.testing.assert_allclose(result.astype(int), rgb, atol=1)


@pytest.mark.parametrize(("encoding", "order"), [("uyvy", "UYVY"), ("yuv422", "UYVY"), ("yuyv", "YUYV")])
def test_yuv422(rgb, encoding, order):
    y, u, v = (channel.astype(float) for channel in to_yuv(rgb))
    packed = np.empty((HEIGHT, WIDTH, 2))
    luma, chroma = (1, 0) if order == "UYVY" else (0, 1)
    packed[..., luma] = y
    packed[:, 0::2, chroma], packed[:, 1::2, chroma] = u[:, 0::2], v[:, 1::2]
    result = image_to_rgb(message(np.rint(packed).astype(np.uint8), encoding))
    # Rounding of Y, U, V to eight bits and back: under 3 grey levels.
    np.testing.assert_allclose(result.astype(int), rgb, atol=3)


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
@pytest.mark.parametrize("padding", [0, 8])
def test_chroma_planes(rgb, encoding, padding):
    y, u, v = (np.rint(channel).astype(np.uint8) for channel in to_yuv(rgb))
    first, second = (u, v) if encoding == "nv12" else (v, u)
    chroma = np.stack([first[::2, ::2], second[::2, ::2]], axis=-1).reshape(HEIGHT // 2, WIDTH)
    planes = message(np.vstack([y, chroma]), encoding, padding=padding)
    planes.height = HEIGHT
    result = image_to_rgb(planes)
    assert result.shape == rgb.shape
    np.testing.assert_allclose(result.astype(int), rgb, atol=3)


def to_yuv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Convert to ITU-R BT.601, studio range, as video formats have it."""
    red, green, blue = np.moveaxis(rgb.astype(float) / 255, -1, 0)
    y = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    u = 128 - 37.797 * red - 74.203 * green + 112.0 * blue
    v = 128 + 112.0 * red - 93.786 * green - 18.214 * blue
    return y, u, v


@pytest.mark.parametrize(("alias", "encoding"), sorted(set(ALIASES.items()) - {("yuv422", "uyvy")}))
def test_aliases(rgb, alias, encoding):
    pixels = rgb[..., 0] if encoding.startswith("mono") else colour(encoding, rgb)
    pixels = widen(pixels) if encoding == "mono16" else pixels
    np.testing.assert_array_equal(
        image_to_rgb(message(pixels, alias)), image_to_rgb(message(pixels, encoding))
    )


def test_last_row_may_lack_its_padding(rgb):
    padded = message(rgb, "rgb8", padding=6)
    padded.data = padded.data[:-6]
    np.testing.assert_array_equal(image_to_rgb(padded), rgb)


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_compressed(rgb, kind):
    data = cv2.imencode(f".{kind}", rgb[..., ::-1])[1]
    compressed = CompressedImage(format=kind)
    compressed.data = data.tobytes()
    # JPEG halves the chroma's resolution and rounds: some levels at the blocks' rims.
    np.testing.assert_allclose(
        image_to_rgb(compressed).astype(float).mean(axis=(0, 1)), rgb.mean(axis=(0, 1)), atol=2.5
    )


def test_compressed_grey_becomes_rgb(rgb):
    compressed = CompressedImage(format="mono8; png compressed ")
    compressed.data = cv2.imencode(".png", rgb[..., 0])[1].tobytes()
    np.testing.assert_array_equal(image_to_rgb(compressed), np.repeat(rgb[..., :1], 3, axis=2))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_compressed_bayer_image_is_decoded(bits):
    mosaic = np.empty((HEIGHT, WIDTH), np.uint8)
    for (row, column), value in (((0, 0), 200), ((0, 1), 120), ((1, 0), 120), ((1, 1), 40)):
        mosaic[row::2, column::2] = value
    compressed = CompressedImage(format=f"bayer_rggb{bits}; png compressed ")
    compressed.data = cv2.imencode(".png", widen(mosaic) if bits == 16 else mosaic)[1].tobytes()
    expected = np.broadcast_to((200, 120, 40), (HEIGHT, WIDTH, 3))
    np.testing.assert_allclose(image_to_rgb(compressed).astype(int), expected, atol=1)


def test_round_trip_keeps_header(rgb):
    result = rgb_to_image(rgb, Header(frame_id="camera"))
    assert result.header.frame_id == "camera"
    np.testing.assert_array_equal(image_to_rgb(result), rgb)


def test_mask_round_trip():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[3:7, 2:9] = True
    np.testing.assert_array_equal(image_to_rgb(mask_to_image(mask, Header()))[..., 0] > 0, mask)


@pytest.mark.parametrize("encoding", ["32FC3", "16UC2", "hsv", ""])
def test_unknown_encoding_is_named(rgb, encoding):
    with pytest.raises(VPOGError, match=f"'{encoding}' is not a colour or grey image"):
        image_to_rgb(message(rgb, encoding))


def test_truncated_data_is_refused(rgb):
    short = message(rgb, "rgb8")
    short.data = short.data[:-1]
    with pytest.raises(VPOGError, match=r"575 bytes.*it needs a step of 48 and 576 bytes"):
        image_to_rgb(short)


def test_step_shorter_than_a_row_is_refused(rgb):
    narrow = message(rgb, "rgb8")
    narrow.step -= 1
    with pytest.raises(VPOGError, match="row step of 47"):
        image_to_rgb(narrow)


def test_empty_images_are_refused():
    with pytest.raises(VPOGError, match="empty"):
        image_to_rgb(Image(encoding="rgb8"))
    with pytest.raises(VPOGError, match="cannot be read"):
        image_to_rgb(CompressedImage(format="jpeg"))


def test_odd_sides_do_not_fit_chroma_planes(rgb):
    with pytest.raises(VPOGError, match="sides must be even"):
        image_to_rgb(message(rgb[:, :15, 0], "nv12"))


@pytest.mark.parametrize("encoding", ["uyvy", "yuyv", "yuv422", "yuv422_yuy2"])
def test_odd_widths_do_not_fit_shared_chroma(encoding):
    with pytest.raises(VPOGError, match="15x12 cannot be: its width must be even"):
        image_to_rgb(message(np.zeros((HEIGHT, 15, 2), np.uint8), encoding))


def test_a_step_of_gigabytes_costs_no_memory(rgb):
    row = message(rgb[:1], "rgb8")
    row.step = 2**32 - 1
    np.testing.assert_array_equal(image_to_rgb(row), rgb[:1])


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_raw_depth_images_are_refused(encoding):
    with pytest.raises(VPOGError, match=rf"'{encoding}' is a depth image.*mono16"):
        image_to_rgb(message(np.zeros((HEIGHT, WIDTH), np.uint16), encoding))
    png = CompressedImage(format=f"{encoding}; png compressed ")
    png.data = cv2.imencode(".png", np.zeros((HEIGHT, WIDTH), np.uint16))[1].tobytes()
    with pytest.raises(VPOGError, match="is a depth image"):
        image_to_rgb(png)


def test_depth_images_are_refused(rgb):
    depth = CompressedImage(format="16UC1; compressedDepth png")
    depth.data = cv2.imencode(".png", rgb[..., 0])[1].tobytes()
    with pytest.raises(VPOGError, match="depth"):
        image_to_rgb(depth)
