"""Make look-at crops: images of a virtual pinhole camera that looks at a box."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vpog_core.geometry import pinhole
from vpog_core.geometry.boxes import usable_box
from vpog_core.geometry.projection import MAX_TANGENT, can_project, fisheye_distortion, pixel_rays
from vpog_core.geometry.se3 import rotation_z, transform
from vpog_core.types import MAX_FOCAL_LENGTH, Camera, VPOGError

BOX_PADDING = 1.05
"""Side of a crop over the diagonal of its box: a square of this side holds the box at every roll."""
COARSE = 0.75
"""A crop of fewer pixels than this fraction of the image's is made from the image scaled down."""
OUTSIDE = -1e4
"""Coordinate of a pixel that lies outside of the image, however that is scaled down."""


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


def warp(
    image: np.ndarray, camera: Camera, virtual: VirtualCamera, border: int = cv2.BORDER_CONSTANT
) -> np.ndarray:
    """Warp an image [H, W(, 3)] to the virtual camera, [size, size(, 3)].

    One remap does rotation, distortion and scale; masks ([H, W] uint8) go the same way.

    Args:
        border: what is outside of the image: black, or the nearest pixel (`cv2.BORDER_REPLICATE`).
    """
    x, y = _pixels_seen(camera, virtual)
    return _resampled(image, x, y, _scales(x, y), border)


def warp_masked(
    image: np.ndarray, mask: np.ndarray | None, camera: Camera, virtual: VirtualCamera
) -> tuple[np.ndarray, np.ndarray]:
    """Warp an image [H, W(, 3)] and its mask as `warp` does; pixels are mapped once.

    Args:
        mask: [H, W] uint8; None: 255 everywhere, which is not resampled where the image's border is not seen.
    """
    x, y = _pixels_seen(camera, virtual)
    scales = _scales(x, y)
    warped = _resampled(image, x, y, scales)
    if mask is None and _lie_inside(x, y, scales, image.shape[:2]):
        return warped, np.full(x.shape, 255, np.uint8)
    mask = np.full(image.shape[:2], 255, np.uint8) if mask is None else mask
    return warped, _resampled(mask, x, y, scales)


def pixels_inside(camera: Camera, virtual: VirtualCamera) -> np.ndarray:
    """Return 1 where a pixel of the virtual camera sees the image, and 0 elsewhere, [size, size] uint8."""
    x, y = _pixels_seen(camera, virtual)
    inside = (x >= 0) & (x <= camera.width - 1) & (y >= 0) & (y <= camera.height - 1)
    return inside.astype(np.uint8)


def _resampled(
    image: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    scales: tuple[float, float],
    border: int = cv2.BORDER_CONSTANT,
) -> np.ndarray:
    """Resample an image [H, W(, 3)] at pixels x and y, [size, size]; outside of it as `warp` does."""
    seen = _shrunk(image, x, y, scales) if min(scales) < COARSE else (image, x, y)
    return cv2.remap(*seen, interpolation=cv2.INTER_LINEAR, borderMode=border)


def _lie_inside(x: np.ndarray, y: np.ndarray, scales: tuple[float, float], shape: tuple[int, int]) -> bool:
    """Tell whether pixels x and y, [size, size], lie so far inside an image [H, W] that none is blended."""
    # The outer pixels of an image that is scaled down have their centres half a pixel of its own further in.
    return all(
        bool(at.min() >= 1.0 / scale and at.max() <= length - 1 - 1.0 / scale)
        for at, scale, length in zip((x, y), scales, shape[::-1], strict=True)
    )


def _pixels_seen(camera: Camera, virtual: VirtualCamera) -> tuple[np.ndarray, np.ndarray]:
    """Compute which image pixels x and y, [size, size] float32, each pixel of the virtual camera sees."""
    size = (virtual.size, virtual.size)
    rotation, K = virtual.R_virt_cam, virtual.K
    if camera.model == "equidistant":
        distortion = fisheye_distortion(camera)
        return cv2.fisheye.initUndistortRectifyMap(camera.K, distortion, rotation, K, size, cv2.CV_32FC1)
    x, y = cv2.initUndistortRectifyMap(camera.K, camera.distortion, rotation, K, size, cv2.CV_32FC1)
    # What the camera can project is a cone: where the corners lie in it, all pixels do.
    if not can_project(camera, _rays(virtual, np.array([0, virtual.size - 1]))).all():
        seen = can_project(camera, _rays(virtual, np.arange(virtual.size)))
        x, y = (np.where(seen, at, np.float32(OUTSIDE)) for at in (x, y))
    return x, y


def _rays(virtual: VirtualCamera, places: np.ndarray) -> np.ndarray:
    """Return the rays [N, N, 3] of the pixels at these rows and columns [N], in the real camera's frame."""
    pixels = np.stack(np.meshgrid(places, places), axis=-1)
    return pinhole.to_rays(pixels, virtual.K) @ virtual.R_virt_cam


def _scales(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return how many pixels of the crop an image's pixel has along x and along y; 1 at most.

    Args:
        x, y: [size, size] the image's pixels that the crop's see.
    """
    # One row in eight is enough. A fisheye camera sees nothing behind it, which is infinite here.
    with np.errstate(invalid="ignore"):
        steps = [np.hypot(np.diff(at[:-1:8], axis=1), (at[1::8] - at[:-1:8])[:, :-1]) for at in (x, y)]
    found = [step[np.isfinite(step)] for step in steps]
    across, down = (1.0 / max(float(np.median(step)), 1.0) if step.size else 1.0 for step in found)
    return across, down


def _shrunk(
    image: np.ndarray, x: np.ndarray, y: np.ndarray, scales: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crop the visible part of the image, scale it down by area, and convert the pixels to it.

    So a remap to a much coarser image does not alias, and costs what the crop does, not the whole image.
    """
    columns, rows = (
        _span(at, 2.0 / scale, length)
        for at, scale, length in zip((x, y), scales, image.shape[1::-1], strict=True)
    )
    part = image[rows, columns]
    height, width = (
        max(1, round(length * scale)) for length, scale in zip(part.shape[:2], scales[::-1], strict=True)
    )
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
