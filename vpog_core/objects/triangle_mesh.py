"""Define triangle meshes, in metres."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import cdist

from vpog_core.objects.viewpoints import icosphere
from vpog_core.utils.fingerprint import ReadFile

MOST_POINTS = 8000
"""Largest number of points on the hull whose distances are all computed."""
ROWS = 512
"""Points whose distances to all others are computed at a time."""


@dataclass
class Mesh:
    """Holds a triangle mesh with its colours.

    Attributes:
        vertices: [V, 3] float64, metres, object frame.
        faces: [F, 3] int32.
        vertex_colors: [V, 3] uint8 RGB, or None.
        uv: [F, 3, 2] float32 texture coordinates of the faces' corners, v up (row = (1 - v) height), or None.
        texture: [h, w, 3] uint8 RGB, or None.
        base_color: [3] uint8 RGB, used where there is neither texture nor vertex colour.
        corner_normals: [F, 3, 3] float32 unit normals of the faces' corners as the file gives them, or None.
        files: the files it was read from: its own, materials, textures, data.
        notes: sentences on what the file holds and was left out, or what is doubtful about it.
    """

    vertices: np.ndarray
    faces: np.ndarray
    vertex_colors: np.ndarray | None = None
    uv: np.ndarray | None = None
    texture: np.ndarray | None = None
    base_color: np.ndarray | None = None
    corner_normals: np.ndarray | None = None
    files: tuple[ReadFile, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.vertices = np.ascontiguousarray(self.vertices, dtype=np.float64)
        self.faces = np.ascontiguousarray(self.faces, dtype=np.int32)
        if self.base_color is None:
            self.base_color = np.full(3, 180, dtype=np.uint8)

    @cached_property
    def hull_points(self) -> np.ndarray:
        """The vertices [N, 3] of the convex hull, for extents, projected boxes and the diameter."""
        used = self.vertices[np.unique(self.faces)]
        try:
            return used[ConvexHull(used).vertices]
        except (QhullError, ValueError):
            # The mesh is flat or a line: joggle the input.
            try:
                return used[ConvexHull(used, qhull_options="QJ").vertices]
            except (QhullError, ValueError):
                return used

    @cached_property
    def diameter(self) -> float:
        """The largest distance between two points of the mesh, metres (BOP's diameter); 0 without any.

        Of many points on the hull those are compared that lie outermost in 2562 directions, some 4 degrees
        apart: the distance is then short by at most a thousandth.
        """
        points = self.hull_points
        if len(points) > MOST_POINTS:
            points = points[np.unique(np.argmax(points @ icosphere(4).T, axis=0))]
        starts = range(0, len(points), ROWS)
        return max((float(cdist(points[i : i + ROWS], points[i:]).max()) for i in starts), default=0.0)

    @cached_property
    def bounds(self) -> np.ndarray:
        """The lowest and highest corner [2, 3] of the axis-aligned box, metres."""
        points = self.hull_points
        return np.stack([points.min(axis=0), points.max(axis=0)])

    @property
    def center(self) -> np.ndarray:
        """The middle [3] of the axis-aligned box, metres."""
        return self.bounds.mean(axis=0)
