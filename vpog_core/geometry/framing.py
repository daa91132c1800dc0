"""Cameras that look at where a pose puts an object, and show all of it."""

from __future__ import annotations

import numpy as np

from vpog_core.geometry.camera import VirtualCamera, fit_square, rotation_towards

FRAME_PADDING = 1.3
"""Side of the crop over the larger side of the projected hull; an object may lie beside its pose."""
NEAREST = 1e-3
"""Points nearer to the camera than this, in metres, or behind it, cannot be framed."""


def frame_hull(points_cam: np.ndarray, size: int, pad: float = FRAME_PADDING) -> VirtualCamera | None:
    """Return the camera that looks at the middle of some points and just shows them all.

    Args:
        points_cam: [N, 3] metres, camera frame, such as an object's hull at its present pose.
        size: side of the square crop, pixels.
        pad: side of the crop over the larger side of the points' projection.

    Returns:
        the camera; None where a point is not finite, behind the camera or right before it.
    """
    looking = _look_at(points_cam)
    if looking is None:
        return None
    R, turned = looking
    reach = float(np.abs(turned[:, :2] / turned[:, 2:]).max())
    focal = size / (pad * 2 * max(reach, 1e-9))
    centre = (size - 1) / 2.0
    K = np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]])
    return VirtualCamera(K=K, R_virt_cam=R, size=size)


def crop_hull(points_cam: np.ndarray, size: int) -> VirtualCamera | None:
    """Return the camera of the crop around the box of some points, framed as the crops of detections are.

    Args:
        points_cam: [N, 3] metres, camera frame, such as an object's hull at its present pose.
        size: side of the square crop, pixels.

    Returns:
        the camera; None where a point is not finite, behind the camera or right before it.
    """
    looking = _look_at(points_cam)
    if looking is None:
        return None
    R, turned = looking
    return VirtualCamera(K=fit_square(turned, size), R_virt_cam=R, size=size)


def _look_at(points_cam: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return R_virt_cam [3, 3] towards the middle of points [N, 3], and the points in that frame; or None."""
    points = np.asarray(points_cam, dtype=np.float64)
    if not len(points) or not np.isfinite(points).all() or points[:, 2].min() < NEAREST:
        return None
    plane = points[:, :2] / points[:, 2:]
    R = rotation_towards(np.array([*(plane.min(axis=0) + plane.max(axis=0)) / 2, 1.0]))
    turned = points @ R.T
    return None if turned[:, 2].min() < NEAREST else (R, turned)
