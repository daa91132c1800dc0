"""Estimate an object's pose from 2D-3D correspondences with outliers: start, refinement, covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import poselib

from vpog_core.geometry import pinhole
from vpog_core.geometry.se3 import rotation_from_vector, transform

MIN_POINTS = 6
DEFAULT_THRESHOLD_PX = 4.0
CELL_PX = 16.0
"""Errors of correspondences that lie in one cell of this size are taken as correlated (the patch size)."""

_RANSAC = {"min_iterations": 200, "max_iterations": 3000, "success_prob": 0.9999}
_MIN_DEPTH = 1e-6
_MAX_VALUE = 1e9
_SIGMA_FLOOR_PX = 0.05
_MAX_ROTATION_SIGMA = np.deg2rad(60.0)


@dataclass
class PnPResult:
    """Hold a pose with its inliers; M is the number of correspondences given.

    Attributes:
        T_virt_obj: [4, 4] float64, object to (virtual) camera.
        inlier: [M] bool, reprojected within the threshold.
        reprojection_error: root mean square distance of the inliers, pixels.
        covariance: [6, 6] float64 of (x, y, z, rotation about x, y, z), metres and radians: the error of the
            object's origin, and of its orientation about the camera's fixed axes, as in ROS's
            `PoseWithCovariance`. See `rotate_covariance` for another camera frame.
    """

    T_virt_obj: np.ndarray
    inlier: np.ndarray
    reprojection_error: float
    covariance: np.ndarray


def solve_pnp(
    points_2d: np.ndarray,
    points_3d: np.ndarray,
    K: np.ndarray,
    weights: np.ndarray | None = None,
    threshold_px: float = DEFAULT_THRESHOLD_PX,
    seed: int = 0,
) -> PnPResult | None:
    """Estimate the pose of an object from pixels and object points seen there, some of them wrong.

    LO-RANSAC (PoseLib) finds the consensus; `refine_pose` makes it exact.

    Args:
        points_2d: [M, 2] pixels of a pinhole camera without distortion.
        points_3d: [M, 3] metres, object frame.
        K: [3, 3] intrinsics, pixels.
        weights: [M] confidences (inverse variances up to a common factor), or None for equal ones.
            Correspondences with a weight that is not positive, a value that is not finite or beyond 1e9 are
            left out.
        threshold_px: largest distance of an inlier, pixels.
        seed: of the random sampling; the same input and seed give the same result.

    Returns:
        None when fewer than `MIN_POINTS` correspondences are usable, too few agree with one pose, or those
        that agree leave the rotation open (all on one line, or in one spot of the image).
    """
    usable, u, X, w = _usable(points_2d, points_3d, weights)
    if usable.sum() < MIN_POINTS:
        return None
    start = _consensus(u, X, K, threshold_px, seed)
    if start is None:
        return None
    result = refine_pose(start, u, X, K, w, threshold_px)
    if result is None or result.inlier.sum() < _needed_inliers(u, threshold_px):
        return None
    inlier = np.zeros(len(usable), dtype=bool)
    inlier[usable] = result.inlier
    result.inlier = inlier
    return result


def refine_pose(
    T_virt_obj: np.ndarray,
    points_2d: np.ndarray,
    points_3d: np.ndarray,
    K: np.ndarray,
    weights: np.ndarray | None = None,
    threshold_px: float = DEFAULT_THRESHOLD_PX,
    rounds: int = 3,
) -> PnPResult | None:
    """Refine a pose [4, 4] to the weighted robust least-squares minimum near it.

    Levenberg-Marquardt on the points within the threshold, with Cauchy weights whose scale comes from the
    residuals themselves; the set and the scale are recomputed in each round.

    Returns:
        None under the same conditions as `solve_pnp`.
    """
    usable, u, X, w = _usable(points_2d, points_3d, weights)
    T = np.asarray(T_virt_obj, dtype=np.float64)
    if usable.sum() < MIN_POINTS or not np.isfinite(T).all():
        return None
    for _ in range(rounds):
        distance = reprojection_distance(T, u, X, K)
        inside = distance < threshold_px
        if inside.sum() < MIN_POINTS:
            return None
        sigma = _noise_scale(distance[inside], threshold_px)
        T = _levenberg_marquardt(T, u[inside], X[inside], K, w[inside], 2.385 * sigma)
    distance = reprojection_distance(T, u, X, K)
    inside = distance < threshold_px
    if inside.sum() < MIN_POINTS:
        return None
    covariance = pose_covariance(T, u[inside], X[inside], K, w[inside])
    if covariance is None:
        return None
    inlier = np.zeros(len(usable), dtype=bool)
    inlier[usable] = inside
    rms = float(np.sqrt(np.mean(distance[inside] ** 2)))
    return PnPResult(T_virt_obj=T, inlier=inlier, reprojection_error=rms, covariance=covariance)


def reprojection_distance(
    T_virt_obj: np.ndarray, points_2d: np.ndarray, points_3d: np.ndarray, K: np.ndarray
) -> np.ndarray:
    """Compute distances [M] in pixels of points [M, 2] to projected points [M, 3]; inf behind the camera."""
    p = points_3d @ T_virt_obj[:3, :3].T + T_virt_obj[:3, 3]
    front = p[:, 2] > _MIN_DEPTH
    distance = np.full(len(p), np.inf)
    distance[front] = np.linalg.norm(pinhole.to_pixels(p[front], K) - points_2d[front], axis=1)
    return distance


def pose_covariance(
    T_virt_obj: np.ndarray, points_2d: np.ndarray, points_3d: np.ndarray, K: np.ndarray, weights: np.ndarray
) -> np.ndarray | None:
    """Compute the covariance [6, 6] of a least-squares pose from its inliers, or None if undetermined.

    s^2 (J^T W J)^-1, times the design effect of neighbours that err together: the squared sum of the
    residuals of a 16 px cell over the sum of their squares is one for independent errors and grows with
    correlation (Kish 1965, Survey Sampling, chapter 5).
    """
    at = _project_all(T_virt_obj, points_2d, points_3d, K)
    r, J = at.residuals, _jacobian(at, K).reshape(-1, 6)
    H = J.T @ (J * np.repeat(weights, 2)[:, None])
    scale = 1.0 / np.sqrt(np.maximum(np.diag(H), 1e-300))
    values, vectors = np.linalg.eigh(H * scale[:, None] * scale)
    if not np.isfinite(values).all() or values[0] < 1e-9:
        return None
    freedom = max(2.0 * len(r) - 6.0, 1.0)
    s2 = float(np.sum(weights[:, None] * r**2)) / freedom
    s2 = max(s2, _SIGMA_FLOOR_PX**2 * float(np.mean(weights)))
    inverse = (vectors / values) @ vectors.T * scale[:, None] * scale
    covariance = s2 * _design_effect(points_2d, r, np.sqrt(weights)) * (inverse + inverse.T) / 2.0
    if not np.isfinite(covariance).all():
        return None
    return covariance if np.linalg.eigvalsh(covariance[3:, 3:])[-1] < _MAX_ROTATION_SIGMA**2 else None


def _usable(points_2d, points_3d, weights):
    """Return the mask [M] of finite correspondences, and points and weights under it in float64."""
    u = np.asarray(points_2d, dtype=np.float64).reshape(-1, 2)
    X = np.asarray(points_3d, dtype=np.float64).reshape(-1, 3)
    w = np.ones(len(u)) if weights is None else np.asarray(weights, dtype=np.float64).reshape(-1)
    if not len(u) == len(X) == len(w):
        raise ValueError(f"{len(u)} pixels, {len(X)} points and {len(w)} weights do not belong together.")
    usable = (
        (np.abs(u) < _MAX_VALUE).all(axis=1) & (np.abs(X) < _MAX_VALUE).all(axis=1) & (w > 0) & (w < np.inf)
    )
    return usable, u[usable], X[usable], w[usable]


def _consensus(u, X, K, threshold_px, seed) -> np.ndarray | None:
    """Find T_virt_obj [4, 4] that most correspondences agree with, by PoseLib's LO-RANSAC."""
    camera = {"model": "PINHOLE", "width": 0, "height": 0, "params": [K[0, 0], K[1, 1], K[0, 2], K[1, 2]]}
    options = {**_RANSAC, "max_reproj_error": float(threshold_px), "seed": int(seed)}
    pose, info = poselib.estimate_absolute_pose(u, X, camera, options, {"loss_type": "CAUCHY"})
    T = transform(pose.R, pose.t)
    if info["num_inliers"] < MIN_POINTS or not np.isfinite(T).all():
        return None
    return T


