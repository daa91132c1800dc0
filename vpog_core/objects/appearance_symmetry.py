"""Find which symmetries of a shape also hold for its colours, fast enough for every new texture."""

from __future__ import annotations

import numpy as np

from vpog_core.geometry.se3 import rotation_about
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.symmetry_search import COLOR, GOLDEN_ANGLE, MAX_OUTLIERS
from vpog_core.objects.template_set import template_camera
from vpog_core.objects.viewpoints import viewpoint_directions

VIEWS, VIEW_SIZE, POINTS = 12, 20, 400
"""The surface is sampled in VIEWS renders of VIEW_SIZE pixels a side, at up to POINTS points."""
REACH, DETAIL = 0.02, 0.01
"""Diameters: how far a rotated point may lie from the surface, and the size of details that count."""
ORDERS = (6, 5, 4, 3, 2)
"""Turns tried about an axis of revolution whose print is not the same all around."""


def appearance_symmetry(renderer: Renderer, shape: Symmetry) -> Symmetry:
    """Return the symmetries of a shape that its colours keep.

    Args:
        renderer: of the mesh in its colours; shape: the symmetry of the bare mesh.
    """
    if shape.is_trivial:
        return shape
    points, normals = _seen_points(renderer)
    before = _colors(renderer, points, normals)

    def same(S: np.ndarray) -> bool:
        after = _colors(renderer, points @ S[:3, :3].T + S[:3, 3], normals @ S[:3, :3].T)
        differs = np.abs(after - before).max(axis=1) > COLOR  # False without a surface (NaN)
        return bool(differs.mean() <= MAX_OUTLIERS[2])

    kept = [S for n, S in enumerate(shape.discrete) if n == 0 or same(S)]
    continuous = []
    for axis, offset in shape.continuous:
        if all(same(rotation_about(axis, offset, k * GOLDEN_ANGLE)) for k in range(1, 5)):
            continuous.append((axis, offset))
            continue
        order = next((n for n in ORDERS if same(rotation_about(axis, offset, 2 * np.pi / n))), 1)
        turns = [rotation_about(axis, offset, 2 * np.pi * k / order) for k in range(1, order)]
        kept += [turn @ S for S in kept for turn in turns]
    # A ball with a print along one axis keeps only the rotations about that axis.
    return Symmetry(np.stack(kept), tuple(continuous))


def _seen_points(renderer: Renderer) -> tuple[np.ndarray, np.ndarray]:
    """Sample points [N, 3] and unit normals [N, 3] (object frame) of the visible surface."""
    points, normals = [], []
    for direction in viewpoint_directions()[:VIEWS]:
        K, T = template_camera(renderer.mesh, direction, VIEW_SIZE)
        view = renderer.render(T, K, (VIEW_SIZE, VIEW_SIZE))
        points.append(view.coords[view.mask])
        normals.append(view.normals[view.mask])
    points, normals = (np.concatenate(v).astype(np.float64) for v in (points, normals))
    step = max(1, len(points) // POINTS)
    return points[::step], normals[::step]


def _colors(renderer: Renderer, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Look up the colours [N, 3] of the surface at points, NaN where there is no surface."""
    diameter = renderer.mesh.diameter
    return renderer.colors_at(points, normals, REACH * diameter, DETAIL * diameter)
