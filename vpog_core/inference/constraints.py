"""Apply constraints to poses: an object stands upright, or its lowest point is at a height over a plane.

A constraint chooses among hypotheses, and is then fused with the pose as a measurement: an iterated extended
Kalman update (Bell and Cathey, The iterated Kalman filter update as a Gauss-Newton method, 1993) of the six
errors of a pose, which corrects tilt and height, and narrows the covariance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vpog_core.geometry.se3 import difference, moved
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.types import VPOGError

if TYPE_CHECKING:
    from vpog_core.objects.library import ObjectLibrary

POSE_TILT = np.radians(15.0)
POSE_HEIGHT = 0.25
"""Errors of a pose, beside the tolerance, that still satisfy a constraint: radians, diameters. A pose whose
points are off by 10 % of the diameter on average, which counts as correct, may be tilted by so much."""
VIEW_TILT = np.radians(30.0)
"""Further angle by which a template may differ from the pose that is found with it."""
TILT_TOLERANCE = np.radians(5.0)
HEIGHT_TOLERANCE = 0.01
TOLERANCE_SIGMAS = 3.0
"""Standard deviations that a tolerance stands for."""
FOOT = 0.02
"""An object stands on its points within this distance (diameters) of the lowest one."""
MAX_DISTANCE = 3.0
"""Squared Mahalanobis distance from a constraint, for each of its numbers, that a covariance allows."""
ITERATIONS = 5
AXIS_STEP = 0.02
"""Step of turns about an axis of revolution that is not the up axis, see `Symmetry.transforms`."""


@dataclass(frozen=True, eq=False)
class PoseConstraint:
    """Holds what is known of an object's pose with respect to a plane, such as a table.

        PoseConstraint(normal=(0, -1, 0), offset=-0.4, up=(0, 0, 1), height=0.0)

    is an object that stands upright, its z axis up, 0.4 m below a level camera.

    Attributes:
        normal: [3] in the camera frame, from the plane towards the objects' side; made a unit vector.
        offset: metres; points x of the plane have normal . x = offset. Only used with `height`.
        up: [3] axis in the object's frame that points along the normal; None: any orientation.
        height: metres from the plane to the lowest point of the object's mesh; None: any height.
        tilt_tolerance: largest angle between `up` and the normal, radians.
        height_tolerance: largest difference of the height, metres.

    Raises:
        VPOGError: a vector without a direction, or a tolerance that is not positive.
    """

    normal: np.ndarray
    offset: float = 0.0
    up: np.ndarray | None = None
    height: float | None = None
    tilt_tolerance: float = TILT_TOLERANCE
    height_tolerance: float = HEIGHT_TOLERANCE

    def __post_init__(self) -> None:
        object.__setattr__(self, "normal", unit_vector(self.normal, "The plane's normal"))
        if self.up is not None:
            object.__setattr__(self, "up", unit_vector(self.up, "The up axis of an object"))
        for name in ("tilt_tolerance", "height_tolerance"):
            value = getattr(self, name)
            if not 0 < value < np.inf:
                raise VPOGError(f"{name} of a constraint is {value}: give a positive number.")
        if not np.isfinite([self.offset, 0.0 if self.height is None else self.height]).all():
            raise VPOGError("The plane's offset, or the height over it, is not finite: give metres.")


def by_object(
    constraints: Mapping[str, PoseConstraint] | None, library: ObjectLibrary
) -> dict[str, PoseConstraint]:
    """Return constraints that are given by names and aliases by the objects' names in a library.

    Raises:
        VPOGError: no mapping of names to constraints, a name that no object has, or two names of one object.
    """
    if constraints is None:
        return {}
    if not isinstance(constraints, Mapping):
        raise VPOGError(
            f"The constraints are a {type(constraints).__name__}: give a mapping of objects' names to "
            "constraints, such as {'mug': constraint}."
        )
    found: dict[str, PoseConstraint] = {}
    for name, constraint in constraints.items():
        object_id = library.resolve(name)
        if not isinstance(constraint, PoseConstraint):
            raise VPOGError(
                f"The constraint of '{name}' is a {type(constraint).__name__}: give a PoseConstraint."
            )
        if object_id in found:
            raise VPOGError(f"The constraints name '{object_id}' twice, once by an alias: keep one of them.")
        found[object_id] = constraint
    return found


def unit_vector(values: Sequence[float], what: str) -> np.ndarray:
    """Return a direction [3] of length 1.

    Raises:
        VPOGError: it is not three finite numbers, or all are 0.
    """
    vector = np.asarray(values, dtype=np.float64)
    length = np.linalg.norm(vector) if vector.shape == (3,) else 0.0
    if not 1e-9 < length < np.inf:
        raise VPOGError(f"{what} is {vector.tolist()}: give three numbers, not all 0, such as 0, 0, 1.")
    return vector / length


@dataclass(frozen=True, eq=False)
class ObjectConstraint:
    """Applies a constraint to the poses of one object.

    Attributes:
        constraint: in the frame of the camera that the poses are of.
        points: [N, 3] of the mesh's convex hull, metres; diameter: of the mesh.
        symmetry: of the object; an equivalent pose that fits is as good as the pose itself.
    """

    constraint: PoseConstraint
    points: np.ndarray
    diameter: float
    symmetry: Symmetry

    @cached_property
    def _equivalents(self) -> Symmetry:
        """The symmetry, with all turns in a list where turns about its axis change the tilt."""
        axes = [axis for axis, _ in self.symmetry.continuous]
        if self._up is None or not axes or abs(axes[0] @ self._up) > 1 - 1e-6:
            return self.symmetry
        return Symmetry(self.symmetry.transforms(AXIS_STEP))

    @property
    def _up(self) -> np.ndarray | None:
        # A ball has no up axis.
        return None if len(self.symmetry.continuous) > 1 else self.constraint.up

    def _tilts(self, R_cam_obj: np.ndarray) -> np.ndarray:
        """Compute the tilt [n] of all equivalents of a rotation, radians."""
        ups = self._equivalents.discrete[:, :3, :3] @ self._up
        return np.arccos(np.clip(ups @ R_cam_obj.T @ self.constraint.normal, -1.0, 1.0))

    def may_be_view(self, R_cam_obj: np.ndarray) -> bool:
        """Tell whether a template of this rotation may lead to a pose that fits."""
        if self._up is None:
            return True
        return bool(self._tilts(R_cam_obj).min() <= self.constraint.tilt_tolerance + POSE_TILT + VIEW_TILT)

    def violation(self, T_cam_obj: np.ndarray) -> str:
        """Return in words what a pose [4, 4] violates, beyond tolerance and error of the pose, or ""."""
        known, found = self.constraint, []
        if self._up is not None:
            tilt = float(self._tilts(T_cam_obj[:3, :3]).min())
            if tilt > known.tilt_tolerance + POSE_TILT:
                found.append(f"tilted by {np.degrees(tilt):.0f} degrees from upright")
        if known.height is not None:
            height = float((self._placed(T_cam_obj) @ known.normal).min() - known.offset)
            if abs(height - known.height) > known.height_tolerance + POSE_HEIGHT * self.diameter:
                found.append(f"{height - known.height:+.3f} m from its height over the plane")
        return " and ".join(found)

    def equivalent(self, T_cam_obj: np.ndarray, T_ref: np.ndarray | None) -> np.ndarray:
        """Return, of the equivalent poses that are the most upright, the nearest to a reference."""
        if self._up is None:
            return self.symmetry.nearest(T_cam_obj, T_ref)
        tilts, all_of_them = self._tilts(T_cam_obj[:3, :3]), self._equivalents
        upright = all_of_them.discrete[tilts <= tilts.min() + 1e-3]
        return Symmetry(upright, all_of_them.continuous).nearest(T_cam_obj, T_ref)

    def fuse(self, T_cam_obj: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fuse a pose [4, 4] and its covariance [6, 6] with the constraint.

        A pose that is further from the constraint than its covariance allows is less sure than that: its
        covariance is enlarged first.
        """
        residual, H, R = self._measure(T_cam_obj)
        if not len(residual):
            return T_cam_obj, covariance
        P, T = covariance, T_cam_obj
        while residual @ np.linalg.solve(H @ P @ H.T + R, residual) > MAX_DISTANCE * len(residual):
            P = 2.0 * P
        for _ in range(ITERATIONS):
            residual, H, R = self._measure(T)
            K = np.linalg.solve(H @ P @ H.T + R, H @ P).T
            T = moved(T_cam_obj, K @ (residual + H @ difference(T, T_cam_obj)))
        # Joseph's form stays symmetric and positive in spite of rounding.
        A = np.eye(6) - K @ H
        return T, A @ P @ A.T + K @ R @ K.T

    def _measure(self, T: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute what is missing to the constraint [m], its derivatives [m, 6] and its variances [m, m].

        The tilt is what the up axis has along two axes in the plane; the height is one number.
        """
        known, rows = self.constraint, []
        R, n = T[:3, :3], known.normal
        if self._up is not None:
            up = R @ self._up
            for axis in np.linalg.svd(n[None])[2][1:]:
                rows.append(
                    (-axis @ up, np.concatenate([np.zeros(3), np.cross(up, axis)]), known.tilt_tolerance)
                )
        if known.height is not None:
            foot = R @ self._foot(R.T @ n if self._up is None else self._up)
            missing = known.height + known.offset - n @ (foot + T[:3, 3])
            rows.append((missing, np.concatenate([n, np.cross(foot, n)]), known.height_tolerance))
        residual = np.array([row[0] for row in rows])
        H = np.array([row[1] for row in rows]).reshape(-1, 6)
        return residual, H, np.diag([(row[2] / TOLERANCE_SIGMAS) ** 2 for row in rows])

    def _foot(self, up: np.ndarray) -> np.ndarray:
        """Return the middle [3] of what the object stands on where an axis of it points up."""
        heights = self.points @ up
        low = heights <= heights.min() + FOOT * self.diameter
        middle = self.points[low].mean(axis=0)
        return middle + up * (heights.min() - middle @ up)

    def _placed(self, T: np.ndarray) -> np.ndarray:
        return self.points @ T[:3, :3].T + T[:3, 3]
