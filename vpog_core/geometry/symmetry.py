"""Define symmetries of an object: the motions after which it looks and fits the same.

A symmetry is a transform S [4, 4] of the object frame onto itself: poses T and T @ S cannot be told apart.
Discrete ones come as a list, continuous ones as axes of revolution, as in BOP's models_info.json
(https://github.com/thodan/bop_toolkit/blob/master/docs/bop_datasets_format.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vpog_core.geometry.se3 import rotation_about, skew, transform
from vpog_core.types import VPOGError

BOP_STEP = 0.01
"""BOP's max_sym_disc_step: a point moves at most this fraction of the diameter from one turn to the next."""
MAX_GROUP = 120
"""Discrete symmetries an object may have; the rotations of an icosahedron are 60."""
UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""R_cam_obj [3, 3] of an object that stands upright in the image, its +z up and its -y side in front."""

_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
_RIGID = 1e-3
"""How far the numbers of a discrete symmetry may be from a rigid transform's: files round them."""


@dataclass(frozen=True, eq=False)
class Symmetry:
    """Holds all symmetries of one object.

    Attributes:
        discrete: [n, 4, 4] float64 metres, the identity first.
        continuous: (axis [3] unit, offset [3] metres) of each axis of revolution: direction, a point on it.
    """

    discrete: np.ndarray
    continuous: tuple[tuple[np.ndarray, np.ndarray], ...] = ()

    @classmethod
    def none(cls) -> Symmetry:
        """Make the symmetry of an object that looks different from everywhere."""
        return cls(np.eye(4)[None])

    @classmethod
    def from_bop(cls, info: Mapping, unit: float = 0.001) -> Symmetry:
        """Read an object's entry in BOP's models_info.json.

        Args:
            info: may hold `symmetries_discrete` (16 numbers each) and `symmetries_continuous` (axis, offset).
            unit: metres per unit of its lengths.

        Raises:
            VPOGError: what it holds is no symmetry.
        """
        given = [_matrix(entry, unit) for entry in _list(info, "symmetries_discrete")]
        axes = [_axis_of(entry, unit) for entry in _list(info, "symmetries_continuous")]
        return cls(np.stack([np.eye(4), *given]), _checked(axes))

    @classmethod
    def from_mapping(cls, value: Mapping, unit: float = 1.0) -> Symmetry:
        """Read the `symmetry:` of an object in objects.yaml, such as

            {discrete: [{axis: z, order: 4}, {axis: x, order: 2}]}      a square box
            {continuous: [{axis: z}], discrete: [{axis: x, order: 2}]}  a can without print

        An axis is x, y, z or three numbers; `offset`, a point on it, is the origin where it is left out.
        Discrete turns are combined with each other until nothing new appears.

        Args:
            unit: metres per unit of its lengths.

        Raises:
            VPOGError: what it holds is no symmetry.
        """
        _known(value, ("discrete", "continuous"), "a symmetry")
        turns = [_turn(entry, unit) for entry in _list(value, "discrete")]
        axes = [_axis_of(entry, unit) for entry in _list(value, "continuous")]
        return cls(_closure(turns), _checked(axes))

    @property
    def is_trivial(self) -> bool:
        """Tell whether the identity is the only symmetry."""
        return len(self.discrete) == 1 and not self.continuous

    def about(self, point: np.ndarray) -> Symmetry:
        """Return the same symmetries for an object frame whose origin is moved to a point [3], metres."""
        to, back = transform(np.eye(3), -point), transform(np.eye(3), point)
        axes = tuple((axis, offset - point) for axis, offset in self.continuous)
        return Symmetry(to @ self.discrete @ back, axes)

    def transforms(self, max_step: float = BOP_STEP) -> np.ndarray:
        """Return all symmetries [N, 4, 4], metres, the identity first; axes of revolution in steps.

        The products bop_toolkit's `get_symmetry_transformations` makes, and the discrete ones alone.

        Args:
            max_step: largest way of a point of the object from one turn to the next, over its diameter.
        """
        count = int(np.ceil(np.pi / max_step))
        turns = [
            rotation_about(axis, offset, 2 * np.pi * k / count)
            for axis, offset in self.continuous
            for k in range(1, count)
        ]
        if not turns:
            return self.discrete.copy()
        return np.concatenate([self.discrete, *(np.stack(turns) @ S for S in self.discrete)])

    def nearest(self, T_cam_obj: np.ndarray, T_ref: np.ndarray | None = None) -> np.ndarray:
        """Return the pose [4, 4] equivalent to T_cam_obj whose rotation is nearest to a reference's.

        Exact: turns about an axis in closed form, over all discrete symmetries.

        Args:
            T_ref: [4, 4], such as the last frame's pose; None takes `UPRIGHT`.
        """
        R_ref = UPRIGHT if T_ref is None else np.asarray(T_ref)[:3, :3]
        T = np.asarray(T_cam_obj, dtype=np.float64)
        if len(self.continuous) > 1:
            return _turned_to(T, R_ref, _meeting_point(self.continuous))
        candidates = T @ self.discrete
        if self.continuous:
            axis, offset = self.continuous[0]
            # trace(R_ref^T R A(angle) D) is a sinusoid of the angle; the nearest rotation is at its maximum.
            M = self.discrete[:, :3, :3] @ R_ref.T @ T[:3, :3]
            across = np.einsum("nij,ji->n", M, skew(axis))
            angles = np.arctan2(across, np.trace(M, axis1=1, axis2=2) - axis @ M @ axis)
            turns = np.stack([rotation_about(axis, offset, angle) for angle in angles])
            candidates = T @ turns @ self.discrete
        similarity = np.einsum("ij,nij->n", R_ref, candidates[:, :3, :3])
        return candidates[int(np.argmax(np.round(similarity, 9)))]

    def least_angles(self, R: np.ndarray, R_ref: np.ndarray) -> np.ndarray:
        """Return the angles [N, M] (radians) from rotations R [N, 3, 3] to R_ref [M, 3, 3].

        Of those from all rotations that are equivalent to one in R it is the least.
        """
        if len(self.continuous) > 1:
            return np.zeros((len(R), len(R_ref)))
        M = np.einsum("dij,mkj,nkl->dnmil", self.discrete[:, :3, :3], R_ref, R, optimize=True)
        trace = np.einsum("dnmii->dnm", M)
        if self.continuous:
            axis = self.continuous[0][0]
            along = np.einsum("i,dnmij,j->dnm", axis, M, axis, optimize=True)
            across = np.einsum("dnmij,ji->dnm", M, skew(axis), optimize=True)
            trace = along + np.hypot(trace - along, across)
        # trace = 1 + 2 cos a. The half angle is used, since the arc cosine is inexact near zero.
        return 2 * np.arcsin(np.sqrt(np.clip((3 - trace.max(axis=0)) / 4, 0, 1)))


