"""Estimate an object's pose from 2D-3D correspondences with outliers: consensus, then probabilistic PnP.

PoseLib's LO-RANSAC finds a pose that many correspondences, or many of a sample of them, agree with. From
there the minimum of EPro-PnP's cost (`epro_pnp`) over those near the pose is sought, in rounds: each
recomputes their noise, and with it which are near. The covariance comes from the same cost.

The robust kernel has one threshold in pixels for all correspondences of a problem. Weights are confidences,
whose scale differs more than that of the errors: a kernel on weighted residuals would cut the confident
correspondences, and leave wrong ones of low confidence as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import poselib
import torch

from vpog_core.geometry import pinhole
from vpog_core.geometry.epro_pnp import PnPProblem, PnPSolution, descend, solve
from vpog_core.geometry.se3 import transform

MIN_POINTS = 6
DEFAULT_THRESHOLD_PX = 4.0
HUBER = 1.345
"""Threshold of the robust kernel over the typical noise (Huber: 95 % efficient under Gaussian errors)."""
MAX_RESIDUAL = 3.0
"""Inliers farther from a pose than this many standard deviations of the noise do not take part in it: where
flow is exact to a quarter of a pixel, one that is a pixel off is wrong."""
RAYLEIGH_MEDIAN = 1.1774
"""Median length of a 2D error over the standard deviation of its coordinates."""
MIN_NOISE_PX = 0.05
"""Standard deviation of a correspondence's pixel, at least."""
FIRST_ITERATIONS, ITERATIONS = (2, 2), 10
"""Steps, at most, of the first rounds, which only tell which correspondences agree, and of the last."""
TOLERANCE = 1e-2
"""A pose has converged when its squared step is below this, in standard deviations for independent errors."""

MAX_SAMPLED = 300
"""Correspondences that consensus is sought among, at most: those of a patch say nearly the same, and a random
part of them finds the same pose in half of the time."""

_RANSAC = {"min_iterations": 50, "max_iterations": 3000, "success_prob": 0.9999}
_MIN_DEPTH = 1e-6
_MAX_VALUE = 1e9


@dataclass(frozen=True, eq=False)
class PnPInput:
    """Holds M pixels of a pinhole camera without distortion and the object points seen there, some wrong.

    Attributes:
        points_2d: [M, 2] pixels; points_3d: [M, 3] metres, object frame.
        K: [3, 3] intrinsics, pixels.
        weights: [M] confidences (inverse variances up to a common factor), or None for equal ones.
        threshold_px: largest distance of an inlier, pixels.

    Raises:
        ValueError: lengths that do not belong together.
    """

    points_2d: np.ndarray
    points_3d: np.ndarray
    K: np.ndarray
    weights: np.ndarray | None = None
    threshold_px: float = DEFAULT_THRESHOLD_PX

    def __post_init__(self) -> None:
        u = np.asarray(self.points_2d, dtype=np.float64).reshape(-1, 2)
        X = np.asarray(self.points_3d, dtype=np.float64).reshape(-1, 3)
        given = np.ones(len(u)) if self.weights is None else self.weights
        w = np.asarray(given, dtype=np.float64).reshape(-1)
        if not len(u) == len(X) == len(w):
            raise ValueError(f"{len(u)} pixels, {len(X)} points and {len(w)} weights do not belong together.")
        values = {"points_2d": u, "points_3d": X, "weights": w, "K": np.asarray(self.K, dtype=np.float64)}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @cached_property
    def usable(self) -> np.ndarray:
        """The mask [M] of correspondences with finite values below 1e9 and a positive weight."""
        return (
            (np.abs(self.points_2d) < _MAX_VALUE).all(axis=1)
            & (np.abs(self.points_3d) < _MAX_VALUE).all(axis=1)
            & (self.weights > 0)
            & (self.weights < np.inf)
        )

    def distances(self, T_virt_obj: np.ndarray) -> np.ndarray:
        """Compute the distances [M] of pixels to points projected by a pose, pixels; inf: not usable."""
        distance = np.full(len(self.usable), np.inf)
        u, X = self.points_2d[self.usable], self.points_3d[self.usable]
        distance[self.usable] = reprojection_distance(T_virt_obj, u, X, self.K)
        return distance


