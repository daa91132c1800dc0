"""Keep the last renders of an object that is tracked, so that the next image need not make them again."""

from __future__ import annotations

from collections import deque

import numpy as np

from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Render, Renderer

CAPACITY = 4
"""Renders that are kept: one for each instance of an object, as long as there are no more."""
ROUNDING = 1e-9
"""Largest relative difference of poses, and of intrinsics, that are the same but for their rounding."""


class RecentRenders:
    """Renders an object as its renderer does; the same view again is the same render, not a new one.

    The score of a tracked pose needs a render at it. In the next image the object is looked for where it was,
    and mostly that is this very pose, so the render is there already. Threads may share the renders.

    Attributes:
        mesh: what is rendered.
    """

    def __init__(self, renderer: Renderer) -> None:
        self.mesh: Mesh = renderer.mesh
        self._renderer = renderer
        self._kept: deque[tuple[np.ndarray, np.ndarray, Render]] = deque(maxlen=CAPACITY)

    def render(self, T_cam_obj: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> Render:
        """Return what a camera sees of the mesh, see `Renderer.render`; nothing of it may be changed."""
        for T_kept, K_kept, render in tuple(self._kept):
            if render.mask.shape == size and _is_same(T_kept, T_cam_obj) and _is_same(K_kept, K):
                return render
        render = self._renderer.render(T_cam_obj, K, size)
        self._kept.append((T_cam_obj, K, render))
        return render


def _is_same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= ROUNDING * np.abs(a).max())