def _turned_to(T: np.ndarray, R_ref: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Rotate a ball's pose to the reference's rotation; its middle stays."""
    return transform(R_ref, T[:3, :3] @ centre + T[:3, 3] - R_ref @ centre)


def _closure(turns: Sequence[np.ndarray]) -> np.ndarray:
    """Generate the group [n, 4, 4] of rotations, the identity first."""
    group = [np.eye(4)]
    for known in group:  # grows while it is walked
        for turn in turns:
            product = known @ turn
            if all(np.abs(product - other).max() > 1e-6 for other in group):
                group.append(product)
        if len(group) > MAX_GROUP:
            raise VPOGError(
                f"The discrete symmetries make more than {MAX_GROUP} when combined: "
                "check their axes and orders, or use a continuous one."
            )
    return np.stack(group)


def _turn(entry, unit: float) -> np.ndarray:
    """Make the smallest rotation [4, 4] of {axis, order, offset}."""
    axis, offset = _axis_of(entry, unit, more=("order",))
    order = entry.get("order")
    if isinstance(order, bool) or not isinstance(order, int) or order < 2:
        raise VPOGError(
            f"The order of a discrete symmetry is {order!r}: give how many turns make a full one, at least 2."
        )
    return rotation_about(axis, offset, 2 * np.pi / order)


def _axis_of(entry, unit: float, more: tuple[str, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Parse (axis [3] unit, offset [3] metres) of {axis, offset}."""
    if not isinstance(entry, Mapping):
        raise VPOGError(f"A symmetry's axis is given as a mapping such as {{axis: z}}, not as '{entry}'.")
    _known(entry, ("axis", "offset", *more), "an axis of symmetry")
    name = entry.get("axis")
    axis = _numbers(_AXES.get(name, name) if isinstance(name, str) else name, 3, "axis of a symmetry")
    length = float(np.linalg.norm(axis))
    if length < 1e-9:
        raise VPOGError(f"The axis of a symmetry is {axis.tolist()}: give x, y, z or a direction.")
    return axis / length, _numbers(entry.get("offset", (0, 0, 0)), 3, "offset of a symmetry") * unit


def _matrix(entry, unit: float) -> np.ndarray:
    T = _numbers(entry, 16, "discrete symmetry").reshape(4, 4)
    left, _, right = np.linalg.svd(T[:3, :3])
    R = left @ right
    rigid = np.abs(R - T[:3, :3]).max() < _RIGID and np.abs(T[3] - (0, 0, 0, 1)).max() < _RIGID
    if not rigid or np.linalg.det(R) < 0:
        raise VPOGError(
            f"The discrete symmetry {T.ravel().tolist()} is no rotation and shift: "
            "give the rows of a rigid 4x4 matrix."
        )
    return transform(R, T[:3, 3] * unit)


def _numbers(value, count: int, what: str) -> np.ndarray:
    try:
        numbers = np.asarray(value, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.size != count or not np.isfinite(numbers).all():
        raise VPOGError(f"The {what} is '{value}': it must be {count} numbers.")
    return numbers


def _list(value: Mapping, key: str) -> list:
    found = value.get(key)
    if found is None:
        return []
    if not isinstance(found, (list, tuple)):
        raise VPOGError(f"'{key}' of a symmetry must be a list such as [{{axis: z}}], not '{found}'.")
    return list(found)


def _known(value: Mapping, keys: tuple[str, ...], what: str) -> None:
    for key in value:
        if key not in keys:
            raise VPOGError(f"The key '{key}' of {what} is not known: use {', '.join(keys)}.")


def _checked(axes: list[tuple[np.ndarray, np.ndarray]]) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Check axes, and drop doubles; several must meet in one point (a ball)."""
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for axis, offset in axes:
        doubles = (
            np.linalg.norm(np.cross(axis, a)) < 1e-6 and np.linalg.norm(np.cross(axis, offset - o)) < 1e-6
            for a, o in kept
        )
        if not any(doubles):
            kept.append((axis, offset))
    if len(kept) > 1:
        _meeting_point(kept)
    return tuple(kept)


def _meeting_point(axes: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Compute the point [3] nearest to all axes, on all of them."""
    across = [np.eye(3) - np.outer(axis, axis) for axis, _ in axes]
    b = sum(P @ offset for P, (_, offset) in zip(across, axes, strict=True))
    point = np.linalg.lstsq(sum(across), b, rcond=None)[0]
    apart = max(np.linalg.norm(P @ (point - offset)) for P, (_, offset) in zip(across, axes, strict=True))
    if apart > 1e-6:
        raise VPOGError(
            "The axes of a continuous symmetry do not meet in one point, as no solid's do: check the offsets."
        )
    return point
