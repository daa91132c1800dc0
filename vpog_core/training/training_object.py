"""Objects in training: meshes and symmetries kept in the bank, meshes loaded when they are rendered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
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
from vpog_core.training.symmetry_bank import bank_symmetries, has_symmetries
from vpog_core.types import VPOGError

if TYPE_CHECKING:
    from vpog_core.training.bop_source import ObjectViews

MESH_FILE = "mesh/mesh.npz"


class TrainingObject:
    """One object.

    Args:
        name: for people; kind: the source it counts for.
        open_renderer: gives its renderer, which knows its mesh; called at every use.
        views: the images it is annotated in; None: its queries are rendered.
        symmetry: the motions after which it looks the same; shape_symmetry: after which its bare shape does;
            None: there are none.
    """

    def __init__(
        self,
        name: str,
        open_renderer: Callable[[], Renderer],
        kind: str = "meshes",
        views: ObjectViews | None = None,
        symmetry: Symmetry | None = None,
        shape_symmetry: Symmetry | None = None,
    ) -> None:
        self.name, self.kind, self.views = name, kind, views
        self.open_renderer = open_renderer
        self.symmetry = symmetry or Symmetry.none()
        self.shape_symmetry = shape_symmetry or Symmetry.none()

    @property
    def renderer(self) -> Renderer:
        """Renders it."""
        return self.open_renderer()

    @property
    def mesh(self) -> Mesh:
        """Its mesh."""
        return self.renderer.mesh


def load_object(source: ObjectSource, bank: Path, cache: RendererCache | None = None) -> TrainingObject:
    """Return the object of a source; what of it is not in the bank yet is made now.

    Raises:
        VPOGError: its mesh cannot be used.
    """
    folder = prepare_object(source, bank)
    renderer = partial((cache or RendererCache(1)).get, folder / MESH_FILE)
    own, shape = bank_symmetries(folder, partial(read_mesh, folder / MESH_FILE))
    return TrainingObject(source.name, renderer, source.kind, symmetry=own, shape_symmetry=shape)


def prepare_object(source: ObjectSource, bank: Path) -> Path:
    """Put an object's mesh and its symmetries into the bank; returns its folder there."""
    folder = source.folder(bank)
    file = folder / MESH_FILE
    made_once(file.parent, lambda f: write_mesh(source.load(), f / file.name))
    bank_symmetries(folder, partial(read_mesh, file))
    return folder


def prepare_objects(
    sources: Sequence[ObjectSource], bank: Path, processes: int, progress: bool = True
) -> None:
    """Put all objects into the bank, in parallel.

    Args:
        processes: 0 takes every core.

    Raises:
        VPOGError: an object cannot be used.
    """
    missing = [s for s in sources if not _banked(s.folder(bank))]
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


def _banked(folder: Path) -> bool:
    """Tell whether an object's folder holds all there is to it."""
    return (folder / MESH_FILE).parent.is_dir() and has_symmetries(folder)


def _prepare(source: ObjectSource, bank: Path) -> str:
    try:
        prepare_object(source, bank)
    except VPOGError as error:
        return str(error)
    return ""


def _one_thread() -> None:
    cv2.setNumThreads(0)
