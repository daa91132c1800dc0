"""Open image files and encoded images as stored: the pixels that a calibration belongs to.

The orientation that a camera writes beside the pixels (EXIF) is left alone: K and detections are those of
the stored pixels. OpenCV decodes, since Pillow cuts 16-bit colours to 8; Pillow reads the header, which
OpenCV hides.
"""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from vpog_core.io.bit_depth import BitDepth
from vpog_core.io.file_bytes import read_bytes
from vpog_core.types import VPOGError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Files of a folder of photographs."""

log = logging.getLogger(__name__)

# Pillow warns of broken tags in a header; what cannot be read is refused by a sentence.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

ORIENTATION = 0x0112
"""EXIF's tag for the way to turn an image before it is shown."""
SEVERAL_IMAGES = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
"""Formats whose further frames are other images; those of JPEG's MPO belong to the first."""
FOREIGN_MODES = ("CMYK", "LAB", "YCbCr", "HSV")
"""Colours that OpenCV takes for RGB outside of JPEG."""
LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "JPEG2000")


class Header(NamedTuple):
    """Holds what Pillow reads of an image before its pixels."""

    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    turned: bool = False


@dataclass(frozen=True)
class StoredImage:
    """Holds an image as its file stores it.

    Attributes:
        pixels: [H, W] or [H, W, C] in OpenCV's order (BGR, BGRA), of any type.
        lossy: the format may have changed the values.
        turned: EXIF specifies another orientation than the stored one.
    """

    pixels: np.ndarray
    lossy: bool = False
    turned: bool = False


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as [H, W, 3] uint8 RGB; what is not used of it is logged.

    Raises:
        VPOGError: missing, not an image, or not one of colours or grey.
    """
    stored, depth = open_image(path), BitDepth()
    if stored.turned:
        log.warning(
            "The image '%s' asks to be turned when it is shown (EXIF); its pixels are taken as they are "
            "stored, so camera, box and mask must be those of the image that is not turned.",
            path,
        )
    rgb = to_rgb(stored.pixels, str(path), depth)
    if split_alpha(stored.pixels)[1] is not None:
        log.warning("The image '%s' has transparent parts: what they hide is taken as black.", path)
    if 0 < depth.found < 16:
        log.warning("The image '%s' uses %d of 16 bits, and is scaled by them.", path, depth.found)
    return rgb


def read_photo(path: Path) -> np.ndarray:
    """Read a photograph: [h, w, 3] uint8 RGB.

    Raises:
        VPOGError: the file cannot be read.
    """
    return to_rgb(open_image(path, "photograph").pixels, str(path))


def read_radiance(path: str | Path) -> np.ndarray:
    """Read an environment map as [H, W, 3] float32 RGB.

    Raises:
        VPOGError: missing, or not a file of colours in floating point.
    """
    pixels = open_image(path, "environment map").pixels
    if pixels.ndim != 3 or pixels.shape[2] < 3:
        raise VPOGError(f"The environment map '{path}' has no colours: replace or remove it.")
    return pixels[..., 2::-1]


def open_image(path: str | Path, what: str = "image") -> StoredImage:
    """Read an image file as it is stored; `what` names it in errors.

    Raises:
        VPOGError: missing, not an image, or several in one file.
    """
    return decode_image(read_bytes(path, what), str(path), what)


def decode_image(data: bytes, name: str, what: str = "image") -> StoredImage:
    """Return the image of a file's content, as it is stored; `what` and `name` name it in errors.

    Raises:
        VPOGError: not an image, several in one file, or too large.
    """
    header = _read_header(data, name, what) or Header()
    lossy = header.format in LOSSY
    foreign = header.mode in FOREIGN_MODES and not lossy
    pixels = _decoded_by_pillow(data) if foreign else _decoded_by_opencv(data)
    if pixels is None or pixels.size == 0:
        raise _unreadable(name, what)
    return StoredImage(pixels, lossy, header.turned)


def encoded_size(data: bytes, name: str) -> tuple[int, int]:
    """Return (width, height) of an encoded image as stored, from its header alone.

    Raises:
        VPOGError: not an image.
    """
    header = _read_header(data, name, "image")
    if header is None:
        raise _unreadable(name, "image")
    return header.size


def to_rgb(pixels: np.ndarray, name: str, depth: BitDepth | None = None) -> np.ndarray:
    """Return [H, W, 3] uint8 RGB of stored pixels in OpenCV's order.

    Sixteen bits are scaled by the bits in use; where alpha varies, what it hides is black.

    Raises:
        VPOGError: not 8 or 16 bits: a depth map, for one.
    """
    if pixels.dtype == np.uint16:
        pixels = (depth or BitDepth()).shift(pixels, "16-bit")
    if pixels.dtype != np.uint8:
        raise VPOGError(
            f"The image '{name}' holds {pixels.dtype} numbers, as depth maps do: give a colour image."
        )
    colours, alpha = split_alpha(pixels)
    if alpha is not None:
        colours = (colours * (alpha[..., None] / np.float32(255)) + 0.5).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colours[..., ::-1], (*colours.shape[:2], 3)))


def split_alpha(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return (colours [H, W, 1 or 3], alpha [H, W]); alpha is None where it is the same everywhere."""
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    channels = pixels.shape[2]
    if channels in (1, 3):
        return pixels, None
    colours, alpha = pixels[..., : 3 if channels >= 4 else 1], pixels[..., 3 if channels >= 4 else 1]
    return colours, None if alpha.min() == alpha.max() else alpha


def _read_header(data: bytes, name: str, what: str) -> Header | None:
    """Read an image's header; None where Pillow does not know the format."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            several = image.format in SEVERAL_IMAGES and getattr(image, "is_animated", False)
            turned = image.getexif().get(ORIENTATION, 1) != 1
            header = Header(image.format, image.mode, image.size, turned)
    except Image.DecompressionBombError as error:
        raise VPOGError(f"The {what} '{name}' is too large ({error}): give a smaller one.") from error
    except Exception:  # decoders raise nearly anything for broken bytes
        return None
    if several:
        raise VPOGError(f"The {what} '{name}' holds several images: save the one that is meant alone.")
    return header


def _unreadable(name: str, what: str) -> VPOGError:
    return VPOGError(
        f"The {what} '{name}' cannot be read: it is not whole, or of a format that is not known "
        "(PNG and JPEG are)."
    )


def _decoded_by_opencv(data: bytes) -> np.ndarray | None:
    if not len(data):
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def _decoded_by_pillow(data: bytes) -> np.ndarray | None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))[..., ::-1]
    except Exception:  # decoders raise nearly anything for broken bytes
        return None
