"""Image messages to arrays and back; the only place that touches cv_bridge or rosbags-image.

Row padding, data lengths and encodings are checked here first, and sixteen bits made eight, so that a broken
message gets one clear sentence and a pixel one value whichever library does the conversion.
"""

from __future__ import annotations

import array
import functools
import sys
from dataclasses import dataclass

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from vpog_core.io.bit_depth import BitDepth
from vpog_core.io.image_file import decode_image, to_rgb
from vpog_core.types import VPOGError

ALIASES = {
    "8UC1": "mono8",
    "8UC3": "bgr8",
    "8UC4": "bgra8",
    "16UC3": "bgr16",
    "yuv422": "uyvy",
}
"""Encodings that say less than they could, and what OpenCV users mean by them."""

DEPTH_ENCODINGS = frozenset({"16UC1", "32FC1"})
"""Distances in millimetres and metres (REP 118), no brightness."""

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
SHARED_CHROMA = frozenset({"uyvy", "yuyv", "yuv422_yuy2"})
"""Two neighbours in a row have one colour."""


@dataclass
class PackedImage:
    """An image message's fields with the row padding taken out; what rosbags-image needs of a message."""

    height: int
    width: int
    encoding: str
    is_bigendian: bool
    step: int
    data: np.ndarray


def image_to_rgb(message: Image | CompressedImage, bit_depth: BitDepth | None = None) -> np.ndarray:
    """The picture of an image message, [H, W, 3] uint8 RGB.

    Sixteen bits are scaled to eight, grey is repeated over the channels, Bayer and YUV are decoded.

    Args:
        bit_depth: scales the sixteen-bit images of this camera; None: each image by itself.

    Raises:
        VPOGError: empty, truncated, unknown encoding, or not a colour or grey picture.
    """
    bit_depth = bit_depth or BitDepth()
    if hasattr(message, "format"):
        return decode_compressed(message, bit_depth)
    return _packed_to_rgb(narrow(unpad(message), bit_depth))


def _packed_to_rgb(packed: PackedImage) -> np.ndarray:
    rgb = convert_with_cv_bridge(packed) if cv_bridge_works() and encoding_is_flat(packed) else None
    return np.ascontiguousarray(convert_with_rosbags(packed) if rgb is None else rgb)


def decode_compressed(message: CompressedImage, bit_depth: BitDepth) -> np.ndarray:
    """[H, W, 3] uint8 RGB of a JPEG or PNG message, as stored, whatever orientation its EXIF asks for."""
    name = " ".join(message.format.split())
    encoding = name.partition(";")[0].strip()
    if "compressedDepth" in name or encoding in DEPTH_ENCODINGS:
        raise VPOGError(
            f"The compressed image ('{name}') is a depth image: subscribe to the colour camera's topic."
        )
    pixels = decode_image(message.data, name, "compressed image").pixels
    mosaic = encoding.startswith("bayer_") and pixels.ndim == 2 and pixels.dtype in (np.uint8, np.uint16)
    if not mosaic:
        return to_rgb(pixels, name, bit_depth)
    if encoding not in BYTES_PER_PIXEL:
        raise _unknown(encoding)
    # image_transport compresses a Bayer image as it is.
    if pixels.dtype == np.uint16:
        pixels = bit_depth.shift(pixels, encoding)
    height, width = pixels.shape
    pattern = encoding.removesuffix("16").removesuffix("8") + "8"
    return _packed_to_rgb(PackedImage(height, width, pattern, False, width, pixels.reshape(-1)))


def narrow(packed: PackedImage, bit_depth: BitDepth) -> PackedImage:
    """The image in eight bits a channel; one that has them already as it is."""
    if packed.encoding not in WIDE:
        return packed
    values = packed.data.view(">u2" if packed.is_bigendian else "<u2").astype(np.uint16)
    channels = BYTES_PER_PIXEL[packed.encoding] // 2
    pixels = values.reshape(packed.height, packed.width, *([channels] if channels > 1 else []))
    eight = bit_depth.shift(pixels, packed.encoding).reshape(-1)
    encoding = packed.encoding.removesuffix("16") + "8"
    return PackedImage(packed.height, packed.width, encoding, False, packed.step // 2, eight)


def unpad(message: Image) -> PackedImage:
    """Check an image message's fields against each other and take the padding out of its rows."""
    encoding = _checked_encoding(message)
    rows = message.height * 3 // 2 if encoding in HALF_HEIGHT_CHROMA else message.height
    row_bytes = message.width * BYTES_PER_PIXEL[encoding]
    step = message.step or row_bytes
    data = np.frombuffer(message.data, np.uint8)
    if step < row_bytes or data.size < step * (rows - 1) + row_bytes:
        raise VPOGError(
            f"The {message.width}x{message.height} {message.encoding} image has {data.size} bytes and a row "
            f"step of {message.step}: it needs a step of {row_bytes} and {row_bytes * rows} bytes."
        )
    # The last row may lack its padding, so that the data cannot be reshaped.
    packed = np.ascontiguousarray(np.lib.stride_tricks.as_strided(data, (rows, row_bytes), (step, 1)))
    wide = encoding in WIDE
    return PackedImage(
        rows, message.width, encoding, bool(message.is_bigendian) and wide, row_bytes, packed.reshape(-1)
    )


def _checked_encoding(message: Image) -> str:
    """The encoding of a message, one of `BYTES_PER_PIXEL`, or a VPOGError that says why there is none."""
    encoding, size = ALIASES.get(message.encoding, message.encoding), f"{message.width}x{message.height}"
    if encoding in DEPTH_ENCODINGS:
        raise VPOGError(
            f"An image of encoding '{encoding}' is a depth image: subscribe to the colour camera's topic; a "
            "grey image of 16 bits is mono16."
        )
    if encoding not in BYTES_PER_PIXEL:
        raise _unknown(message.encoding)
    if message.width <= 0 or message.height <= 0:
        raise VPOGError(f"The image is empty ({size}): check the camera driver.")
    if encoding in HALF_HEIGHT_CHROMA and (message.height % 2 or message.width % 2):
        raise VPOGError(f"A {encoding} image of {size} cannot be: sides must be even.")
    if encoding in SHARED_CHROMA and message.width % 2:
        raise VPOGError(f"A {encoding} image of {size} cannot be: its width must be even.")
    return encoding


def _unknown(encoding: str) -> VPOGError:
    known = ", ".join([*BYTES_PER_PIXEL, *ALIASES])
    return VPOGError(f"Image encoding {encoding!r} is not a colour or grey picture: publish one of {known}.")


def convert_with_rosbags(packed: PackedImage) -> np.ndarray:
    """[H, W, 3] uint8 RGB through rosbags-image."""
    from rosbags.image import ImageError, image_to_cvimage

    try:
        return image_to_cvimage(packed, "rgb8")
    except (ImageError, cv2.error) as error:
        raise VPOGError(
            f"A {packed.width}x{packed.height} image of encoding '{packed.encoding}' could not be converted: "
            f"{' '.join(str(error).split())}."
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
