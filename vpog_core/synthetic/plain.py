"""Objects in plain paint: only shape and shading tell their pose, as of many a machine part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from vpog_core.objects.mesh import Mesh
from vpog_core.synthetic.prints import palette

ROUND_POINTS, ROUND_TURN, ROUND_GAP = 3000, 0.7, 3.0
"""Samples of a surface, the turn (radians) that leaves a round one in place, and how well (mean gaps)."""
DENSE_POINTS = 40_000
"""Samples a turned surface is compared with; they lie some 0.3 % of the diameter apart."""
TURN_ORDERS = (8, 6, 5, 4, 3, 2)
TURN_GAP = 0.025
"""A turn is a symmetry when no sample ends farther from the surface than this fraction of the diameter.

One pixel of the spacing between samples included, that is 2 pixels of an object 90 pixels wide.
"""


def painted_plain(mesh: Mesh, name: str) -> Mesh:
    """Paint a mesh in one colour, which `name` decides.

    A round one stays as it is: nothing but its print tells its pose.
    """
    if is_round(mesh):
        return mesh
    color = palette(np.random.default_rng(list(name.encode())))[0]
    return replace(mesh, vertex_colors=None, uv=None, texture=None, base_color=color)


def is_round(mesh: Mesh) -> bool:
    """Tell whether a turn about one of the main axes leaves the surface where it was."""
    points = _samples(mesh, ROUND_POINTS)
    points = points - points.mean(axis=0)
    tree = cKDTree(points)
    itself = np.median(tree.query(points, k=2)[0][:, 1])
    for axis in np.linalg.svd(points, full_matrices=False)[2]:
        turned = points @ Rotation.from_rotvec(ROUND_TURN * axis).as_matrix().T
        # Two samples of one surface are as near to each other as one's points are among themselves.
        if np.percentile(tree.query(turned)[0], 96) < ROUND_GAP * itself:
            return True
    return False


def shape_symmetry(mesh: Mesh) -> dict:
    """Find the turns about the frame's axes, through the middle, after which the bare shape looks the same.

    Returns:
        What `Symmetry.from_mapping` reads, metres; empty without any.
    """
    tree, points = cKDTree(_samples(mesh, DENSE_POINTS)), _samples(mesh, ROUND_POINTS) - mesh.center
    found = []
    for name, axis in zip("xyz", np.eye(3), strict=True):
        for order in TURN_ORDERS:
            turned = points @ Rotation.from_rotvec(2 * np.pi / order * axis).as_matrix().T + mesh.center
            if tree.query(turned)[0].max() < TURN_GAP * mesh.diameter:
                found.append({"axis": name, "order": order, "offset": mesh.center.tolist()})
                break
    return {"discrete": found} if found else {}


def _samples(mesh: Mesh, count: int) -> np.ndarray:
    """[count, 3] points of the surface, the same ones each time."""
    shape = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    return trimesh.sample.sample_surface(shape, count, seed=0)[0]
