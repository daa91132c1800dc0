"""Make procedural objects: a shape and its colours, from one seed."""

from __future__ import annotations

import numpy as np

from vpog_core.objects.mesh import Mesh
from vpog_core.synthetic.shapes import make_shape
from vpog_core.synthetic.textures import color_shape

USUAL_DIAMETER = 0.14
"""Diameter that objects are scaled towards, metres."""


def make_object(
    seed: int, photo: np.ndarray | None = None, kind: str | None = None, vertices: int = 15000
) -> Mesh:
    """Make a textured object of about 8 to 22 cm, in metres, z up; the same arguments give the same object.

    Args:
        seed: any non-negative integer.
        photo: [h, w, 3] uint8 RGB, an image to use in the texture.
        kind: one of `shapes.RECIPES`; None draws one.
        vertices: about how many; as the colours sit on them, more show finer print.
    """
    shape = make_shape(seed, kind, vertices)
    colors = color_shape(np.random.default_rng([int(seed), 2]), shape, photo)
    mesh = Mesh(shape.vertices, shape.faces, vertex_colors=colors)
    # Scale to the geometric mean of its own and the usual size, so that all fit one image.
    scale = np.sqrt(USUAL_DIAMETER / mesh.diameter)
    return Mesh(shape.vertices * scale, shape.faces, vertex_colors=colors)
