"""Define the object of a training sample."""

from __future__ import annotations

from collections.abc import Callable, Sized
from functools import cached_property

from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer


def _no_symmetries() -> tuple[Symmetry, Symmetry]:
    return Symmetry.none(), Symmetry.none()


class TrainingObject:
    """Holds a training object: its renderer, its annotated views if it has some, its symmetries.

    Args:
        name: for messages; kind: the source it counts for.
        open_renderer: gives its renderer, which knows its mesh; called at every use.
        views: where it is annotated (`data.bop_queries.AnnotatedViews`); None: its queries are rendered.
        find_symmetries: gives the motions after which it looks the same, and those after which its bare shape
            does; called once, on first use.
    """

    def __init__(
        self,
        name: str,
        open_renderer: Callable[[], Renderer],
        kind: str = "meshes",
        views: Sized | None = None,
        find_symmetries: Callable[[], tuple[Symmetry, Symmetry]] = _no_symmetries,
    ) -> None:
        self.name, self.kind, self.views = name, kind, views
        self.open_renderer = open_renderer
        self.find_symmetries = find_symmetries

    @property
    def renderer(self) -> Renderer:
        """The renderer of the mesh."""
        return self.open_renderer()

    @property
    def mesh(self) -> Mesh:
        """The mesh."""
        return self.renderer.mesh

    @property
    def symmetry(self) -> Symmetry:
        """Return the motions after which it looks the same."""
        return self._symmetries[0]

    @property
    def shape_symmetry(self) -> Symmetry:
        """Return the motions after which its bare shape is the same."""
        return self._symmetries[1]

    @cached_property
    def _symmetries(self) -> tuple[Symmetry, Symmetry]:
        return self.find_symmetries()
