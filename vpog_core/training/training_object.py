"""Objects in training: meshes and symmetries kept in the bank, meshes loaded when they are rendered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
from tqdm import tqdm

from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.training.disk_cache import made_once
from vpog_core.training.mesh_bank import RendererCache, read_mesh, write_mesh
from vpog_core.training.mesh_source import ObjectSource
from vpog_core.training.symmetry_bank import bank_symmetries
from vpog_core.types import VPOGError

if TYPE_CHECKING:
    from vpog_core.training.bop_source import ObjectViews

MESH_FILE = "mesh/mesh.npz"


def _no_symmetries() -> tuple[Symmetry, Symmetry]:
    return Symmetry.none(), Symmetry.none()


class TrainingObject:
    """One object.

    Args:
        name: for people; kind: the source it counts for.
        open_renderer: gives its renderer, which knows its mesh; called at every use.
        views: the images it is annotated in; None: its queries are rendered.
        find_symmetries: gives the motions after which it looks the same, and those after which its bare shape
            does; called once, when first asked for.
    """

    def __init__(
        self,
        name: str,
        open_renderer: Callable[[], Renderer],
        kind: str = "meshes",
        views: ObjectViews | None = None,
        find_symmetries: Callable[[], tuple[Symmetry, Symmetry]] = _no_symmetries,
    ) -> None:
        self.name, self.kind, self.views = name, kind, views
        self.open_renderer = open_renderer
        self.find_symmetries = find_symmetries

    @property
    def renderer(self) -> Renderer:
        """Renders it."""
        return self.open_renderer()

    @property
    def mesh(self) -> Mesh:
        """Its mesh."""
        return self.renderer.mesh

    @property
    def symmetry(self) -> Symmetry:
        """The motions after which it looks the same."""
        return self._symmetries[0]

    @property
    def shape_symmetry(self) -> Symmetry:
        """The motions after which its bare shape is the same."""
        return self._symmetries[1]

    @cached_property
    def _symmetries(self) -> tuple[Symmetry, Symmetry]:
        return self.find_symmetries()


def load_object(source: ObjectSource, bank: Path, cache: RendererCache | None = None) -> TrainingObject:
    """Return the object of a source; its mesh is put into the bank now, its symmetries when first asked for.

    Raises:
        VPOGError: its mesh cannot be used.
    """
    folder = prepare_object(source, bank)
    renderer = partial((cache or RendererCache(1)).get, folder / MESH_FILE)
    symmetries = partial(bank_symmetries, folder, partial(read_mesh, folder / MESH_FILE))
    return TrainingObject(source.name, renderer, source.kind, find_symmetries=symmetries)


def prepare_object(source: ObjectSource, bank: Path) -> Path:
    """Put an object's mesh into the bank; returns its folder there."""
    folder = source.folder(bank)
    file = folder / MESH_FILE
    made_once(file.parent, lambda f: write_mesh(source.load(), f / file.name))
    return folder


def prepare_objects(
    sources: Sequence[ObjectSource], bank: Path, processes: int, progress: bool = True
) -> None:
    """Put the meshes of all objects into the bank, in parallel.

    Args:
        processes: 0 takes every core.

    Raises:
        VPOGError: an object cannot be used.
    """
    missing = [s for s in sources if not (s.folder(bank) / MESH_FILE).parent.is_dir()]
    if not missing:
        return
    bar = tqdm(total=len(missing), desc="meshes", unit="object", mininterval=2, disable=not progress)
    with bar, ProcessPoolExecutor(processes or None, initializer=_one_thread) as pool:
        jobs = [pool.submit(_prepare, source, bank) for source in missing]
        try:
            for job in jobs:
                if message := job.result():
                    raise VPOGError(message)
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _prepare(source: ObjectSource, bank: Path) -> str:
    try:
        prepare_object(source, bank)
    except VPOGError as error:
        return str(error)
    return ""


def _one_thread() -> None:
    cv2.setNumThreads(0)
