"""Publish drawn images, raw and as JPEG, where they are wanted."""

from __future__ import annotations

import array
from collections.abc import Callable

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from vpog_core.types import VPOGError
from vpog_ros.image_conversion import rgb_to_image
from vpog_ros.outputs.wanted import is_wanted

JPEG = "rgb8; jpeg compressed bgr8"
"""Format of compressed images as image_transport writes it: encoding of the image, and of the JPEG."""


class ImageOutput:
    """Publishes one image on a topic, and as JPEG on <topic>/compressed, as image_transport names it.

    Args:
        create: makes a publisher of (message type, topic name, depth).
        topic: of the raw image.
    """

    def __init__(self, create: Callable, topic: str) -> None:
        self._raw = create(Image, topic, 2)
        self._compressed = create(CompressedImage, f"{topic}/compressed", 2)

    @property
    def is_wanted(self) -> bool:
        """Tell whether either is wanted."""
        return is_wanted(self._raw) or is_wanted(self._compressed)

    def publish(self, rgb: np.ndarray, header: Header, quality: int) -> None:
        """Publish an image [H, W, 3] uint8 RGB on the topics where it is wanted.

        Args:
            quality: of the JPEG, 1 to 100.
        """
        if is_wanted(self._raw):
            self._raw.publish(rgb_to_image(rgb, header))
        if is_wanted(self._compressed):
            self._compressed.publish(rgb_to_jpeg(rgb, header, quality))


def rgb_to_jpeg(rgb: np.ndarray, header: Header, quality: int) -> CompressedImage:
    """Return the message of an image [H, W, 3] uint8 RGB as JPEG of a quality from 1 to 100.

    Raises:
        VPOGError: JPEG holds no image of this size.
    """
    try:
        done, encoded = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error:
        done = False
    if not done:
        height, width = rgb.shape[:2]
        raise VPOGError(
            f"An image of {width}x{height} cannot be written as JPEG: subscribe to the raw topic instead."
        )
    message = CompressedImage(header=header, format=JPEG)
    data = array.array("B")
    data.frombytes(encoded.tobytes())
    message.data = data
    return message
