"""Compare boxes [4] (x0, y0, x1, y1) in an image."""

from __future__ import annotations

import numpy as np

from vpog_core.geometry.se3 import transform_points


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the intersection over union of two boxes [4]; 0 where they do not overlap."""
    inner = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    return float(inner / max((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner, 1e-12))


def projected_box(T_cam_obj: np.ndarray, points: np.ndarray, K: np.ndarray) -> np.ndarray | None:
    """Return the box around points [N, 3] (object frame) in a pinhole image; None where one is behind."""
    points = transform_points(T_cam_obj, points)
    if (points[:, 2] <= 0).any():
        return None
    pixels = points @ K.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
