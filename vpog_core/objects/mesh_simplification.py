"""Make coarse copies of meshes for display."""

from __future__ import annotations

import numpy as np

FIRST_CELLS = 256
"""Initial number of cells along a mesh's longest side."""


def simplify(vertices: np.ndarray, faces: np.ndarray, max_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Reduce a mesh to a number of faces at most, by merging the vertices of each cell of a grid.

    Rossignac and Borrel, Multi-resolution 3D approximations for rendering complex scenes (1993).

    Args:
        vertices: [V, 3]; faces: [F, 3] rows of them.
        max_faces: 12 or more, as many as a box has.

    Returns:
        Vertices and faces; the mesh itself where it has no more faces than that.
    """
    cells = float(FIRST_CELLS)
    low, extent = vertices.min(axis=0), max(float(np.ptp(vertices, axis=0).max()), 1e-12)
    coarse = vertices, faces
    while len(coarse[1]) > max_faces and cells > 1:
        coarse = _merged(
            vertices, faces, np.minimum((vertices - low) * (cells / extent), cells - 1).astype(int)
        )
        cells /= 1.3
    return coarse


def _merged(vertices: np.ndarray, faces: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge the vertices that share a cell [V, 3] into their mean; faces without an area are left out."""
    _, of_vertex, counts = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    of_vertex = of_vertex.ravel()
    sums = np.zeros((len(counts), 3))
    np.add.at(sums, of_vertex, vertices)
    merged = of_vertex[faces]
    flat = (merged == np.roll(merged, 1, axis=1)).any(axis=1)
    _, rows = np.unique(np.sort(merged[~flat], axis=1), axis=0, return_index=True)
    return sums / counts[:, None], merged[~flat][np.sort(rows)]
