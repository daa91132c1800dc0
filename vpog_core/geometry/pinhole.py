"""Project with a pinhole camera without distortion, and back; `camera` does it with distortion."""

from __future__ import annotations

import numpy as np


def to_pixels(points_cam: np.ndarray, K: np.ndarray, nearest: float | None = None) -> np.ndarray:
    """Project points [..., 3] in the camera frame to pixels [..., 2] by intrinsics K [3, 3].

    Args:
        nearest: points nearer than this, or behind the camera, are projected as if they were here; None:
            all points have z > 0.
    """
    p = points_cam @ np.asarray(K).T
    depth = p[..., 2:]
    return p[..., :2] / (depth if nearest is None else np.maximum(depth, nearest))


def to_rays(pixels: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Compute viewing rays [..., 3] (z = 1, camera frame) of pixels [..., 2]; K [3, 3] has no skew."""
    plane = (pixels - K[:2, 2]) / K[[0, 1], [0, 1]]
    return np.concatenate([plane, np.ones((*plane.shape[:-1], 1))], axis=-1)


def image_rays(K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Compute viewing rays [H, W, 3] (z = 1, camera frame) of all pixels of an image of `size` (H, W)."""
    rays = np.ones((*size, 3))
    rays[..., 0] = (np.arange(size[1]) - K[0, 2]) / K[0, 0]
    rays[..., 1] = ((np.arange(size[0]) - K[1, 2]) / K[1, 1])[:, None]
    return rays
