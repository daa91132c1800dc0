"""Cut the network's crop of a detection out of an image, and make the camera of the crop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpog_core.geometry.camera import VirtualCamera, look_at_crop, warp
from vpog_core.types import Camera, Detection, VPOGError


@dataclass
class Crop:
    """Holds a look-at crop; P is its side in pixels.

    Attributes:
        rgb: [P, P, 3] uint8; mask: [P, P] bool, or None where the detection has none.
        virtual: the camera of the crop.
    """

    rgb: np.ndarray
    mask: np.ndarray | None
    virtual: VirtualCamera


def crop_detection(image: np.ndarray, camera: Camera, detection: Detection, size: int) -> Crop:
    """Cut the crop of `size` pixels around a detection out of an RGB image [H, W, 3] uint8.

    Raises:
        VPOGError: the box is empty or outside the image; the mask is empty or of another size.
    """
    if detection.mask is not None and not np.any(detection.mask):
        raise VPOGError("The mask is empty: check the detector, or send the box alone.")
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


def as_camera(camera: Camera | np.ndarray, image: np.ndarray) -> Camera:
    """Return a camera as it is, or make one without distortion of intrinsics K [3, 3].

    Raises:
        VPOGError: K is no intrinsic matrix, or the image has no size.
    """
    if isinstance(camera, Camera):
        return camera
    remedy = "give a Camera, or intrinsics K [3, 3]"
    try:
        K = np.asarray(camera, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise VPOGError(f"The camera is {_kind(camera)}: {remedy}.") from error
    if K.shape != (3, 3):
        raise VPOGError(f"The camera is an array of shape {K.shape}: {remedy}.")
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        raise VPOGError(f"The image is {_kind(image)}: give [H, W, 3] uint8 RGB.")
    return Camera(K, image.shape[1], image.shape[0])


def check_image(image: np.ndarray, camera: Camera) -> None:
    """Raise a VPOGError for what is not an RGB image of the camera's size."""
    array = isinstance(image, np.ndarray)
    if not array or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise VPOGError(f"The image is {_kind(image)}: give [H, W, 3] uint8 RGB.")
    if image.shape[:2] != (camera.height, camera.width):
        raise VPOGError(
            f"The image is {image.shape[1]}x{image.shape[0]} and the camera {camera.width}x{camera.height}: "
            "use the CameraInfo of this image."
        )


def _kind(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
