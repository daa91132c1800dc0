"""Sample points of a mesh's surface that are visible from outside, with colour and side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer

RAYS = 12
"""Number of directions from which the visibility of a point is tested, on each side of its face."""
RAY_OFFSET = 1e-3
"""Rays begin so far above the surface, in diameters."""


@dataclass(frozen=True)
class SurfacePoints:
    """Holds N points, evenly spread over the visible surface.

    Attributes:
        points: [N, 3] metres, object frame; normals: [N, 3] unit, towards the side that is seen.
        colors: [N, 3] 0..255, without light.
    """

    points: np.ndarray
    normals: np.ndarray
    colors: np.ndarray


def visible_surface(mesh: Mesh, count: int, rng: np.random.Generator) -> SurfacePoints:
    """Draw points of the surface and keep those that can be seen, in random order.

    What lies inside of a closed body is left out. Which way a face is turned does not matter; a point of a
    sheet that is seen from both sides is there twice.

    Args:
        count: points that are drawn.
    """
    # Draw points evenly over the faces.
    corners = mesh.vertices[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.linalg.norm(cross, axis=1)
    face = rng.choice(len(double_area), count, p=double_area / double_area.sum())
    u, v = np.sort(rng.random((2, count)), axis=0)
    weights = np.stack([u, v - u, 1 - v], axis=1)
    points = (corners[face] * weights[..., None]).sum(axis=1)
    normals = cross[face] / double_area[face][:, None]
    # Look up their colours, each as the mean over its part of the surface.
    renderer = Renderer(mesh)
    footprint = np.full(count, np.sqrt(double_area.sum() / 2 / count), dtype=np.float32)
    colors = np.asarray(renderer.surface.color(face, weights.astype(np.float32), footprint), np.float32)
    # Keep those that are seen, from each side of their face.
    seen = [_seen(renderer, points, side * normals, rng) for side in (1, -1)]
    index = rng.permutation(np.concatenate([np.flatnonzero(seen[0]), count + np.flatnonzero(seen[1])]))
    both = np.concatenate([normals, -normals])
    return SurfacePoints(points[index % count], both[index], colors[index % count])


def _seen(
    renderer: Renderer, points: np.ndarray, normals: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Tell whether each point [N] can be seen from some direction above it."""
    directions = rng.normal(size=(RAYS, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    origins = points + RAY_OFFSET * renderer.mesh.diameter * normals
    seen = np.zeros(len(points), dtype=bool)
    for direction in directions:
        side = np.sign(normals @ direction)[:, None]
        seen |= ~renderer.blocked(np.eye(4), origins, (side * direction).astype(np.float32))
    return seen
