"""Read image messages as arrays.

Row padding, data lengths and encodings are checked here first, and sixteen bits made eight, so that a broken
message gets one clear sentence and a pixel one value whichever library does the conversion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

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
"""Generic encodings of OpenCV types, and the colour encodings that their users mean."""

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
"""Encodings of colour and grey images, with the bytes a pixel takes in a row."""

WIDE = frozenset(name for name in BYTES_PER_PIXEL if name.endswith("16"))
HALF_HEIGHT_CHROMA = frozenset({"nv12", "nv21"})
SHARED_CHROMA = frozenset({"uyvy", "yuyv", "yuv422_yuy2"})
"""Encodings in which two neighbours in a row share their colour."""


@dataclass
class PackedImage:
    """Holds an image message's fields without row padding, as rosbags-image needs them."""

    height: int
    width: int
    encoding: str
    is_bigendian: bool
    step: int
    data: np.ndarray


Convert = Callable[[PackedImage], np.ndarray]
"""Makes [H, W, 3] uint8 RGB of a packed image of eight bits."""


def image_to_rgb(message, bit_depth: BitDepth | None = None, convert: Convert | None = None) -> np.ndarray:
    """Read an image message (sensor_msgs Image or CompressedImage) as [H, W, 3] uint8 RGB.

    Sixteen bits are scaled to eight, grey is repeated over the channels, Bayer and YUV are decoded.

    Args:
        bit_depth: scales the sixteen-bit images of this camera; None: each image is scaled independently.
        convert: decodes Bayer, YUV and the like; None: `convert_with_rosbags`.

    Raises:
        VPOGError: empty, truncated, unknown encoding, or not a colour or grey image.
    """
    bit_depth, convert = bit_depth or BitDepth(), convert or convert_with_rosbags
    if hasattr(message, "format"):
        return decode_compressed(message, bit_depth, convert)
    return np.ascontiguousarray(convert(narrow(unpad(message), bit_depth)))


def decode_compressed(message, bit_depth: BitDepth, convert: Convert) -> np.ndarray:
    """Decode a JPEG or PNG message to [H, W, 3] uint8 RGB as stored; its EXIF orientation is ignored."""
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
    # image_transport compresses Bayer images without demosaicing.
    if pixels.dtype == np.uint16:
        pixels = bit_depth.shift(pixels, encoding)
    height, width = pixels.shape
    pattern = encoding.removesuffix("16").removesuffix("8") + "8"
    return np.ascontiguousarray(
        convert(PackedImage(height, width, pattern, False, width, pixels.reshape(-1)))
    )


def narrow(packed: PackedImage, bit_depth: BitDepth) -> PackedImage:
    """Convert an image to eight bits a channel; one that has them is returned as it is."""
    if packed.encoding not in WIDE:
        return packed
    values = packed.data.view(">u2" if packed.is_bigendian else "<u2").astype(np.uint16)
    channels = BYTES_PER_PIXEL[packed.encoding] // 2
    pixels = values.reshape(packed.height, packed.width, *([channels] if channels > 1 else []))
    eight = bit_depth.shift(pixels, packed.encoding).reshape(-1)
    encoding = packed.encoding.removesuffix("16") + "8"
    return PackedImage(packed.height, packed.width, encoding, False, packed.step // 2, eight)


def unpad(message) -> PackedImage:
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


def _checked_encoding(message) -> str:
    """Return the encoding of a message, one of `BYTES_PER_PIXEL`; else raise a VPOGError."""
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
    return VPOGError(f"Image encoding {encoding!r} is not a colour or grey image: publish one of {known}.")


def convert_with_rosbags(packed: PackedImage) -> np.ndarray:
    """Convert an image to [H, W, 3] uint8 RGB by rosbags-image."""
    from rosbags.image import ImageError, image_to_cvimage

    try:
        return image_to_cvimage(packed, "rgb8")
    except (ImageError, cv2.error) as error:
        raise VPOGError(
            f"A {packed.width}x{packed.height} image of encoding '{packed.encoding}' could not be converted: "
            f"{' '.join(str(error).split())}."
        ) from error


def encoding_is_flat(packed: PackedImage) -> bool:
    """Tell whether a row of the data is a row of the image: not so with separate chroma planes."""
    return packed.encoding not in HALF_HEIGHT_CHROMA
