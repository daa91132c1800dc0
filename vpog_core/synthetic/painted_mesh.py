"""Turn a painted surface into a mesh, which can be saved: with its texture, or with colours of vertices.

`repaint` changes the surface of a renderer alone. A texture becomes the mesh's own. Decals lie over the
mesh's colours and have texture coordinates of their own: they are baked into vertices, of faces cut into
small pieces.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.surface import Surface

CELL = 0.01
"""Side of the pieces that faces are cut into, diameters: under two pixels of a crop of the refiner."""
MAX_FACES = 120_000
"""Pieces at most, where a mesh does not have more faces itself; pieces are larger where need be."""


def painted_mesh(renderer: Renderer) -> Mesh:
    """Make a mesh that looks as a renderer shows it, whatever its surface was painted with."""
    mesh, surface = renderer.mesh, renderer.surface
    if surface.decals is not None:
        return _baked(mesh, surface)
    plain = replace(mesh, vertex_colors=None, uv=None, texture=None)
    if surface.texture is not None:
        return replace(plain, uv=surface.texture.uv, texture=surface.texture.finest)
    if surface.colors is not None:
        return replace(plain, vertex_colors=mesh.vertex_colors)
    return replace(plain, base_color=surface.base_color.round().astype(np.uint8))


def _baked(mesh: Mesh, surface: Surface) -> Mesh:
    """Make a mesh of small faces, each with the surface's colours and normals at its corners."""
    corners = mesh.vertices[mesh.faces]
    parts, cell = _cuts(corners, CELL * mesh.diameter)
    vertices, faces, colors, normals = [], [], [], []
    for cuts in np.unique(parts):
        # Cut all faces that are cut into as many parts a side in the same way.
        chosen = np.flatnonzero(parts == cuts)
        weights, pieces = _grid(int(cuts))
        face = np.repeat(chosen, len(weights))
        at = np.tile(weights, (len(chosen), 1))
        first = sum(map(len, vertices)) + len(weights) * np.arange(len(chosen))
        vertices.append(np.einsum("wc,fcx->fwx", weights, corners[chosen]).reshape(-1, 3))
        faces.append((first[:, None, None] + pieces).reshape(-1, 3))
        # Look colours and normals up at the new corners.
        colors.append(surface.color(face, at.astype(np.float32), np.full(len(face), cell, np.float32)))
        normals.append(surface.normal(face, at.astype(np.float32)))
    joined = np.concatenate(faces)
    return Mesh(
        np.concatenate(vertices),
        joined,
        vertex_colors=np.concatenate(colors).round().clip(0, 255).astype(np.uint8),
        corner_normals=np.concatenate(normals)[joined],
    )


def _cuts(corners: np.ndarray, cell: float) -> tuple[np.ndarray, float]:
    """Choose into how many parts the sides of each face [F, 3, 3] are cut: ([F] int, side of the pieces)."""
    longest = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2).max(axis=1)
    while True:
        parts = np.maximum(np.ceil(longest / cell), 1).astype(int)
        if (parts == 1).all() or (parts**2).sum() <= MAX_FACES:
            return parts, cell
        cell *= 1.2


def _grid(cuts: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a triangle into `cuts` squared pieces: barycentric weights [N, 3] of corners, and faces [M, 3]."""
    rows = [(i, j) for i in range(cuts + 1) for j in range(cuts + 1 - i)]
    index = {place: n for n, place in enumerate(rows)}
    up = [(index[i, j], index[i + 1, j], index[i, j + 1]) for i, j in rows if i + j < cuts]
    down = [(index[i + 1, j], index[i + 1, j + 1], index[i, j + 1]) for i, j in rows if i + j < cuts - 1]
    i, j = np.array(rows, dtype=np.float64).T / cuts
    return np.stack([1 - i - j, i, j], axis=1), np.array(up + down)
