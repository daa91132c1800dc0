"""Project with distortion, and make look-at crops: a virtual pinhole camera that looks at a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vpog_core.geometry.boxes import usable_box
from vpog_core.geometry.se3 import rotation_z, transform
from vpog_core.types import MAX_FOCAL_LENGTH, Camera, VPOGError

BOX_PADDING = 1.05
"""Side of a crop over the diagonal of its box: a square of this side holds the box at every roll."""
MAX_TANGENT = float(np.tan(np.deg2rad(85)))
"""How far a ray at z = 1 may be off the axis of a pinhole camera."""
COARSE = 0.75
"""A crop of fewer pixels than this fraction of the image's is made from the image scaled down."""


@dataclass(frozen=True)
class VirtualCamera:
    """Holds a pinhole camera without distortion at the real camera's centre.

    Attributes:
        K: [3, 3] float64 intrinsics, pixels.
        R_virt_cam: [3, 3] float64, real camera frame to virtual camera frame.
        size: side of its square image, pixels.
    """

    K: np.ndarray
    R_virt_cam: np.ndarray
    size: int

    @property
    def T_cam_virt(self) -> np.ndarray:
        """The transform [4, 4] from the virtual camera's frame to the real camera's."""
        return transform(self.R_virt_cam.T, np.zeros(3))


def project(camera: Camera, points_cam: np.ndarray) -> np.ndarray:
    """Project points [..., 3] in the camera frame (metres, z > 0) to pixels [..., 2]."""
    points = np.asarray(points_cam, dtype=np.float64).reshape(-1, 1, 3)
    zero = np.zeros(3)
    if camera.model == "equidistant":
        distortion = camera.distortion if camera.distortion.size else np.zeros(4)
        pixels = cv2.fisheye.projectPoints(points, zero, zero, camera.K, distortion)[0]
    else:
        pixels = cv2.projectPoints(points, zero, zero, camera.K, camera.distortion)[0]
    return pixels.reshape(*np.shape(points_cam)[:-1], 2)


def pixel_rays(camera: Camera, pixels: np.ndarray) -> np.ndarray:
    """Compute viewing rays [N, 3] (z = 1, camera frame) of pixels [N, 2]."""
    pixels = np.asarray(pixels, dtype=np.float64).reshape(-1, 1, 2)
    if not pixels.size:
        return np.zeros((0, 3))
    if camera.model == "equidistant":
        distortion = camera.distortion if camera.distortion.size else np.zeros(4)
        plane = cv2.fisheye.undistortPoints(pixels, camera.K, distortion)
    else:
        plane = cv2.undistortPoints(pixels, camera.K, camera.distortion)
    plane = plane.reshape(-1, 2)
    return np.concatenate([plane, np.ones((len(plane), 1))], axis=1)


def rotation_towards(ray: np.ndarray) -> np.ndarray:
    """Compute the smallest rotation R_virt_cam [3, 3] that turns the optical axis onto `ray` [3]."""
    z = np.asarray(ray, dtype=np.float64) / np.linalg.norm(ray)
    # Rodrigues for the rotation from (0, 0, 1) to z, written out; ray.z > 0 for every pixel.
    x, y, c = z
    k = 1.0 / (1.0 + c)
    R_cam_virt = np.array([[1 - x * x * k, -x * y * k, x], [-x * y * k, 1 - y * y * k, y], [-x, -y, c]])
    return R_cam_virt.T


def fit_square(corner_rays: np.ndarray, size: int, pad: float = BOX_PADDING) -> np.ndarray:
    """Compute K [3, 3] of a square image of `size` pixels, `pad` times the diagonal of the rays' box wide.

    Args:
        corner_rays: [N, 3] rays in the virtual camera frame, z > 0.
    """
    plane = corner_rays[:, :2] / corner_rays[:, 2:]
    diagonal = float(np.linalg.norm(plane.max(axis=0) - plane.min(axis=0)))
    focal = size / (pad * diagonal)
    centre = (size - 1) / 2.0
    return np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]], dtype=np.float64)


def look_at_crop(
    camera: Camera, box: np.ndarray, size: int, roll: float = 0.0, pad: float = BOX_PADDING
) -> VirtualCamera:
    """Make the virtual camera that looks at the middle of a box.

    Args:
        box: [4] (x0, y0, x1, y1), pixels; the part inside the image is used.
        size: side of the crop, pixels.
        roll: radians the crop's content is turned by, in the image from x towards y.
        pad: side of the crop over the diagonal of the box.

    Raises:
        VPOGError: the box is empty, not finite, outside the image, or where the camera has no pinhole's rays.
    """
    box = usable_box(box, camera)
    x0, y0, x1, y1 = box
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    rays = pixel_rays(camera, np.concatenate([[(corners[0] + corners[2]) / 2], corners]))
    _check_rays(rays, box)
    R_level = rotation_towards(rays[0])
    level = rays[1:] @ R_level.T
    _check_rays(level, box)
    K = fit_square(level, size, pad)
    return VirtualCamera(K=K, R_virt_cam=rotation_z(roll) @ R_level, size=size)


