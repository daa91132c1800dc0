"""Project with a pinhole camera without distortion, and back; `camera` does it with distortion."""

from __future__ import annotations

import numpy as np


def to_pixels(points_cam: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Project points [..., 3] in the camera frame (z > 0) to pixels [..., 2] by intrinsics K [3, 3]."""
    p = points_cam @ np.asarray(K).T
    return p[..., :2] / p[..., 2:]


def to_rays(pixels: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Compute viewing rays [..., 3] (z = 1, camera frame) of pixels [..., 2]; K [3, 3] has no skew."""
    plane = (pixels - K[:2, 2]) / K[[0, 1], [0, 1]]
    return np.concatenate([plane, np.ones((*plane.shape[:-1], 1))], axis=-1)
