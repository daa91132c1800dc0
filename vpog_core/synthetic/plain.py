"""Paint objects in one colour, like many machine parts: only shape and shading show their pose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vpog_core.objects.mesh import Mesh
from vpog_core.synthetic.prints import palette


def painted_plain(mesh: Mesh, name: str) -> Mesh:
    """Paint a mesh in one colour, which `name` decides."""
    color = palette(np.random.default_rng(list(name.encode())))[0]
    return replace(mesh, vertex_colors=None, uv=None, texture=None, base_color=color)
