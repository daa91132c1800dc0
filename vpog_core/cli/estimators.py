"""Make the estimators that the flags of a command ask for."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vpog_core.cli.flags import add_flags, values_of
from vpog_core.inference.options import LoadSettings, Options
from vpog_core.models.weights_path import check_weights_file
from vpog_core.threads import usable_cores, use_threads
from vpog_core.types import VPOGError

if TYPE_CHECKING:
    from vpog_core.inference.estimator import PoseEstimator


def add_model(parser: argparse.ArgumentParser, without: tuple[str, ...] = ()) -> None:
    """Add flags for the settings of an estimator, but for some, as a group of their own in the help."""
    group = parser.add_argument_group("estimator")
    add_flags(group, LoadSettings)
    add_flags(group, Options, without=without)


@contextmanager
def estimator_for(arguments: argparse.Namespace) -> Iterator[tuple[PoseEstimator, str | None]]:
    """Make the estimator of --object, --objects-dir and --unit; a mesh file is a library of its own.

    Yields:
        the estimator, and the object's name in its library; None without --object.

    Raises:
        VPOGError: a mesh, or a folder of meshes, that cannot be used.
    """
    from vpog_core.cli import files

    if arguments.object is None:
        yield estimator_of(arguments, arguments.objects_dir, arguments.unit), None
        return
    if is_mesh_file(arguments.object, arguments.objects_dir):
        with tempfile.TemporaryDirectory(prefix="vpog_") as folder:
            object_id = files.stage_mesh(arguments.object, arguments.unit, Path(folder))
            yield estimator_of(arguments, folder), object_id
        return
    if arguments.objects_dir is None:
        raise VPOGError(
            f"'{arguments.object}' is not a mesh file: give one, or a folder of meshes with --objects-dir."
        )
    estimator = estimator_of(arguments, arguments.objects_dir, arguments.unit)
    object_id = estimator.library.resolve(arguments.object)
    yield estimator, object_id


def estimator_of(arguments: argparse.Namespace, objects_dir: str, unit: str = "auto") -> PoseEstimator:
    """Make the estimator of a folder of meshes that the flags ask for, on all cores this process may use.

    Args:
        unit: of the meshes, see `ObjectLibrary`.
    """
    from vpog_core.objects.library import ObjectLibrary

    # Torch takes seconds to import: what can be refused without it is refused first.
    library = ObjectLibrary(objects_dir, arguments.cache_dir or None, unit)
    check_weights(arguments)
    from vpog_core.inference.estimator import PoseEstimator

    use_threads(usable_cores())
    return PoseEstimator(library, **estimator_arguments(arguments))


def check_weights(arguments: argparse.Namespace) -> None:
    """Check that the files of --weights and --refiner-weights are there.

    Raises:
        VPOGError: one of them is not.
    """
    for path in filter(None, (arguments.weights, arguments.refiner_weights)):
        check_weights_file(Path(path))


def estimator_arguments(arguments: argparse.Namespace) -> dict:
    """Return the arguments of `PoseEstimator` that have a flag."""
    return values_of(arguments, LoadSettings) | values_of(arguments, Options)


def is_mesh_file(name: str, objects_dir: str | None) -> bool:
    """Tell whether --object names a mesh file, and not an object in --objects-dir."""
    from vpog_core.objects.mesh import MESH_SUFFIXES

    if objects_dir is not None and not Path(name).is_file():
        return False
    return Path(name).suffix.lower() in MESH_SUFFIXES or Path(name).is_file()
