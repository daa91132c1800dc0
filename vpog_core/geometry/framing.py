"""Make the camera that a pose is compared in: it looks at the posed object, and shows all of it."""

from __future__ import annotations

import numpy as np

from vpog_core.geometry.camera import VirtualCamera, rotation_towards

FRAME_PADDING = 1.3
"""Side of the crop over the larger side of the projected hull; an object may lie beside its pose."""
NEAREST = 1e-3
"""Points nearer to the camera than this, in metres, or behind it, cannot be framed."""


def frame_hull(points_cam: np.ndarray, size: int, pad: float = FRAME_PADDING) -> VirtualCamera | None:
    """Return the camera that looks at the middle of some points and shows all of them.

    Args:
        points_cam: [N, 3] metres, camera frame, such as an object's hull at its present pose.
        size: side of the square crop, pixels.
        pad: side of the crop over the larger side of the points' projection.

    Returns:
        the camera; None where a point is not finite, behind the camera or directly before it.
    """
    points = np.asarray(points_cam, dtype=np.float64)
    if not len(points) or not np.isfinite(points).all() or points[:, 2].min() < NEAREST:
        return None
    plane = points[:, :2] / points[:, 2:]
    R = rotation_towards(np.array([*(plane.min(axis=0) + plane.max(axis=0)) / 2, 1.0]))
    turned = points @ R.T
    if turned[:, 2].min() < NEAREST:
        return None
    reach = float(np.abs(turned[:, :2] / turned[:, 2:]).max())
    focal = size / (pad * 2 * max(reach, 1e-9))
    centre = (size - 1) / 2.0
    K = np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]])
    return VirtualCamera(K=K, R_virt_cam=R, size=size)
