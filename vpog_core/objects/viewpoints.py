"""Define the 162 viewing directions of an object, and split rotations into direction and roll."""

from __future__ import annotations

from functools import cache

import numpy as np


@cache
def icosphere(subdivisions: int = 2) -> np.ndarray:
    """Make unit vectors [10 * 4^n + 2, 3]: an icosahedron, each triangle split in four n times."""
    g = (1.0 + np.sqrt(5.0)) / 2.0
    corners = []
    for a in (-1.0, 1.0):
        for b in (-g, g):
            corners += [(0, a, b), (a, b, 0), (b, 0, a)]
    points = np.array(corners) / np.hypot(1.0, g)
    for _ in range(subdivisions):
        distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
        np.fill_diagonal(distance, np.inf)
        # Select the edges: 1.3 times the shortest one is shorter than any diagonal.
        i, j = np.nonzero(np.triu(distance < 1.3 * distance.min()))
        middle = points[i] + points[j]
        points = np.concatenate([points, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
    return points


def viewpoint_directions() -> np.ndarray:
    """Return unit vectors [162, 3] float64, object frame, from the object towards the camera.

    An icosahedron subdivided twice; neighbours are 15.9 to 18.7 degrees apart. Order is fixed.
    """
    return icosphere().copy()


def upright_rotation(direction: np.ndarray) -> np.ndarray:
    """Compute R_cam_obj [3, 3] of a camera on the ray `direction` [3] that looks back, object +z up.

    At the poles, where z has no direction in the image, the image's up is object +y.
    """
    z = -np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
    up = np.array([0.0, 0.0, 1.0]) if np.hypot(z[0], z[1]) > 1e-6 else np.array([0.0, 1.0, 0.0])
    x = np.cross(z, up)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def split_view(R_cam_obj: np.ndarray) -> tuple[np.ndarray, float]:
    """Split R_cam_obj = rotation_z(roll) @ upright_rotation(direction) into direction [3] and roll."""
    direction = -np.asarray(R_cam_obj, dtype=np.float64)[2]
    turn = R_cam_obj @ upright_rotation(direction).T
    return direction, float(np.arctan2(turn[1, 0], turn[0, 0]))


def nearest_viewpoints(direction: np.ndarray, k: int = 1) -> np.ndarray:
    """Return indices [k] int of the `viewpoint_directions()` nearest to `direction` [3], nearest first."""
    cosine = icosphere() @ np.asarray(direction, dtype=np.float64)
    return np.argsort(-cosine, kind="stable")[:k]


def align_roll(R: np.ndarray, R_ref: np.ndarray) -> float:
    """Compute the roll (radians) that brings a view R [3, 3] nearest to R_ref: min |Rz(roll) R - R_ref|."""
    M = R @ R_ref.T
    return float(np.arctan2(M[0, 1] - M[1, 0], M[0, 0] + M[1, 1]))
