"""Image messages to arrays and back; the only place that touches cv_bridge or rosbags-image.

Row padding, data lengths and encodings are checked here first, so that a broken message gets one clear
sentence whichever library does the conversion.
"""

from __future__ import annotations

import array
import functools
import sys
from dataclasses import dataclass

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from vpog_core.types import VPOGError

ALIASES = {
    "8UC1": "mono8",
    "8UC3": "bgr8",
    "8UC4": "bgra8",
    "16UC1": "mono16",
    "16UC3": "bgr16",
    "yuv422": "uyvy",
}
"""Encodings that say less than they could, and what OpenCV users mean by them."""

BYTES_PER_PIXEL = {
    "mono8": 1,
    "rgb8": 3,
    "bgr8": 3,
    "rgba8": 4,
    "bgra8": 4,
    "mono16": 2,
    "rgb16": 6,
    "bgr16": 6,
    "rgba16": 8,
    "bgra16": 8,
    **{f"bayer_{pattern}8": 1 for pattern in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{pattern}16": 2 for pattern in ("rggb", "bggr", "gbrg", "grbg")},
    "uyvy": 2,
    "yuyv": 2,
    "yuv422_yuy2": 2,
    "nv12": 1,
    "nv21": 1,
}
"""Encodings of colour and grey pictures, with the bytes a pixel takes in a row."""

WIDE = frozenset(name for name in BYTES_PER_PIXEL if name.endswith("16"))
HALF_HEIGHT_CHROMA = frozenset({"nv12", "nv21"})


@dataclass
class PackedImage:
    """An image message's fields with the row padding taken out; what rosbags-image needs of a message."""

    height: int
    width: int
    encoding: str
    is_bigendian: bool
    step: int
    data: np.ndarray


class BitDepth:
    """How many of an image's 16 bits the camera uses."""

    def __init__(self, bits: int = 0) -> None:
        self.bits = bits
        self.note = ""


def image_to_rgb(message: Image | CompressedImage, bit_depth: BitDepth | None = None) -> np.ndarray:
    """The picture of an image message, [H, W, 3] uint8 RGB.

    Sixteen bits are scaled to eight, grey is repeated over the channels, Bayer and YUV are decoded.

    Raises:
        VPOGError: empty, truncated, unknown encoding, or not a colour or grey picture.
    """
    if hasattr(message, "format"):
        return decode_compressed(message)
    packed = unpad(message)
    rgb = convert_with_cv_bridge(packed) if cv_bridge_works() and encoding_is_flat(packed) else None
    return np.ascontiguousarray(convert_with_rosbags(packed) if rgb is None else rgb)


def decode_compressed(message: CompressedImage) -> np.ndarray:
    """[H, W, 3] uint8 RGB of a JPEG or PNG message."""
    data = np.frombuffer(message.data, np.uint8)
    if "compressedDepth" in message.format:
        raise VPOGError("The compressed image is a depth image: subscribe to the colour camera's topic.")
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
    if bgr is None:
        raise VPOGError(
            f"A compressed image ('{message.format}', {data.size} bytes) cannot be decoded: send JPEG or PNG."
        )
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def unpad(message: Image) -> PackedImage:
    """Check an image message's fields against each other and take the padding out of its rows."""
    encoding = ALIASES.get(message.encoding, message.encoding)
    if encoding not in BYTES_PER_PIXEL:
        known = ", ".join([*BYTES_PER_PIXEL, *ALIASES])
        raise VPOGError(
            f"Image encoding '{message.encoding}' is not a colour or grey picture: publish one of {known}."
        )
    if message.width <= 0 or message.height <= 0:
        raise VPOGError(f"The image is empty ({message.width}x{message.height}): check the camera driver.")
    rows = message.height
    if encoding in HALF_HEIGHT_CHROMA:
        if message.height % 2 or message.width % 2:
            raise VPOGError(
                f"A {encoding} image of {message.width}x{message.height} cannot be: sides must be even."
            )
        rows = message.height * 3 // 2
    row_bytes = message.width * BYTES_PER_PIXEL[encoding]
    step = message.step or row_bytes
    data = np.frombuffer(message.data, np.uint8)
    if step < row_bytes or data.size < step * (rows - 1) + row_bytes:
        raise VPOGError(
            f"The {message.width}x{message.height} {message.encoding} image has {data.size} bytes and a row "
            f"step of {message.step}: it needs a step of {row_bytes} and {row_bytes * rows} bytes."
        )
    if step > row_bytes:
        padded = np.zeros(step * rows, np.uint8)
        padded[: min(data.size, padded.size)] = data[: padded.size]
        data = np.ascontiguousarray(padded.reshape(rows, step)[:, :row_bytes]).reshape(-1)
    wide = encoding in WIDE
    return PackedImage(rows, message.width, encoding, bool(message.is_bigendian) and wide, row_bytes, data)


def convert_with_rosbags(packed: PackedImage) -> np.ndarray:
    """[H, W, 3] uint8 RGB through rosbags-image."""
    from rosbags.image import ImageError, image_to_cvimage

    try:
        return image_to_cvimage(packed, "rgb8")
    except ImageError as error:
        raise VPOGError(
            f"An image of encoding '{packed.encoding}' could not be converted: {error}."
        ) from error


def convert_with_cv_bridge(packed: PackedImage) -> np.ndarray | None:
    """[H, W, 3] uint8 RGB through cv_bridge, or None where it does not know the encoding."""
    from cv_bridge import CvBridge, CvBridgeError

    message = Image(
        height=packed.height,
        width=packed.width,
        encoding=packed.encoding,
        is_bigendian=int(packed.is_bigendian),
        step=packed.step,
    )
    message.data = packed.data.tobytes()
    try:
        rgb = CvBridge().imgmsg_to_cv2(message, "rgb8")
    except (CvBridgeError, cv2.error, RuntimeError):
        return None
    return rgb if rgb.ndim == 3 and rgb.dtype == np.uint8 else None


def encoding_is_flat(packed: PackedImage) -> bool:
    """Whether a row of the data is a row of the picture: not so with chroma in planes of their own."""
    return packed.encoding not in HALF_HEIGHT_CHROMA


@functools.cache
def cv_bridge_works() -> bool:
    """Whether cv_bridge imports and converts; the distribution's build fails beside numpy 2."""
    try:
        from cv_bridge import CvBridge

        pixel = Image(height=1, width=1, encoding="bgr8", step=3)
        pixel.data = bytes([1, 2, 3])
        return CvBridge().imgmsg_to_cv2(pixel, "rgb8").tolist() == [[[3, 2, 1]]]
    except Exception:
        return False


def rgb_to_image(rgb: np.ndarray, header) -> Image:
    """A message of a picture [H, W, 3] uint8 RGB, with the stamp and frame of `header`."""
    rgb = np.ascontiguousarray(rgb, dtype=np.uint8)
    message = Image(header=header, height=rgb.shape[0], width=rgb.shape[1], encoding="rgb8")
    message.step = rgb.shape[1] * 3
    message.is_bigendian = int(sys.byteorder == "big")
    fill_bytes(message, rgb)
    return message


def mask_to_image(mask: np.ndarray, header) -> Image:
    """A mono8 message of a mask [H, W], 255 inside."""
    pixels = np.where(mask, 255, 0).astype(np.uint8)
    message = Image(
        header=header, height=mask.shape[0], width=mask.shape[1], encoding="mono8", step=mask.shape[1]
    )
    fill_bytes(message, pixels)
    return message


def fill_bytes(message: Image, pixels: np.ndarray) -> None:
    """Set `data` without the check of every single byte that assigning a list or bytes costs."""
    data = array.array("B")
    data.frombytes(pixels.tobytes())
    message.data = data
