"""Write a mesh as arrays, and read it: exactly as it was in memory, and faster than mesh files are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vpog_core.objects.triangle_mesh import Mesh

ARRAYS = ("vertices", "faces", "vertex_colors", "uv", "texture", "base_color", "corner_normals")
"""The fields of a mesh that are arrays, or None."""


def write_mesh(mesh: Mesh, path: Path, compress: bool = False) -> None:
    """Write a mesh to an .npz file, but for the names of its files and its notes."""
    arrays = {name: getattr(mesh, name) for name in ARRAYS if getattr(mesh, name) is not None}
    (np.savez_compressed if compress else np.savez)(path, **arrays)


def read_mesh(path: Path) -> Mesh:
    """Read what `write_mesh` wrote; arrays of other names are left out.

    Raises:
        OSError, ValueError, TypeError, KeyError, EOFError: it cannot be read, or is not such a file.
    """
    with np.load(path, allow_pickle=False) as file:
        return Mesh(**{name: file[name] for name in ARRAYS if name in file})
