"""Make the object that an imperfect mesh was made of: its shape and colours differ a little from the mesh's.

Scans and CAD models are never exact: sizes are off by a per cent, surfaces bulge, colours were measured in
another light, light and shadow are baked in. Objects in synthetic images are rendered from the very mesh that
the estimator has, so a score that was fitted to those alone expects too much of a mesh.
"""

from __future__ import annotations

import numpy as np

from vpog_core.objects.mesh import Mesh

SCALE, BULGE = 0.012, 0.006
"""Standard deviations of the error of each side's length, and of the surface's place; of the diameter."""
GAMMA, BRIGHTNESS, TINT = 0.35, 0.15, 0.08
"""Standard deviations of the logarithms of gamma, of the gain of all channels, and of that of each."""
STAINS = ((0.2, 1.0, 0.05), (0.06, 0.3, 0.04))
"""Shortest and longest wave (diameters) and standard deviation (of white) of what is baked in."""
WAVES = 8
"""Plane waves that make up a field."""


def imperfect(rng: np.random.Generator, mesh: Mesh, strength: float) -> Mesh:
    """Return a mesh that differs from a given one as an object does from its scan; same object frame.

    Args:
        mesh: with vertex colours or of one colour.
        strength: about 0 to 1; 1 is a rough scan.
    """
    # Stretch the sides, and let the surface bulge.
    places = (mesh.vertices - mesh.center) / mesh.diameter
    stretched = places * (1 + strength * SCALE * rng.normal(size=3))
    bulges = np.stack([_field(rng, places, 0.3, 1.5) for _ in range(3)], axis=1)
    vertices = mesh.center + mesh.diameter * (stretched + strength * BULGE * bulges)
    # Change the colours.
    return Mesh(vertices, mesh.faces, vertex_colors=_recoloured(rng, mesh, places, strength))


def _recoloured(rng: np.random.Generator, mesh: Mesh, places: np.ndarray, strength: float) -> np.ndarray:
    """Return vertex colours [V, 3] uint8 of another gamma, brightness and tint, with stains."""
    gamma = np.exp(strength * GAMMA * rng.normal())
    gain = np.exp(strength * (BRIGHTNESS * rng.normal() + TINT * rng.normal(size=3)))
    stains = sum(deviation * _field(rng, places, *waves) for *waves, deviation in STAINS)
    own = mesh.base_color[None] if mesh.vertex_colors is None else mesh.vertex_colors[:, :3]
    colors = (own / 255.0) ** gamma * gain + strength * stains[:, None]
    return (colors.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _field(rng: np.random.Generator, places: np.ndarray, shortest: float, longest: float) -> np.ndarray:
    """Draw a smooth field of standard deviation 1 at places [V, 3], of waves between two lengths: [V]."""
    directions = rng.normal(size=(WAVES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    frequency = 2 * np.pi / rng.uniform(shortest, longest, WAVES)
    phase = rng.uniform(0, 2 * np.pi, WAVES)
    return np.sin(places @ directions.T * frequency + phase).sum(axis=1) / np.sqrt(WAVES / 2)