def _needed_inliers(u, threshold_px) -> float:
    """Compute how many must agree: the best pose on pure noise hardly ever has more."""
    width, height = np.maximum(np.ptp(u, axis=0), 2.0 * threshold_px)
    chance = len(u) * np.pi * threshold_px**2 / (width * height)
    return max(float(MIN_POINTS), min(MIN_POINTS + 6.0 * np.sqrt(chance) + chance, 0.5 * len(u)))


def _noise_scale(distance, threshold_px) -> float:
    """Estimate the standard deviation per coordinate from the median distance (Rayleigh), within limits."""
    return float(np.clip(np.median(distance) / 1.1774, 2 * _SIGMA_FLOOR_PX, threshold_px / 2.0))


def _levenberg_marquardt(T, u, X, K, w, cauchy, iterations: int = 10) -> np.ndarray:
    """Minimise sum w * rho(|r|) over the pose, rho the Cauchy loss of scale `cauchy` pixels."""
    damping = 1e-4
    at = _project_all(T, u, X, K)
    cost = _robust_cost(at, w, cauchy)
    for _ in range(iterations):
        J, r = _jacobian(at, K).reshape(-1, 6), at.residuals
        robust = np.repeat(w / (1.0 + (r * r).sum(axis=1) / cauchy**2), 2)[:, None]
        H, g = J.T @ (J * robust), J.T @ (robust[:, 0] * r.ravel())
        step = _damped_step(H, g, damping)
        if step is None:
            break
        candidate = _moved(T, step)
        there = _project_all(candidate, u, X, K)
        new_cost = _robust_cost(there, w, cauchy)
        if new_cost < cost:
            converged = cost - new_cost < 1e-9 * cost
            T, at, cost, damping = candidate, there, new_cost, max(damping * 0.1, 1e-9)
            if converged:
                break
        else:
            damping *= 10.0
            if damping > 1e6:
                break
    return _orthonormal(T)


