"""Implement `vpog record-hypotheses`: record right and wrong poses, to train the scorer of poses on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vpog_core.cli.cluster import absolute_paths, add_cluster
from vpog_core.cli.flags import add_flags, add_unit
from vpog_core.cli.numbers import count, positive
from vpog_core.inference.options import LoadSettings
from vpog_core.types import VPOGError

HELP = """\
Record the poses that the networks find, right and wrong ones, to train the refiner's scorer of poses on.

Every object is made in two variants, textured and plain, and up to twelve poses of different views are found
in each of its images. A pose is recorded as the refiner sees it, image and render from one camera, with its
distance from the true pose. Every second object is procedural, the others are files of --meshes in another
paint; without --meshes all are procedural. Each gets a file of its own in --output.

A run that was stopped is resumed when started again: an object that has a file is left as it is."""

EXAMPLE = """\
examples:
  vpog record-hypotheses --output runs/hypotheses --objects 20
  vpog record-hypotheses --output runs/hypotheses --objects 400 --meshes meshes/train --photos photos \\
      --workers 8
Exit status: 0 done, 2 unusable input."""


def add_command(add) -> None:
    """Register the subcommand; `add(name, summary, description, epilog, run)` gives its parser."""
    parser = add(
        "record-hypotheses", "record poses to train the scorer on", HELP, EXAMPLE, run_record_hypotheses
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="where files go, and where to resume")
    parser.add_argument(
        "--objects", type=positive, default=100, metavar="N", help="objects (default: %(default)s)"
    )
    parser.add_argument(
        "--first", type=count, default=0, metavar="K", help="number of the first (default: %(default)s)"
    )
    parser.add_argument(
        "--meshes", action="append", default=[], metavar="DIR", help="mesh files; may be repeated"
    )
    add_unit(parser)
    parser.add_argument("--photos", metavar="DIR", help="photographs, for the paint of mesh files")
    parser.add_argument(
        "--seed", type=count, default=0, metavar="N", help="of paint and images (default: %(default)s)"
    )
    add_flags(parser, LoadSettings, "weights", "refiner_weights", "device")
    parser.add_argument(
        "--workers", type=positive, default=1, metavar="N", help="processes (default: %(default)s)"
    )
    add_cluster(parser)


def run_record_hypotheses(arguments: argparse.Namespace) -> int:
    """Run `vpog record-hypotheses`.

    Raises:
        VPOGError: unreadable weights, folders without meshes or photographs, too many objects, none that can
            be used, a file that cannot be written.
    """
    from tqdm import tqdm

    from vpog_core.evaluation.hypothesis_recorder import record_hypotheses

    config = _config(arguments)
    numbers = range(arguments.first, arguments.first + arguments.objects)
    with tqdm(total=len(numbers), desc="objects", delay=1, file=sys.stderr) as bar:

        def show(recorded) -> None:
            if recorded is not None and recorded.problem:
                bar.clear()
                print(f"vpog: object {recorded.number} is left out. {recorded.problem}", file=sys.stderr)
            bar.update()

        found = record_hypotheses(config, numbers, arguments.workers, arguments.cluster, show)
    if found and all(recorded.problem for recorded in found):
        raise VPOGError(f"Nothing was recorded of {len(found)} objects: see above what is wrong with each.")
    print(_summary(found, len(numbers), config.output))
    return 0


def _config(arguments: argparse.Namespace):
    """Make the settings of a recording from the options, with absolute paths for workers elsewhere."""
    from vpog_core.cli import files
    from vpog_core.evaluation.hypothesis_recorder import RecordingConfig
    from vpog_core.evaluation.recorded_objects import ObjectSources, find_meshes, find_photos

    paths = absolute_paths(arguments, "weights", "refiner_weights")
    meshes = [path.resolve() for folder in arguments.meshes for path in find_meshes(folder)]
    photos = [path.resolve() for path in find_photos(arguments.photos)] if arguments.photos else []
    return RecordingConfig(
        files.output_folder(arguments.output).resolve(),
        ObjectSources(tuple(meshes), tuple(photos), arguments.unit, arguments.seed),
        paths["weights"],
        paths["refiner_weights"],
        arguments.device,
    )


def _summary(found, asked: int, output: Path) -> str:
    """Say how many hypotheses were recorded now, how many of them are correct, and where they are."""
    used = [recorded for recorded in found if not recorded.problem]
    hypotheses, detections, correct = (
        sum(getattr(recorded, name) for recorded in used) for name in ("hypotheses", "detections", "correct")
    )
    before = asked - len(found)
    text = f"{hypotheses} hypotheses of {detections} detections"
    text += f", {correct / hypotheses:.0%} correct" if hypotheses else ""
    text += f", of {len(used)} objects"
    text += f" ({before} were recorded before)" if before else ""
    return f"{text}: {output}"
