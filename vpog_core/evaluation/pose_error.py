"""Compute pose errors in metres, radians and pixels; T_est and T_gt are T_cam_obj [4, 4].

ADD and ADD-S: Hinterstoisser et al., ACCV 2012. MSSD and MSPD: BOP Challenge 2020, section 2.2
(https://arxiv.org/abs/2009.07378). A symmetry is a transform [4, 4] of the object onto itself, object frame.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.spatial import cKDTree

from vpog_core.geometry import pinhole
from vpog_core.geometry.se3 import rotation_angle, transform_points

ADD_FRACTION = 0.1
"""A pose is correct when `add_or_adds` is under this fraction of the object's diameter."""


def rotation_error(
    T_est: np.ndarray, T_gt: np.ndarray, symmetries: Iterable[np.ndarray] | None = None
) -> float:
    """Compute the angle in radians between two orientations; with symmetries, to the nearest equivalent."""
    return min(rotation_angle(T_est[:3, :3], T_gt[:3, :3] @ S[:3, :3]) for S in _with_identity(symmetries))


def translation_error(T_est: np.ndarray, T_gt: np.ndarray) -> float:
    """Compute the distance in metres between two positions."""
    return float(np.linalg.norm(np.asarray(T_est)[:3, 3] - np.asarray(T_gt)[:3, 3]))


def distance_error(T_est: np.ndarray, T_gt: np.ndarray, point: np.ndarray) -> tuple[float, float]:
    """Return (true distance, error of it) in metres of an object's point [3] from the camera."""
    estimated, true = (float(np.linalg.norm(transform_points(T, point))) for T in (T_est, T_gt))
    return true, abs(estimated - true)


def add(T_est: np.ndarray, T_gt: np.ndarray, points: np.ndarray) -> float:
    """Compute the average distance in metres of points [N, 3] (object frame) in the two poses."""
    return float(
        np.linalg.norm(transform_points(T_est, points) - transform_points(T_gt, points), axis=1).mean()
    )


def adds(T_est: np.ndarray, T_gt: np.ndarray, points: np.ndarray) -> float:
    """Compute the average distance in metres from points [N, 3] in the true pose to the nearest estimated.

    For objects that look alike from several sides (ADD-S, also called ADI).
    """
    distances, _ = cKDTree(transform_points(T_est, points)).query(transform_points(T_gt, points))
    return float(distances.mean())


def add_or_adds(T_est: np.ndarray, T_gt: np.ndarray, points: np.ndarray, symmetric: bool) -> float:
    """Compute ADD-S of an object that looks alike from several sides, ADD of any other, in metres."""
    return (adds if symmetric else add)(T_est, T_gt, points)


def mssd(
    T_est: np.ndarray, T_gt: np.ndarray, points: np.ndarray, symmetries: Iterable[np.ndarray] | None = None
) -> float:
    """Compute the maximum symmetry-aware surface distance in metres, over points [N, 3]."""
    estimated = transform_points(T_est, points)
    return min(
        float(np.linalg.norm(estimated - transform_points(T_gt @ S, points), axis=1).max())
        for S in _with_identity(symmetries)
    )


def mspd(
    T_est: np.ndarray,
    T_gt: np.ndarray,
    points: np.ndarray,
    K: np.ndarray,
    symmetries: Iterable[np.ndarray] | None = None,
) -> float:
    """Compute the maximum symmetry-aware projection distance in pixels, over points [N, 3]; pinhole K [3, 3].

    Infinite where the estimate puts a point behind the camera.
    """
    estimated = transform_points(T_est, points)
    if (estimated[:, 2] <= 0).any():
        return float("inf")
    pixels = pinhole.to_pixels(estimated, K)
    return min(
        float(np.linalg.norm(pixels - pinhole.to_pixels(transform_points(T_gt @ S, points), K), axis=1).max())
        for S in _with_identity(symmetries)
    )


def _with_identity(symmetries) -> list[np.ndarray]:
    given = [] if symmetries is None else [np.asarray(S) for S in symmetries]
    return given or [np.eye(4)]
