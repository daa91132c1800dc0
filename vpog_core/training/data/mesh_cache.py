"""Keep the renderers of the training objects that were used last."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from vpog_core.objects.mesh_arrays import read_mesh
from vpog_core.objects.renderer import Renderer


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
