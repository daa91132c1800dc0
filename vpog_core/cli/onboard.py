"""Implement `vpog onboard`: prepare objects from their meshes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vpog_core.cli.cluster import add_cluster, onboard_on_cluster
from vpog_core.cli.estimators import estimator_for, estimator_of
from vpog_core.cli.flags import add_flags, add_unit
from vpog_core.cli.numbers import positive
from vpog_core.inference.options import LoadSettings
from vpog_core.threads import usable_cores
from vpog_core.types import VPOGError
from vpog_core.utils.fingerprint import safe_names

if TYPE_CHECKING:
    from vpog_core.inference.estimator import PoseEstimator

HELP = """\
Onboard an object, or all objects of a folder: render 162 template views, encode them, and
store both in the cache, so that the first estimate is fast. Prints the size of each mesh;
check it, as a wrong unit is the most common mistake. Meshes of a folder that cannot be
used are reported and left out."""

EXAMPLE = """\
example:
  vpog onboard mug.obj --unit mm --output mug_views
  vpog onboard meshes/
Exit status: 0 every object can be used, 1 some of a folder cannot, 2 none can."""


def add_command(add) -> None:
    """Register the subcommand; `add(name, summary, description, epilog, run)` gives its parser."""
    parser = add("onboard", "prepare objects from their meshes", HELP, EXAMPLE, run_onboard)
    parser.add_argument(
        "mesh",
        metavar="MESH",
        help="mesh file, .ply, .obj, .glb, .gltf or .stl, or a folder of them (and objects.yaml)",
    )
    add_unit(parser)
    add_flags(parser, LoadSettings)
    parser.add_argument("--output", metavar="DIR", help="also draw the template views into DIR")
    workers = "processes that onboard the objects of a folder (default: one for each core)"
    parser.add_argument("--workers", type=positive, default=usable_cores(), metavar="N", help=workers)
    add_cluster(parser)


def run_onboard(arguments: argparse.Namespace) -> int:
    """Run `vpog onboard`; returns 0 if every object can be used, 1 if some are left out."""
    from vpog_core.cli import files
    from vpog_core.cli.sheet import mesh_description, template_sheet
    from vpog_core.objects.library import default_cache_dir

    if arguments.output:
        files.check_output(arguments.output)
    cache_dir = Path(arguments.cache_dir or default_cache_dir()).expanduser()
    files.check_output(cache_dir, "cache", "set --cache-dir to a folder that can be")
    with _estimator_to_onboard(arguments) as estimator:
        library = estimator.library
        broken = library.broken()
        usable = [object_id for object_id in library.ids if object_id not in broken]
        _print_left_out(broken if usable else {})
        for object_id in usable:
            print(mesh_description(object_id, library.mesh(object_id)), flush=True)
        alone = None if Path(arguments.mesh).is_dir() else arguments.mesh
        if arguments.cluster is not None:
            onboard_on_cluster(arguments, usable)
        left_out = files.onboard_with_progress(estimator, mesh=alone, workers=arguments.workers)
        _print_left_out({name: left_out[name] for name in left_out if name not in broken})
        # A name from a settings file may hold any characters.
        parts = safe_names(library.ids)
        for object_id in usable if arguments.output else ():
            name = "templates.png" if len(library.ids) == 1 else f"templates_{parts[object_id]}.png"
            sheet = template_sheet(library.mesh(object_id))
            files.write_png(files.output_folder(arguments.output) / name, sheet)
    return 1 if left_out else 0


@contextmanager
def _estimator_to_onboard(arguments: argparse.Namespace) -> Iterator[PoseEstimator]:
    """Make the estimator of the mesh or folder of meshes that `vpog onboard` is given."""
    if not Path(arguments.mesh).exists():
        raise VPOGError(f"There is no mesh file or folder '{arguments.mesh}': check the path.")
    if not Path(arguments.mesh).is_dir():
        arguments.object, arguments.objects_dir = arguments.mesh, None
        with estimator_for(arguments) as (estimator, _):
            yield estimator
        return
    yield estimator_of(arguments, arguments.mesh, arguments.unit)


def _print_left_out(left_out: dict[str, str]) -> None:
    for object_id, sentence in left_out.items():
        print(f"vpog: '{object_id}' is left out. {sentence}", file=sys.stderr, flush=True)
