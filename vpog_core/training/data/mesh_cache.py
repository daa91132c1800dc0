"""Keep the meshes of training objects as arrays on disk, which are faster to read than mesh files."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import fields
from pathlib import Path

import numpy as np

from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer


def write_mesh(mesh: Mesh, path: Path) -> None:
    """Write a mesh as arrays."""
    values = {f.name: getattr(mesh, f.name) for f in fields(mesh)}
    np.savez(path, **{name: value for name, value in values.items() if isinstance(value, np.ndarray)})


def read_mesh(path: Path) -> Mesh:
    """Read what `write_mesh` wrote."""
    with np.load(path) as data:
        return Mesh(**{name: data[name] for name in data.files})


class RendererCache:
    """Keeps the `capacity` most recently used renderers, by mesh file."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._renderers: OrderedDict[Path, Renderer] = OrderedDict()

    def get(self, file: Path) -> Renderer:
        """Return the renderer of a mesh file in the cache."""
        renderer = self._renderers.pop(file, None) or Renderer(read_mesh(file))
        self._renderers[file] = renderer
        if len(self._renderers) > self.capacity:
            self._renderers.popitem(last=False)
        return renderer

    def __getstate__(self) -> dict:
        return {"capacity": self.capacity, "_renderers": OrderedDict()}
