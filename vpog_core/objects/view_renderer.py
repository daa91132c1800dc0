"""Define what renders views of an object for a comparison with an image."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Render


class ViewRenderer(Protocol):
    """Renders views of one mesh: a `Renderer`, or a `RecentRenders` that keeps its renders.

    Attributes:
        mesh: what is rendered.
    """

    mesh: Mesh

    def render(self, T_cam_obj: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> Render:
        """Render what a pinhole camera sees of the mesh, see `Renderer.render`."""
