"""Project points with a camera's distortion, and compute the viewing rays of pixels."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from vpog_core.types import Camera

MAX_ANGLE_DEG = 85.0
"""Largest angle between a ray at z = 1 and the camera's axis."""
MAX_TANGENT = float(np.tan(np.deg2rad(MAX_ANGLE_DEG)))
FOLD_PIXELS = 2.0
"""A ray whose projection is further than this from its pixel is not that pixel's."""
ROUNDS, EXACT_PIXELS = 20, 0.01
"""Rounds that a ray is corrected, and the distance of its projection from the pixel where none is needed."""
NEAREST = 1e-3
"""Smallest depth of a point that is projected, metres."""


def project(camera: Camera, points_cam: np.ndarray) -> np.ndarray:
    """Project points [..., 3] in the camera frame (metres, z > 0) to pixels [..., 2]."""
    # Without distortion OpenCV would take ten times as long.
    if not has_distortion(camera):
        points = np.asarray(points_cam, dtype=np.float64)
        return points[..., :2] / points[..., 2:] * camera.K[[0, 1], [0, 1]] + camera.K[:2, 2]
    points = np.asarray(points_cam, dtype=np.float64).reshape(-1, 1, 3)
    zero = np.zeros(3)
    if camera.model == "equidistant":
        pixels = cv2.fisheye.projectPoints(points, zero, zero, camera.K, fisheye_distortion(camera))[0]
    else:
        pixels = cv2.projectPoints(points, zero, zero, camera.K, camera.distortion)[0]
    return pixels.reshape(*np.shape(points_cam)[:-1], 2)


def pixel_rays(camera: Camera, pixels: np.ndarray) -> np.ndarray:
    """Compute viewing rays [N, 3] (z = 1, camera frame) of pixels [N, 2].

    NaN where there is none: the pixel sees what is behind the camera, or the distortion cannot be undone.
    """
    pixels = np.asarray(pixels, dtype=np.float64).reshape(-1, 2)
    if not pixels.size:
        return np.zeros((0, 3))
    if camera.model == "equidistant":
        plane = cv2.fisheye.undistortPoints(pixels[:, None], camera.K, fisheye_distortion(camera))
    else:
        plane = cv2.undistortPoints(pixels[:, None], camera.K, camera.distortion)
    rays = np.concatenate([plane.reshape(-1, 2), np.ones((len(pixels), 1))], axis=1)
    return _corrected(camera, pixels, rays) if has_distortion(camera) else rays


def _corrected(camera: Camera, pixels: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Correct rays [N, 3] until they project to their pixels [N, 2]; those that do not get there are NaN."""
    rays = rays.copy()
    # What cannot be undone diverges, which is not an error here.
    with np.errstate(all="ignore"):
        error = pixels - project(camera, rays)
        for _ in range(ROUNDS):
            if not (np.abs(error) > EXACT_PIXELS).any():
                break
            rays[:, :2] += error / (camera.K[0, 0], camera.K[1, 1])
            error = pixels - project(camera, rays)
        rays[~(np.linalg.norm(error, axis=1) < FOLD_PIXELS)] = np.nan
    return rays


def can_project(camera: Camera, points_cam: np.ndarray) -> np.ndarray:
    """Tell which points [..., 3] lie in front of the camera and where its distortion holds, [...] bool."""
    points = np.asarray(points_cam)
    depth = np.maximum(points[..., 2], NEAREST)
    in_front = points[..., 2] > NEAREST
    if camera.model == "equidistant" or not has_distortion(camera):
        return in_front
    limit = _largest_tangent(tuple(camera.distortion.tolist()))
    return in_front & (np.hypot(points[..., 0], points[..., 1]) < limit * depth)


@lru_cache(maxsize=64)
def _largest_tangent(distortion: tuple[float, ...]) -> float:
    """Compute the tangent up to which a plumb_bob or rational distortion moves rays outwards.

    Further out the image would be folded: such rays would land on pixels that see something else.
    """
    k1, k2, _, _, k3, k4, k5, k6 = (*distortion, *(0.0,) * 8)[:8]
    tangent = np.linspace(0.0, MAX_TANGENT, 4000)
    square = tangent**2
    distorted = tangent * (1 + square * (k1 + square * (k2 + square * k3)))
    distorted /= 1 + square * (k4 + square * (k5 + square * k6))
    folded = np.flatnonzero(np.diff(distorted) <= 0)
    return float(tangent[folded[0]]) if len(folded) else np.inf


def has_distortion(camera: Camera) -> bool:
    """Tell whether a camera is not a pinhole camera."""
    return camera.model == "equidistant" or bool(camera.distortion.any())


def fisheye_distortion(camera: Camera) -> np.ndarray:
    """Return the four coefficients of an equidistant camera, which may have none."""
    return camera.distortion if camera.distortion.size else np.zeros(4)
