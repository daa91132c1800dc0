"""Compute the visible surface discrepancy: how far a pose explains what the depth camera sees.

Hodan et al., BOP, ECCV 2018 (https://arxiv.org/abs/1808.08319), with the settings of BOP Challenge 2019: step
cost, distances over the diameter, and what the depth camera did not measure counts as visible.
"""

from __future__ import annotations

import numpy as np

from vpog_core.geometry import pinhole
from vpog_core.objects.renderer import Renderer

TAUS = np.arange(0.05, 0.51, 0.05)
"""Largest distance of a matching pixel, over the diameter."""
DELTA = 0.015
"""Distance, metres, up to which an object behind the measured surface counts as visible."""
DELTAS = {"itodd": 0.005}
"""The same of datasets, by name, for which BOP sets another."""


def vsd(
    depth_est: np.ndarray,
    depth_gt: np.ndarray,
    depth_test: np.ndarray,
    K: np.ndarray,
    diameter: float,
    taus: np.ndarray = TAUS,
    delta: float = DELTA,
) -> np.ndarray:
    """Compute errors [T] 0..1, one for each tau, from three depth maps [H, W] of a pinhole camera (0: none).

    Args:
        depth_est, depth_gt: the model alone, rendered in the estimated and in the true pose.
        depth_test: what the depth camera measured.
        K: [3, 3]; diameter and delta in the unit of the depth maps.
    """
    # Convert depths to distances along the rays.
    rays = ray_lengths(K, depth_test.shape)
    est, gt, test = (rays * np.asarray(d, dtype=np.float64) for d in (depth_est, depth_gt, depth_test))
    # Find what is visible of the object in each pose.
    visible_gt = _visible(test, gt, delta)
    visible_est = _visible(test, est, delta) | (visible_gt & (est > 0))
    both = visible_gt & visible_est
    union = np.count_nonzero(visible_gt | visible_est)
    if union == 0:
        return np.ones(len(taus))
    # Count the pixels that one pose alone shows, or both at different distances.
    apart = np.abs(gt[both] - est[both]) / diameter
    wrong = np.array([np.count_nonzero(apart >= tau) for tau in taus])
    return (wrong + union - np.count_nonzero(both)) / union


def ray_lengths(K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Compute distance from the camera's centre over depth, [H, W], for each pixel of a pinhole camera."""
    x, y, _ = np.moveaxis(pinhole.image_rays(K, size), -1, 0)
    return np.sqrt(1.0 + x**2 + y**2)


def vsd_of_poses(
    renderer: Renderer,
    T_est: np.ndarray,
    T_gt: np.ndarray,
    depth: np.ndarray,
    K: np.ndarray,
    diameter: float,
    delta: float = DELTA,
) -> np.ndarray:
    """Compute `vsd` of a pose [4, 4] against the true one, metres; 1 where they cannot overlap in the image.

    Args:
        renderer: of the object; depth: [H, W] of the depth camera, metres; K: [3, 3] of the image.
        diameter, delta: as of `vsd`, metres.
    """
    if not spheres_meet(diameter / 2, T_est[:3, 3], T_gt[:3, 3]):
        return np.ones(len(TAUS))
    # Pixels outside of both windows show no model and are not counted.
    windows = np.array([renderer.window(T, K, depth.shape) for T in (T_est, T_gt)])
    windows = windows[(windows[:, 2] > windows[:, 0]) & (windows[:, 3] > windows[:, 1])]
    if not len(windows):
        return np.ones(len(TAUS))
    (x0, y0), (x1, y1) = windows[:, :2].min(axis=0), windows[:, 2:].max(axis=0)
    K = np.array(K, dtype=np.float64)
    K[:2, 2] -= (x0, y0)
    est, gt = (renderer.render(T, K, (y1 - y0, x1 - x0)).depth for T in (T_est, T_gt))
    return vsd(est, gt, depth[y0:y1, x0:x1], K, diameter, delta=delta)


def spheres_meet(radius: float, a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether spheres around points [3] (camera frame) may overlap in the image, as bop_toolkit does."""
    if a[2] == 0 or b[2] == 0:
        return False
    apart = np.linalg.norm(a[:2] / a[2] - b[:2] / b[2])
    return bool(apart < radius * (1.0 / a[2] + 1.0 / b[2]))


def _visible(test: np.ndarray, model: np.ndarray, delta: float) -> np.ndarray:
    behind = model.astype(np.float32) - test.astype(np.float32)
    return ((behind <= delta) | (test == 0)) & (model > 0)