def _damped_step(H, g, damping) -> np.ndarray | None:
    try:
        step = -np.linalg.solve(H + damping * np.diag(np.diag(H)), g)
    except np.linalg.LinAlgError:
        return None
    return step if np.isfinite(step).all() else None


@dataclass
class _Projected:
    """Hold points at a pose: rotated [M, 3], in the camera frame [M, 3], residuals [M, 2] pixels."""

    turned: np.ndarray
    points: np.ndarray
    residuals: np.ndarray


def _project_all(T, u, X, K) -> _Projected:
    turned = X @ T[:3, :3].T
    p = turned + T[:3, 3]
    return _Projected(turned, p, pinhole.to_pixels(p, K, _MIN_DEPTH) - u)


def _robust_cost(at: _Projected, w, cauchy) -> float:
    """Compute the robust cost of a pose; infinite where a point lies behind the camera."""
    if at.points[:, 2].min() <= _MIN_DEPTH:
        return np.inf
    return float(w @ np.log1p((at.residuals**2).sum(axis=1) / cauchy**2))


def _jacobian(at: _Projected, K) -> np.ndarray:
    """Compute derivatives [M, 2, 6] of the residuals by (translation, rotation) in the camera frame."""
    (x, y, z), p = at.turned.T, at.points
    depth = np.maximum(p[:, 2], _MIN_DEPTH)
    fx, skew, fy = K[0, 0], K[0, 1], K[1, 1]
    J = np.zeros((len(p), 2, 6))
    a, b, c = fx / depth, skew / depth, -(fx * p[:, 0] + skew * p[:, 1]) / depth**2
    J[:, 0, 0], J[:, 0, 1], J[:, 0, 2] = a, b, c
    # The cross product of the rotated point with (a, b, c), and below with (0, b, c).
    J[:, 0, 3], J[:, 0, 4], J[:, 0, 5] = y * c - z * b, z * a - x * c, x * b - y * a
    b, c = fy / depth, -fy * p[:, 1] / depth**2
    J[:, 1, 1], J[:, 1, 2] = b, c
    J[:, 1, 3], J[:, 1, 4], J[:, 1, 5] = y * c - z * b, -x * c, x * b
    return J


def _moved(T, step) -> np.ndarray:
    return transform(rotation_from_vector(step[3:]) @ T[:3, :3], T[:3, 3] + step[:3])


def _orthonormal(T) -> np.ndarray:
    """Remove from a pose what rounding in many steps leaves of a rotation's scale and shear."""
    left, _, right = np.linalg.svd(T[:3, :3])
    return transform(left @ right, T[:3, 3])


def _design_effect(u, r, root_weight) -> float:
    """Estimate how much larger the variance is than for independent errors, at least one."""
    _, cell = np.unique(np.floor(u / CELL_PX), axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    cells = int(cell.max()) + 1
    weighted = r * root_weight[:, None]
    sums = np.stack([np.bincount(cell, weights=weighted[:, k], minlength=cells) for k in range(2)])
    total = float(np.sum(weighted**2))
    if total <= 0:
        return 1.0
    # Correct for the six degrees of freedom that the fit has used.
    lost = 2.0 * cells / max(2.0 * cells - 6.0, 2.0)
    return max(1.0, lost * float(np.sum(sums**2)) / total)