@dataclass(frozen=True, eq=False)
class Consensus:
    """Holds correspondences [M, ...] near the pose T [4, 4] that they agree on.

    Attributes:
        T: T_virt_obj, of a virtual camera with intrinsics K [3, 3].
        points_2d: [M, 2] pixels; points_3d: [M, 3] metres, object frame.
        sigma: [M] standard deviations of the pixels.
        huber_px: threshold of the robust kernel, pixels.
    """

    T: np.ndarray
    points_2d: np.ndarray
    points_3d: np.ndarray
    K: np.ndarray
    sigma: np.ndarray
    huber_px: float


@dataclass
class PnPResult:
    """Holds a pose with its inliers; M is the number of correspondences given.

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
    """Estimate the pose of one object; arguments as of `PnPInput` and `solve_pnp_all`."""
    return solve_pnp_all([PnPInput(points_2d, points_3d, K, weights, threshold_px)], seed)[0]


def solve_pnp_all(problems: Sequence[PnPInput], seed: int = 0) -> list[PnPResult | None]:
    """Estimate the poses of N objects from pixels and object points seen there, some of them wrong.

    Args:
        seed: of the random sampling; the same problem and seed give the same pose.

    Returns:
        N results, with the covariance of independent errors. None when fewer than `MIN_POINTS`
        correspondences are usable, too few agree with one pose, or those that agree leave the rotation open
        (all on one line, or in one spot of the image).
    """
    # Find a pose that many correspondences of each problem agree with.
    results: list[PnPResult | None] = [None] * len(problems)
    poses = {n: T for n, p in enumerate(problems) if (T := _ransac(p, seed)) is not None}
    # Move each pose towards the minimum over the correspondences near it, and choose these anew.
    near = _all_near(problems, poses)
    for iterations in FIRST_ITERATIONS:
        if near:
            found = list(near.values())
            moved, _ = descend(pnp_problem(found), _poses(found), iterations, TOLERANCE)
            near = _all_near(problems, dict(zip(near, moved.numpy(), strict=True)))
    if not near:
        return results
    # Find the minimum, and keep the poses that enough correspondences agree with.
    solution = minimise(list(near.values()), ITERATIONS, TOLERANCE)
    for row, n in enumerate(near):
        if solution.valid[row]:
            results[n] = _result(problems[n], solution.T[row].numpy(), solution.covariance[row].numpy())
    return results


def minimise(found: Sequence[Consensus], iterations: int, tolerance: float = 0.0) -> PnPSolution:
    """Find the minima of EPro-PnP's cost near the poses of B sets of correspondences, with covariances.

    Args:
        iterations: at most; 0: the poses stay, with the covariances there.
        tolerance: as of `epro_pnp.solve`.
    """
    return solve(pnp_problem(found), _poses(found), iterations, tolerance)


def _poses(found: Sequence[Consensus]) -> torch.Tensor:
    return torch.from_numpy(np.stack([c.T for c in found]))


def pnp_problem(found: Sequence[Consensus]) -> PnPProblem:
    """Make one batch of B sets of correspondences, padded with correspondences of weight zero."""
    shape = len(found), max(len(c.sigma) for c in found)
    points_2d, points_3d = np.zeros((*shape, 2)), np.zeros((*shape, 3))
    weights, huber = np.zeros(shape), np.ones(shape)
    for row, c in enumerate(found):
        count = len(c.sigma)
        points_2d[row, :count], points_3d[row, :count] = c.points_2d, c.points_3d
        weights[row, :count], huber[row, :count] = 1 / c.sigma, c.huber_px / c.sigma
    K = np.stack([c.K for c in found])
    tensors = (torch.from_numpy(v) for v in (points_2d, points_3d, weights, K, huber))
    return PnPProblem(*tensors)


def with_noise(
    T_virt_obj: np.ndarray,
    points_2d: np.ndarray,
    points_3d: np.ndarray,
    K: np.ndarray,
    weights: np.ndarray,
    distance: np.ndarray | None = None,
) -> Consensus:
    """Estimate the noise of correspondences near a pose from their residuals.

    Args:
        weights: [M] positive, inverse variances up to a factor, which the median residual gives (Rayleigh).
        distance: [M] their `reprojection_distance`, where it is known already.
    """
    root = np.sqrt(weights)
    if distance is None:
        distance = reprojection_distance(T_virt_obj, points_2d, points_3d, K)
    scale = max(float(np.median(distance * root)) / RAYLEIGH_MEDIAN, MIN_NOISE_PX * float(np.median(root)))
    huber_px = HUBER * scale / float(np.median(root))
    return Consensus(T_virt_obj, points_2d, points_3d, K, scale / root, huber_px)


def reprojection_distance(
    T_virt_obj: np.ndarray, points_2d: np.ndarray, points_3d: np.ndarray, K: np.ndarray
) -> np.ndarray:
    """Compute distances [M] in pixels of points [M, 2] to projected points [M, 3]; inf behind the camera."""
    p = points_3d @ T_virt_obj[:3, :3].T + T_virt_obj[:3, 3]
    front = p[:, 2] > _MIN_DEPTH
    distance = np.full(len(p), np.inf)
    distance[front] = np.linalg.norm(pinhole.to_pixels(p[front], K) - points_2d[front], axis=1)
    return distance


def _ransac(problem: PnPInput, seed: int) -> np.ndarray | None:
    """Find T_virt_obj [4, 4] that most of a sample of the correspondences agree with, by LO-RANSAC."""
    if problem.usable.sum() < MIN_POINTS:
        return None
    rows = np.flatnonzero(problem.usable)
    if len(rows) > MAX_SAMPLED:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_SAMPLED, replace=False))
    u, X, K = problem.points_2d[rows], problem.points_3d[rows], problem.K
    camera = {"model": "PINHOLE", "width": 0, "height": 0, "params": [K[0, 0], K[1, 1], K[0, 2], K[1, 2]]}
    options = {**_RANSAC, "max_reproj_error": float(problem.threshold_px), "seed": int(seed)}
    pose, info = poselib.estimate_absolute_pose(u, X, camera, options, {"loss_type": "CAUCHY"})
    T = transform(pose.R, pose.t)
    if info["num_inliers"] < MIN_POINTS or not np.isfinite(T).all():
        return None
    return T


def _all_near(problems: Sequence[PnPInput], poses: Mapping[int, np.ndarray]) -> dict[int, Consensus]:
    """Gather what is near the poses of some problems, by their numbers; without those of too few inliers."""
    return {n: near for n, T in poses.items() if (near := _near(problems[n], T)) is not None}


def _near(problem: PnPInput, T_virt_obj: np.ndarray) -> Consensus | None:
    """Gather the inliers of a pose that its noise explains, with that noise; None where they are too few."""
    distance = problem.distances(T_virt_obj)
    near = distance < problem.threshold_px
    if near.sum() < MIN_POINTS:
        return None
    noise = max(float(np.median(distance[near])) / RAYLEIGH_MEDIAN, MIN_NOISE_PX)
    explained = near & (distance < MAX_RESIDUAL * noise)
    u, X, w = problem.points_2d[explained], problem.points_3d[explained], problem.weights[explained]
    return with_noise(T_virt_obj, u, X, problem.K, w, distance[explained])


def _result(problem: PnPInput, T_virt_obj: np.ndarray, covariance: np.ndarray) -> PnPResult | None:
    """Return a pose with its inliers; None where chance alone might have given so many."""
    distance = problem.distances(T_virt_obj)
    inlier = distance < problem.threshold_px
    if inlier.sum() < _needed_inliers(problem):
        return None
    return PnPResult(T_virt_obj, inlier, float(np.sqrt(np.mean(distance[inlier] ** 2))), covariance)


def _needed_inliers(problem: PnPInput) -> float:
    """Compute how many must agree: the best pose on pure noise hardly ever has more."""
    u, threshold_px = problem.points_2d[problem.usable], problem.threshold_px
    width, height = np.maximum(np.ptp(u, axis=0), 2.0 * threshold_px)
    chance = len(u) * np.pi * threshold_px**2 / (width * height)
    return max(float(MIN_POINTS), min(MIN_POINTS + 6.0 * np.sqrt(chance) + chance, 0.5 * len(u)))