def _check_rays(rays: np.ndarray, box: np.ndarray) -> None:
    """Refuse rays [N, 3] that are far off the axis, or the same, by a VPOGError that names the box."""
    plane = rays[:, :2] / rays[:, 2:]
    seen = (rays[:, 2] > 0).all() and (np.abs(plane) < MAX_TANGENT).all()
    if not seen or np.linalg.norm(np.ptp(plane, axis=0)) < 1 / MAX_FOCAL_LENGTH:
        text = ", ".join(f"{value:g}" for value in box)
        raise VPOGError(
            f"The box ({text}) lies where the camera's rays are over 85 degrees off its axis, or its "
            "distortion cannot be undone: check the calibration's distortion."
        )


def warp(image: np.ndarray, camera: Camera, virtual: VirtualCamera) -> np.ndarray:
    """Warp an image [H, W(, 3)] to the virtual camera, [size, size(, 3)]; black outside of the image.

    One remap does rotation, distortion and scale; masks ([H, W] uint8) go the same way.
    """
    return warp_all((image,), camera, virtual)[0]


def warp_all(images: Sequence[np.ndarray], camera: Camera, virtual: VirtualCamera) -> list[np.ndarray]:
    """Warp several images [H, W(, 3)] of one camera as `warp` does; pixels are mapped once."""
    x, y = _pixels_seen(camera, virtual)
    scale = virtual.K[0, 0] / camera.K[0, 0]
    seen = [_shrunk(image, x, y, scale) if scale < COARSE else (image, x, y) for image in images]
    return [cv2.remap(*one, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) for one in seen]


def _pixels_seen(camera: Camera, virtual: VirtualCamera) -> tuple[np.ndarray, np.ndarray]:
    """Compute which image pixels x and y, [size, size] float32, each pixel of the virtual camera sees."""
    size = (virtual.size, virtual.size)
    rotation, K = virtual.R_virt_cam, virtual.K
    if camera.model == "equidistant":
        distortion = camera.distortion if camera.distortion.size else np.zeros(4)
        return cv2.fisheye.initUndistortRectifyMap(camera.K, distortion, rotation, K, size, cv2.CV_32FC1)
    return cv2.initUndistortRectifyMap(camera.K, camera.distortion, rotation, K, size, cv2.CV_32FC1)


def _shrunk(
    image: np.ndarray, x: np.ndarray, y: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crop the visible part of the image, scale it down by area, and convert the pixels to it.

    So a remap to a much coarser image does not alias, and costs what the crop does, not the whole image.
    """
    rows, columns = (
        _span(at, 2.0 / scale, length) for at, length in zip((y, x), image.shape[:2], strict=True)
    )
    part = image[rows, columns]
    height, width = (max(1, round(length * scale)) for length in part.shape[:2])
    small = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    to_x, to_y = width / part.shape[1], height / part.shape[0]
    return small, (x - columns.start + 0.5) * to_x - 0.5, (y - rows.start + 0.5) * to_y - 0.5


def _span(places: np.ndarray, margin: float, length: int) -> slice:
    """Return the range of pixels 0..length-1 around places, at least one."""
    first = int(np.clip(np.floor(places.min() - margin), 0, length - 1))
    return slice(first, int(np.clip(np.ceil(places.max() + margin) + 1, first + 1, length)))


def scale_intrinsics(K: np.ndarray, scale: float) -> np.ndarray:
    """Return K [3, 3] of the image resized by `scale`, pixel centres at integers."""
    scaled = K.copy()
    scaled[:2] *= scale
    scaled[:2, 2] += (scale - 1.0) / 2.0
    return scaled


def roll_matrix(roll: float, size: int) -> np.ndarray:
    """Return the matrix [2, 3] that rotates a square image about its middle by `roll` radians, from x to y.

    The image of a camera whose principal point is the middle, rolled by `rotation_z(roll)`.
    """
    c, s, m = np.cos(roll), np.sin(roll), (size - 1) / 2
    return np.array([[c, -s, m - c * m + s * m], [s, c, m - s * m - c * m]])
