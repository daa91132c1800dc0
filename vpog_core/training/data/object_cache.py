"""Write meshes and symmetries of training objects to the cache folder, and load objects from there."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from vpog_core.objects.mesh_arrays import read_mesh, write_mesh
from vpog_core.threads import use_one_thread
from vpog_core.training.data.mesh_cache import RendererCache
from vpog_core.training.data.mesh_source import ObjectSource
from vpog_core.training.data.symmetry_cache import cached_symmetries
from vpog_core.training.synthesis.training_object import TrainingObject
from vpog_core.types import VPOGError
from vpog_core.utils.disk_cache import build_once

MESH_FILE = "mesh/mesh.npz"


def load_object(source: ObjectSource, cache_dir: Path, cache: RendererCache | None = None) -> TrainingObject:
    """Return the object of a source; its mesh is cached now, its symmetries on first use.

    Raises:
        VPOGError: its mesh cannot be used.
    """
    folder = prepare_object(source, cache_dir)
    renderer = partial((cache or RendererCache(1)).get, folder / MESH_FILE)
    symmetries = partial(cached_symmetries, folder, partial(read_mesh, folder / MESH_FILE))
    return TrainingObject(source.name, renderer, source.kind, find_symmetries=symmetries)


def prepare_object(source: ObjectSource, cache_dir: Path) -> Path:
    """Write an object's mesh to the cache, and return its folder there."""
    folder = source.folder(cache_dir)
    file = folder / MESH_FILE
    build_once(file.parent, lambda f: write_mesh(source.load(), f / file.name))
    return folder


def prepare_objects(
    sources: Sequence[ObjectSource], cache_dir: Path, processes: int, progress: bool = True
) -> None:
    """Write the meshes of all objects to the cache, in parallel.

    Args:
        processes: 0 takes every core.

    Raises:
        VPOGError: an object cannot be used.
    """
    missing = [s for s in sources if not (s.folder(cache_dir) / MESH_FILE).parent.is_dir()]
    if not missing:
        return
    bar = tqdm(total=len(missing), desc="meshes", unit="object", mininterval=2, disable=not progress)
    with bar, ProcessPoolExecutor(processes or None, initializer=use_one_thread) as pool:
        jobs = [pool.submit(_prepare, source, cache_dir) for source in missing]
        try:
            for job in jobs:
                if message := job.result():
                    raise VPOGError(message)
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _prepare(source: ObjectSource, cache_dir: Path) -> str:
    try:
        prepare_object(source, cache_dir)
    except VPOGError as error:
        return str(error)
    return ""
