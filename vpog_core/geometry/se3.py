"""Compute with rigid transforms as [4, 4] float64 matrices: `p_a = T_a_b @ p_b`."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation


def transform(R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Make T [4, 4] of a rotation [3, 3] and a translation [3] (metres)."""
    T = np.eye(4)
    T[:3, :3] = R
    T[:3, 3] = t
    return T


def invert(T: np.ndarray) -> np.ndarray:
    """Invert T_a_b [4, 4] to T_b_a."""
    R = T[:3, :3]
    return transform(R.T, -R.T @ T[:3, 3])


def transform_points(T: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Transform points [..., 3] of frame b into frame a, by T_a_b [4, 4]."""
    return points @ T[:3, :3].T + T[:3, 3]


def covariance_at(covariance: np.ndarray, arm: np.ndarray) -> np.ndarray:
    """Convert the covariance [6, 6] of a pose to an origin moved by `arm` [3].

    Both are in the frame that the pose maps into, in the order (x, y, z, rotation about x, y, z).
    """
    lever = np.eye(6)
    lever[:3, 3:] = -skew(arm)
    return lever @ covariance @ lever.T


def at_point(
    T: np.ndarray, covariance: np.ndarray | None, point: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Convert a pose [4, 4] and its covariance [6, 6] to an origin at a point [3] of the object's frame."""
    moved = T @ transform(np.eye(3), point)
    if covariance is None:
        return moved, None
    return moved, covariance_at(covariance, moved[:3, 3] - T[:3, 3])


def rotate_covariance(covariance: np.ndarray, R_a_b: np.ndarray) -> np.ndarray:
    """Convert the covariance [6, 6] of a pose in frame b to one in frame a (same origin), by R_a_b [3, 3]."""
    turn = np.kron(np.eye(2), R_a_b)
    return turn @ covariance @ turn.T


def rotation_angle(R_a: np.ndarray, R_b: np.ndarray) -> float:
    """Compute the geodesic distance of two rotations [3, 3] on SO(3), radians.

    From the chord |R_a - R_b|, which stays exact near zero where the arc cosine of the trace does not.
    """
    chord = np.linalg.norm(np.asarray(R_a) - np.asarray(R_b)) / np.sqrt(8.0)
    return float(2.0 * np.arcsin(np.clip(chord, 0.0, 1.0)))


def rotation_x(angle: float) -> np.ndarray:
    """Make the rotation [3, 3] about x by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]], dtype=np.float64)


def rotation_y(angle: float) -> np.ndarray:
    """Make the rotation [3, 3] about y by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=np.float64)


def rotation_z(angle: float) -> np.ndarray:
    """Make the rotation [3, 3] about z by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=np.float64)


def rotation_from_vector(vector: np.ndarray) -> np.ndarray:
    """Make the rotation [3, 3] of a rotation vector [3] (axis times radians), by Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3) + skew(vector)
    K = skew(np.asarray(vector) / angle)
    return np.eye(3) + np.sin(angle) * K + (1.0 - np.cos(angle)) * (K @ K)


def rotation_about(axis: np.ndarray, point: np.ndarray, angle: float) -> np.ndarray:
    """Make the motion [4, 4] that rotates by `angle` radians about an axis [3] (unit) through a point [3]."""
    R = rotation_from_vector(np.asarray(axis) * angle)
    return transform(R, point - R @ point)


def skew(v: np.ndarray) -> np.ndarray:
    """Make the matrix [3, 3] of the cross product with v [3]."""
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]], dtype=np.float64)


def quaternion_xyzw(R: np.ndarray) -> np.ndarray:
    """Compute the unit quaternion [4] (x, y, z, w), w >= 0, of a rotation [3, 3].

    The eigenvector of the largest eigenvalue of Bar-Itzhack's matrix (2000): exact for every rotation.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.asarray(R, dtype=np.float64)
    K = np.array(
        [
            [xx - yy - zz, xy + yx, xz + zx, zy - yz],
            [xy + yx, yy - xx - zz, yz + zy, xz - zx],
            [xz + zx, yz + zy, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    q = np.linalg.eigh(K / 3.0)[1][:, -1]
    return q if q[3] >= 0 else -q


def rotation_from_quaternion(q: np.ndarray) -> np.ndarray:
    """Compute the rotation [3, 3] of a quaternion [4] (x, y, z, w) of any length but zero."""
    x, y, z, w = np.asarray(q, dtype=np.float64) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation [3, 3], uniform on SO(3)."""
    return rotation_from_quaternion(rng.standard_normal(4))


def is_within(
    T_from: np.ndarray, T_to: np.ndarray, middle: np.ndarray, max_turn: float, max_shift: float
) -> bool:
    """Tell whether a finite pose [4, 4] is near another: turned by less, and shifted by less, than given.

    Args:
        middle: [3] of the object, in its frame, whose shift counts: the origin of a mesh may lie anywhere.
        max_turn: radians; max_shift: fraction of the distance of the middle at `T_from`.
    """
    if not np.isfinite(T_to).all():
        return False
    before, after = (transform_points(T, middle) for T in (T_from, T_to))
    within = np.linalg.norm(after - before) < max_shift * np.linalg.norm(before)
    return bool(rotation_angle(T_from[:3, :3], T_to[:3, :3]) < max_turn and within)


def moved(T: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Move a pose [4, 4] by [6]: metres, and a turn about the camera's axes at the pose's origin."""
    result = T.copy()
    result[:3, 3] += step[:3]
    result[:3, :3] = rotation_from_vector(step[3:]) @ T[:3, :3]
    return result


def difference(T: np.ndarray, T_ref: np.ndarray) -> np.ndarray:
    """Find the step [6] that moves a reference pose [4, 4] to another; see `moved`."""
    turn = Rotation.from_matrix(T[:3, :3] @ T_ref[:3, :3].T).as_rotvec()
    return np.concatenate([T[:3, 3] - T_ref[:3, 3], turn])
