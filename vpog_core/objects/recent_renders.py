"""Keep the last renders of an object that is tracked, so that the next image need not make them again."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Render, Renderer

CAPACITY = 16
"""Renders that are kept of an object: the last one of each instance, and some that led to them. One of
192 x 192 pixels takes 1.2 MB, so that all of them take 19 MB at most."""
ROUNDING = 1e-9
"""Largest relative difference of poses, and of intrinsics, that are the same but for their rounding."""


@dataclass(frozen=True, eq=False)
class _Kept:
    """Holds a render, with the pose T_cam_obj [4, 4] and the intrinsics K [3, 3] that it was made for."""

    T_cam_obj: np.ndarray
    K: np.ndarray
    render: Render

    def shows(self, T_cam_obj: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> bool:
        """Tell whether this is the render of a view."""
        same_size = self.render.mask.shape == size
        return same_size and _is_same(self.T_cam_obj, T_cam_obj) and _is_same(self.K, K)


class RecentRenders:
    """Renders an object as its renderer does; the same view again is the same render, not a new one.

    The score of a tracked pose needs a render at it. In the next image the object is looked for where it was,
    and mostly that is this very pose, so the render is there already. The renders that were not asked for the
    longest are dropped. Threads may share them.

    Attributes:
        mesh: what is rendered; renderer: makes the renders, and keeps none.
    """

    def __init__(self, renderer: Renderer) -> None:
        self.mesh: Mesh = renderer.mesh
        self.renderer = renderer
        self._kept: list[_Kept] = []
        self._lock = threading.Lock()

    def render(self, T_cam_obj: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> Render:
        """Return what a camera sees of the mesh, see `Renderer.render`; nothing of it may be changed."""
        with self._lock:
            found = next((kept for kept in reversed(self._kept) if kept.shows(T_cam_obj, K, size)), None)
            if found is not None:
                self._kept.remove(found)
                self._kept.append(found)
                return found.render
        # Other threads may use the renders meanwhile.
        render = self.renderer.render(T_cam_obj, K, size)
        with self._lock:
            self._kept = [*self._kept, _Kept(T_cam_obj.copy(), K.copy(), render)][-CAPACITY:]
        return render


def _is_same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= ROUNDING * np.abs(a).max())
