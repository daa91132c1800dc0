"""Implement `vpog record-demo`: write a bag to try `vpog replay` with."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from vpog_core.cli.numbers import count, fraction, positive
from vpog_core.types import VPOGError

HELP = """\
Write a bag of the demo camera, which looks at a moving scene of three textured objects: images, calibration,
boxes with a detector's small errors, and the true poses. The meshes go into the folder beside it."""

EXAMPLE = """\
example:
  vpog record-demo demo_bag --frames 30
Exit status: 0 done, 2 the bag cannot be written."""


def add_command(add) -> None:
    """Register the subcommand; `add(name, summary, description, epilog, run)` gives its parser."""
    parser = add("record-demo", "write a bag to try replay with", HELP, EXAMPLE, run_record_demo)
    parser.add_argument("output", metavar="OUTPUT", help="folder of the new bag")
    parser.add_argument("--frames", type=positive, default=60, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--rate", type=positive, default=10, metavar="HZ", help="frames a second (default: %(default)s)"
    )
    parser.add_argument("--seed", type=count, default=1, help="seed of the scene (default: %(default)s)")
    parser.add_argument(
        "--jitter",
        type=fraction,
        default=0.05,
        metavar="F",
        help="error of the boxes, fraction of their size (default: %(default)s)",
    )
    add_storage(parser)


def add_storage(parser) -> None:
    """Add the flag --storage, of a command that writes a bag."""
    parser.add_argument(
        "--storage", choices=("mcap", "sqlite3"), default="mcap", help="of the bag (default: %(default)s)"
    )


def run_record_demo(arguments: argparse.Namespace) -> int:
    """Run `vpog record-demo`.

    Raises:
        VPOGError: bag or meshes are there already, or cannot be written.
    """
    path = Path(arguments.output).resolve()
    objects = path.with_name(f"{path.name}_objects")
    for place in (path, objects):
        if place.exists():
            raise VPOGError(f"'{place}' is there already: choose another OUTPUT.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _record(path, objects, arguments)
    except OSError as error:
        raise VPOGError(f"'{path}' cannot be written ({error.strerror}): choose another OUTPUT.") from error
    print(f"bag: {path}, meshes: {objects}. To find the poses:")
    print(f"  vpog replay {path} --objects-dir {objects}")
    return 0


def _record(path: Path, objects: Path, arguments: argparse.Namespace) -> None:
    """Write bag and meshes into a folder beside them, which is moved into place once they are whole."""
    from vpog_core.objects.mesh import save_meshes
    from vpog_core.replay.record_demo import record_demo
    from vpog_core.synthetic.demo_objects import demo_objects

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".partial") as folder:
        bag, meshes = Path(folder, path.name), Path(folder, objects.name)
        record_demo(
            bag, arguments.frames, arguments.rate, arguments.seed, arguments.jitter, arguments.storage
        )
        save_meshes(demo_objects(), meshes)
        os.rename(meshes, objects)
        os.rename(bag, path)
