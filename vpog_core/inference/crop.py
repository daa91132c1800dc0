"""From a detection to the network's crop, and the camera that took it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpog_core.geometry.camera import VirtualCamera, look_at_crop, warp
from vpog_core.geometry.framing import crop_hull
from vpog_core.geometry.se3 import invert
from vpog_core.types import Camera, Detection, VPOGError

SAME_SCALE, SAME_PLACE = 1.1, 0.06
"""A crop that would change by less is not taken anew: its scale by this factor, its middle by this
fraction of its side."""


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
    return _take(image, camera, detection.mask, look_at_crop(camera, detection.box, size))


def recrop(crop: Crop, image: np.ndarray, camera: Camera, mask: np.ndarray | None, hull: np.ndarray) -> Crop:
    """Take a crop anew around where a pose puts the whole object; a box shows the visible part alone.

    Args:
        crop: as it is; image, camera, mask: what it was taken from, as for `crop_detection`.
        hull: [N, 3] the object's hull, metres, camera frame.

    Returns:
        the new crop; the old one where that would show next to the same, or nothing that can be used.
    """
    old, new = crop.virtual, crop_hull(hull, crop.virtual.size)
    if new is None or _nearly_same(old, new):
        return crop
    try:
        return _take(image, camera, mask, new)
    except VPOGError:  # the mask lies beside the pose
        return crop


def pose_in_crop(crop: Crop, T_cam_obj: np.ndarray) -> np.ndarray:
    """Convert a pose [4, 4] in the real camera's frame to the crop's virtual camera."""
    return invert(crop.virtual.T_cam_virt) @ T_cam_obj


def _nearly_same(old: VirtualCamera, new: VirtualCamera) -> bool:
    """Tell whether two crops show nearly the same part of an image."""
    middle = old.R_virt_cam @ new.R_virt_cam[2]
    away = np.abs(middle[:2] / middle[2]).max() * old.K[0, 0] / old.size if middle[2] > 0 else np.inf
    return away < SAME_PLACE and abs(np.log(new.K[0, 0] / old.K[0, 0])) < np.log(SAME_SCALE)


def _take(image: np.ndarray, camera: Camera, given: np.ndarray | None, virtual: VirtualCamera) -> Crop:
    """Take the crop that a virtual camera sees; `given` is the detection's mask, or None."""
    mask = None
    if given is not None:
        given = np.asarray(given)
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
