"""Implement `vpog symmetry`: propose the entry in objects.yaml for a mesh."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from vpog_core.cli.flags import add_unit

HELP = """\
Find the turns after which an object looks the same, by its shape and its colours together, and print
what to write into objects.yaml. Of poses that look alike the node then gives the one nearest to the
last, and evaluation counts none of them as wrong.

Where the shape alone has another symmetry, that is printed as well: colours of scans are often uneven, and
no eye sees it. Differences that a camera hardly sees are ignored: of a hundredth of the object's size, on a
fiftieth of its surface. Check the proposal before you use it."""

EXAMPLE = """\
examples:
  vpog symmetry can.obj
  vpog symmetry gear.stl --unit mm
Exit status: 0 done, with or without a symmetry; 2 unusable mesh."""


def add_command(add) -> None:
    """Register the subcommand; `add(name, summary, description, epilog, run)` gives its parser."""
    parser = add("symmetry", "propose the symmetry of a mesh for objects.yaml", HELP, EXAMPLE, run_symmetry)
    parser.add_argument("mesh", metavar="MESH", help="mesh file: .ply, .obj, .glb, .gltf or .stl")
    add_unit(parser)


def run_symmetry(arguments: argparse.Namespace) -> int:
    """Run `vpog symmetry`."""
    from vpog_core.cli import files
    from vpog_core.objects.mesh import Mesh
    from vpog_core.objects.symmetry_search import find_symmetry

    path, unit = Path(arguments.mesh), arguments.unit
    mesh, length = files.read_mesh(path, unit), "m" if unit == "auto" else unit
    settings = find_symmetry(mesh).settings(length)
    if settings:
        print(f"{path.name} looks the same after turns {_in_words(settings)}. For objects.yaml:")
        print(_entry(path.stem, unit, settings))
    else:
        print(f"{path.name} has no symmetry: no turn leaves its shape and its colours where they are.")
    of_shape = find_symmetry(Mesh(mesh.vertices, mesh.faces)).settings(length)
    if of_shape and of_shape != settings:
        print(
            f"by its shape alone: turns {_in_words(of_shape)}: declare it if you do not see the difference."
        )
        print(_entry(path.stem, unit, of_shape))
    return 0


def _entry(name: str, unit: str, settings: dict) -> str:
    """Return the lines of objects.yaml with the symmetry of an object."""
    import yaml

    entry = {"symmetry": settings} if unit == "auto" else {"unit": unit, "symmetry": settings}
    # By way of JSON: YAML writes a list that two axes share as an alias.
    entry = json.loads(json.dumps(entry))
    text = yaml.safe_dump({name: entry}, default_flow_style=True, sort_keys=False, width=10_000)
    return f"objects:\n  {text.strip()[1:-1]}"


def _in_words(settings: dict) -> str:
    """Describe symmetries in words: `by 1/4 about z and by 1/2 about x`."""
    turns = [("by any angle", entry) for entry in settings.get("continuous", [])]
    turns += [(f"by 1/{entry['order']}", entry) for entry in settings.get("discrete", [])]
    return " and ".join(f"{turn} about {_direction(entry['axis'])}" for turn, entry in turns)


def _direction(axis: str | list[float]) -> str:
    return axis if isinstance(axis, str) else f"({', '.join(f'{v:.3f}' for v in axis)})"
