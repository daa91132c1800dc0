"""Find the symmetries of a mesh: rotations after which its shape and its colours are where they were.

    found = find_symmetry(mesh)
    found.symmetry               what the pipeline works with
    found.settings("mm")         what to write into objects.yaml

A turn about an axis through the middle of the convex hull is tried on points of the visible surface: every
turned point must lie on the surface again, with its colour nearby. Reflections do not count: no motion of a
rigid object makes one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.spatial import ConvexHull, QhullError, cKDTree

from vpog_core.geometry.se3 import rotation_about
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.mesh import UNITS, Mesh
from vpog_core.objects.visible_surface import visible_surface
from vpog_core.types import VPOGError

MAX_ORDER = 36
"""Turns of a full one that are tried; a gear of more teeth is none, or continuous where they are small."""
SURFACE_POINTS, TRIED_POINTS, QUICK_POINTS = 8000, 2000, 300
NEIGHBOURS = 10
"""Samples around a place: both sides of a thin wall are among them."""
FACING = 0.5
"""Cosine under which two normals belong to different sides of a thin wall."""
OFF_SURFACE, FAR_OFF = 0.012, 0.03
"""Deviations in diameters: about one pixel in a crop of 128 pixels, and a clearly visible one."""
COLOR = 30.0
"""Grey levels that tell colours apart under changing light."""
MAX_OUTLIERS = np.array([0.02, 0.003, 0.02])
"""Fractions of the surface that may be off, far off, and of another colour: scans are rough."""
DEGENERATE = 0.05
"""Moments of the hull that differ by less may be those of a shape that is alike in both directions."""
GOLDEN_ANGLE = 2.399963
"""Golden angle, radians: its multiples are far from rotations of a low order."""
SCAN_STEP = np.radians(2.0)
ALIGNED = 1e-3
"""An axis that is off a coordinate axis or the origin by less (radians, diameters) is written as that."""
KNOWN_ANGLES = np.radians([90.0, 54.735610, 45.0, 31.717474])
"""Angles between the main axis and another of dihedral groups, tetrahedron, cube and icosahedron."""


@dataclass(frozen=True)
class FoundSymmetry:
    """Holds the result of a search.

    Attributes:
        axes: (direction [3] unit, order) of turns that make all others; order 0 is an axis of revolution.
        center: [3] metres, a point on all axes; diameter: metres, of the mesh.
    """

    axes: tuple[tuple[np.ndarray, int], ...]
    center: np.ndarray
    diameter: float

    def settings(self, unit: str = "m") -> dict:
        """Return the `symmetry:` of the object in objects.yaml, lengths in m, cm or mm; empty: none."""
        away = [np.linalg.norm(np.cross(axis, self.center)) for axis, _ in self.axes]
        offset = {}
        if max(away, default=0.0) > ALIGNED * self.diameter:
            along = self.axes[0][0] if len(self.axes) == 1 else np.zeros(3)
            point = self.center - (along @ self.center) * along
            offset = {"offset": [round(float(v) / UNITS[unit], 9) for v in point]}
        out: dict[str, list] = {}
        for axis, order in self.axes:
            entry = {"axis": _axis_name(axis), **({"order": order} if order else {}), **offset}
            out.setdefault("discrete" if order else "continuous", []).append(entry)
        return out

    @property
    def symmetry(self) -> Symmetry:
        """Return the group of all these rotations."""
        return Symmetry.from_mapping(self.settings())


def find_symmetry(mesh: Mesh) -> FoundSymmetry:
    """Find the turns about one point after which a mesh looks the same, by shape and colour together."""
    shape = _Shape(mesh)
    if not shape.is_well_sampled:
        return FoundSymmetry((), shape.center, mesh.diameter)
    found: list[tuple[np.ndarray, int]] = []
    for axis, most in shape.candidates():
        order = _order(shape, axis, most)
        if order == 0:
            return FoundSymmetry(_axes_of_revolved_shape(shape, _snapped(axis)), shape.center, mesh.diameter)
        if order > 1:
            found.append((_snapped(axis), order))
    axes = _generators(shape, sorted(found, key=lambda item: -item[1]))
    return FoundSymmetry(axes, shape.center, mesh.diameter)


def _axes_of_revolved_shape(shape: _Shape, axis: np.ndarray) -> tuple[tuple[np.ndarray, int], ...]:
    """Return the axes of a shape that has an axis of revolution: a ball, a spool or a cup."""
    across = _perpendicular(axis)
    if _order(shape, across, MAX_ORDER) == 0:
        return tuple((axis, 0) for axis in np.eye(3))
    flips = ((across, 2),) if shape.same(shape.turn(across, np.pi)) else ()
    return ((axis, 0), *flips)


class _Shape:
    """Holds a mesh for the search: points of its surface, its hull, and candidate axes."""

    def __init__(self, mesh: Mesh) -> None:
        rng = np.random.default_rng(0)
        surface = visible_surface(mesh, SURFACE_POINTS + TRIED_POINTS, rng)
        self.diameter = mesh.diameter
        self.points, self.normals, self.colors = surface.points, surface.normals, surface.colors
        self.is_well_sampled = len(self.points) > 2 * TRIED_POINTS
        self.center = mesh.center
        self.moments = np.cov(self.points.T) if self.is_well_sampled else np.eye(3)
        self.planes = np.zeros((0, 4))
        self.corners = mesh.hull_points
        try:
            self._measure_hull(ConvexHull(mesh.hull_points))
        except (QhullError, ValueError):  # flat: its middle is that of its surface
            self.center = self.points.mean(axis=0) if self.is_well_sampled else self.center
        if self.is_well_sampled:
            self.tree = cKDTree(self.points[TRIED_POINTS:])
            near = self.tree.query(self.points[TRIED_POINTS : TRIED_POINTS + 500], k=2)[0][:, 1]
            self.gap = 2 * float(np.median(near))  # distance between neighbouring samples
            # At sharp edges some points are off their own surface: they do not count as different.
            self.unmoved = {count: self._off(np.eye(4), count) for count in (QUICK_POINTS, TRIED_POINTS)}

    def _measure_hull(self, hull: ConvexHull) -> None:
        """Set middle, second moments and planes of the convex hull, as of a solid body."""
        base = hull.points.mean(axis=0)
        corners = hull.points[hull.simplices] - base
        volume = np.abs(np.linalg.det(corners))[:, None]
        total = corners.sum(axis=1)
        middle = (volume * total).sum(axis=0) / (4 * volume.sum())
        squares = np.einsum("nki,nkj->nij", corners, corners) + total[:, :, None] * total[:, None]
        second = (volume[..., None] * squares).sum(axis=0) / (20 * volume.sum())
        self.center, self.moments = base + middle, second - np.outer(middle, middle)
        edges = corners[:, 1:] - corners[:, :1]
        area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
        order = np.argsort(-area)
        self.planes = _distinct(hull.equations[order], 1e-4, 400)
        away = np.linalg.norm(self.corners - self.center, axis=1)
        self.corners = self.corners[np.argsort(-away)[:150]]

    def turn(self, axis: np.ndarray, angle: float) -> np.ndarray:
        """Return the turn [4, 4] about an axis through the middle."""
        return rotation_about(axis, self.center, angle)

    def same(self, S: np.ndarray, patience: float = 1.0) -> bool:
        """Tell whether the object looks the same after a motion S [4, 4].

        Args:
            patience: factor on the fractions of the surface that may be off.
        """
        corners = self.corners @ S[:3, :3].T + S[:3, 3]
        if len(self.planes) and (corners @ self.planes[:, :3].T + self.planes[:, 3]).max() > (
            OFF_SURFACE * self.diameter
        ):
            return False
        for count, more in ((QUICK_POINTS, 3.0), (TRIED_POINTS, 1.0)):  # few points give rough fractions
            if (self._off(S, count) > patience * more * MAX_OUTLIERS + self.unmoved[count]).any():
                return False
        return True

    def _off(self, S: np.ndarray, count: int) -> np.ndarray:
        """Return the fractions [3] of the first `count` points: off, far off, of another colour."""
        points = self.points[:count] @ S[:3, :3].T + S[:3, 3]
        normals = self.normals[:count] @ S[:3, :3].T
        distance, index = self.tree.query(points, k=NEIGHBOURS)
        index = index + TRIED_POINTS
        facing = np.einsum("ni,nki->nk", normals, self.normals[index]) > FACING
        # Distance to the tangent plane of a sample, or to the sample beyond the plane's extent.
        height = np.abs(np.einsum("nki,nki->nk", points[:, None] - self.points[index], self.normals[index]))
        off = np.maximum(height, distance - 1.5 * self.gap)
        off = np.where(facing, off, np.inf).min(axis=1) / self.diameter
        color = np.abs(self.colors[:count, None] - self.colors[index]).max(axis=2)
        color = np.where(facing, color, np.inf).min(axis=1)
        return np.array([(off > OFF_SURFACE).mean(), (off > FAR_OFF).mean(), (color > COLOR).mean()])

    def candidates(self) -> list[tuple[np.ndarray, int]]:
        """Return axes that may be of symmetry, each with the highest order to try.

        An axis of symmetry is a principal axis of the hull. Where two moments are alike, any direction
        across the third may be one, of order 2; where all are, the normals of faces and what lies between.
        """
        values, vectors = np.linalg.eigh(self.moments)
        own = [*np.eye(3), *vectors.T]
        alike = np.diff(values) < DEGENERATE * values[1:]
        more = []
        if alike.all():
            normals = list(_distinct(self.planes[:, :3], 0.02, 10))
            corners = list(_distinct(self.corners - self.center, 0.05 * self.diameter, 14))
            pairs = [a + sign * b for a, b in combinations(normals[:6], 2) for sign in (1, -1)]
            between = [axis for axis in (*corners, *pairs) if np.linalg.norm(axis) > 0.1 * self.diameter]
            more = [(axis / np.linalg.norm(axis), 5) for axis in (*normals, *between)]
        elif alike.any():
            third = vectors[:, 2 if alike[0] else 0]
            more = [(axis, 2) for axis in self._across(third)]
        return _distinct_axes([(axis, MAX_ORDER) for axis in own] + more)

    def _across(self, axis: np.ndarray) -> Iterator[np.ndarray]:
        """Yield directions across an axis: towards faces of the hull first, then all around."""
        flat = self.planes[:40, :3] - np.outer(self.planes[:40, :3] @ axis, axis)
        length = np.linalg.norm(flat, axis=1)
        yield from flat[length > 0.3] / length[length > 0.3, None]
        first = _perpendicular(axis)
        second = np.cross(axis, first)
        for angle in np.arange(0, np.pi, SCAN_STEP):
            yield np.cos(angle) * first + np.sin(angle) * second


def _order(shape: _Shape, axis: np.ndarray, most: int) -> int:
    """Return the order of an axis, `most` at most: 0 for an axis of revolution, 1 for none."""
    if most > 5 and all(shape.same(shape.turn(axis, k * GOLDEN_ANGLE)) for k in range(1, 6)):
        return 0
    for order in range(most, 1, -1):
        # The error of one small rotation may be below the tolerance, and that of several of them above it.
        if all(shape.same(shape.turn(axis, 2 * np.pi * k / order)) for k in range(order // 2, 0, -1)):
            return order
    return 1


def _generators(shape: _Shape, found: list[tuple[np.ndarray, int]]) -> tuple[tuple[np.ndarray, int], ...]:
    """Return one or two turns that make all that were found, each of which is the object's."""
    if not found:
        return ()
    main = found[0]
    for axis, order in found[1:]:
        both = (main, (_at_known_angle(main[0], axis), order))
        try:
            group = FoundSymmetry(both, shape.center, shape.diameter).symmetry.discrete
        except VPOGError:  # two axes that belong to no common group
            continue
        # The product of two rotations that are each within the tolerance may have the error of both.
        if len(group) > main[1] and all(shape.same(S, 2.0) for S in group[1:]):
            return both
    return (main,)


