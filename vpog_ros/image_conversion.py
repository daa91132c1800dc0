"""Convert image messages to arrays and back; the only module that uses cv_bridge."""

from __future__ import annotations

import array
import functools
import sys

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from vpog_core.io.bit_depth import BitDepth
from vpog_core.messages import images
from vpog_core.messages.images import PackedImage, convert_with_rosbags, encoding_is_flat


def image_to_rgb(message: Image | CompressedImage, bit_depth: BitDepth | None = None) -> np.ndarray:
    """Read an image message as [H, W, 3] uint8 RGB, through cv_bridge where it works.

    Raises:
        VPOGError: see `vpog_core.messages.images.image_to_rgb`.
    """
    return images.image_to_rgb(message, bit_depth, convert)


def convert(packed: PackedImage) -> np.ndarray:
    """Convert a packed image of eight bits to [H, W, 3] uint8 RGB."""
    rgb = convert_with_cv_bridge(packed) if cv_bridge_works() and encoding_is_flat(packed) else None
    return convert_with_rosbags(packed) if rgb is None else rgb


def convert_with_cv_bridge(packed: PackedImage) -> np.ndarray | None:
    """Return [H, W, 3] uint8 RGB through cv_bridge, or None where it does not know the encoding."""
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


@functools.cache
def cv_bridge_works() -> bool:
    """Tell whether cv_bridge imports and converts; the distribution's build fails with numpy 2."""
    try:
        from cv_bridge import CvBridge

        pixel = Image(height=1, width=1, encoding="bgr8", step=3)
        pixel.data = bytes([1, 2, 3])
        return CvBridge().imgmsg_to_cv2(pixel, "rgb8").tolist() == [[[3, 2, 1]]]
    except Exception:
        return False


def rgb_to_image(rgb: np.ndarray, header) -> Image:
    """Return the message of an image [H, W, 3] uint8 RGB, with the stamp and frame of `header`."""
    rgb = np.ascontiguousarray(rgb, dtype=np.uint8)
    message = Image(header=header, height=rgb.shape[0], width=rgb.shape[1], encoding="rgb8")
    message.step = rgb.shape[1] * 3
    message.is_bigendian = int(sys.byteorder == "big")
    fill_bytes(message, rgb)
    return message


def mask_to_image(mask: np.ndarray, header) -> Image:
    """Return the mono8 message of a mask [H, W], 255 inside."""
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
