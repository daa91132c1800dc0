"""From a detection to the network's crop, and the camera that took it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpog_core.geometry.camera import VirtualCamera, look_at_crop, warp
from vpog_core.types import Camera, Detection, VPOGError


@dataclass
class Crop:
    """A look-at crop; P is its side in pixels.

    Attributes:
        rgb: [P, P, 3] uint8; mask: [P, P] bool, or None where the detection has none.
        virtual: the camera of the crop.
    """

    rgb: np.ndarray
    mask: np.ndarray | None
    virtual: VirtualCamera


def crop_detection(image: np.ndarray, camera: Camera, detection: Detection, size: int) -> Crop:
    """The crop of `size` pixels around a detection in an RGB image [H, W, 3] uint8.

    Raises:
        VPOGError: the box is empty or outside the image; the mask is empty or of another size.
    """
    virtual = look_at_crop(camera, detection.box, size)
    mask = None
    if detection.mask is not None:
        given = np.asarray(detection.mask)
        if given.shape != image.shape[:2]:
            shape = "x".join(str(n) for n in (*given.shape[1::-1], *given.shape[2:]))
            raise VPOGError(
                f"The mask is {shape} where the image is {image.shape[1]}x{image.shape[0]}: "
                "send masks in the image's size."
            )
        mask = warp((given != 0).astype(np.uint8) * 255, camera, virtual) > 127
        if not mask.any():
            raise VPOGError("The mask is empty inside the box: check the detector, or send the box alone.")
    return Crop(warp(image, camera, virtual), mask, virtual)


def check_image(image: np.ndarray, camera: Camera) -> None:
    """Refuse what is no RGB image of the camera's size, by a VPOGError."""
    if not isinstance(image, np.ndarray):
        raise VPOGError(f"The image is a {type(image).__name__}: give [H, W, 3] uint8 RGB.")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise VPOGError(f"The image is {image.dtype} {image.shape}: give [H, W, 3] uint8 RGB.")
    if image.shape[:2] != (camera.height, camera.width):
        raise VPOGError(
            f"The image is {image.shape[1]}x{image.shape[0]} and the camera {camera.width}x{camera.height}: "
            "use the CameraInfo of this image."
        )