def _at_known_angle(main: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Return the axis at just the angle to the main one that a group's has, where it is near one."""
    axis = axis if axis @ main >= 0 else -axis
    angle = np.arccos(np.clip(axis @ main, -1, 1))
    nearest = KNOWN_ANGLES[np.argmin(np.abs(KNOWN_ANGLES - angle))]
    across = axis - (axis @ main) * main
    if abs(nearest - angle) > 2 * SCAN_STEP or np.linalg.norm(across) < 1e-6:
        return axis
    return np.cos(nearest) * main + np.sin(nearest) * across / np.linalg.norm(across)


def _perpendicular(axis: np.ndarray) -> np.ndarray:
    """Return a direction across an axis, a coordinate axis where there is one."""
    other = np.eye(3)[int(np.argmin(np.abs(axis)))]
    across = other - (other @ axis) * axis
    return across / np.linalg.norm(across)


def _distinct(rows: np.ndarray, apart: float, most: int) -> np.ndarray:
    """Return the first rows, `most` at most, that are farther than `apart` from all before them."""
    kept = np.empty((0, rows.shape[1]))
    while len(rows) and len(kept) < most:
        kept = np.concatenate([kept, rows[:1]])
        rows = rows[np.abs(rows - rows[0]).max(axis=1) > apart]
    return kept


def _distinct_axes(axes: list[tuple[np.ndarray, int]]) -> list[tuple[np.ndarray, int]]:
    """Return the axes without those along one before, to half a degree."""
    kept: list[tuple[np.ndarray, int]] = []
    for axis, most in axes:
        if all(abs(axis @ other) < np.cos(np.radians(0.5)) for other, _ in kept):
            kept.append((axis, most))
    return kept


def _snapped(axis: np.ndarray) -> np.ndarray:
    """Return the axis, or the coordinate axis it is along."""
    largest = int(np.argmax(np.abs(axis)))
    return np.eye(3)[largest] if np.abs(np.delete(axis, largest)).max() < ALIGNED else axis


def _axis_name(axis: np.ndarray) -> str | list[float]:
    """Return x, y, z or three numbers."""
    largest = int(np.argmax(np.abs(axis)))
    if np.abs(np.delete(axis, largest)).max() < 1e-9:
        return "xyz"[largest]
    return [round(float(v), 9) + 0.0 for v in axis * np.sign(axis[largest])]
