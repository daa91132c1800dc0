"""Implement `vpog bench`: time each stage on this machine, beside the possible minimum."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vpog_core.cli.flags import add_flags
from vpog_core.cli.numbers import positive
from vpog_core.inference.options import LoadSettings
from vpog_core.threads import use_threads
from vpog_core.types import VPOGError

HELP = """\
Time the estimator on images of a synthetic scene: each stage, for several numbers of detections and for
tracked objects; the steps of the networks beside the least time that their operations and bytes take on
this machine; and the estimator without each of its optimisations. Run it on a machine that
does nothing else."""

EXAMPLE = """\
examples:
  vpog bench
  vpog bench --device cuda --output bench.json
  vpog bench --engine onnxruntime
  vpog bench --docs docs/performance.md
Exit status: 0 done, 2 unusable input."""


def add_command(add) -> None:
    """Register the subcommand; `add(name, summary, description, epilog, run)` gives its parser."""
    parser = add("bench", "time every stage on this machine", HELP, EXAMPLE, run_bench)
    parser.add_argument(
        "--detections",
        type=_counts,
        default=(1, 4, 16),
        metavar="N,N",
        help="numbers of detections in an image (default: 1,4,16)",
    )
    parser.add_argument(
        "--frames", type=positive, default=10, metavar="N", help="number of images (default: 10)"
    )
    parser.add_argument(
        "--objects", type=positive, default=3, metavar="N", help="objects in the scene (default: 3)"
    )
    parser.add_argument(
        "--networks",
        type=lambda text: tuple(text.split(",")),
        default=("tiny", "small"),
        metavar="NAME,NAME",
        help="whose steps are timed (default: tiny,small)",
    )
    add_flags(parser, LoadSettings, "weights", "device", "precision", "engine")
    parser.set_defaults(device="cpu")
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads that share the detections of an image (default: as the node, all cores but one)",
    )
    parser.add_argument(
        "--no-comparisons", action="store_true", help="leave out the comparisons without each optimisation"
    )
    parser.add_argument("--output", metavar="FILE", help="write all numbers here, JSON")
    parser.add_argument("--docs", metavar="FILE", help="write the tables between the marks of this document")


def run_bench(arguments: argparse.Namespace) -> int:
    """Run `vpog bench`."""
    use_threads(arguments.threads or 0)
    # Imported here: torch reads the thread settings when it is imported.
    from vpog_core.cli.files import check_output_file
    from vpog_core.evaluation.speed_config import SpeedConfig
    from vpog_core.evaluation.speed_report import speed_json, speed_tables, split_document, update_document
    from vpog_core.evaluation.speed_run import run_speed
    from vpog_core.inference.networks import choose_device
    from vpog_core.utils.atomic_file import atomic_write

    # Check where results go, before minutes of work.
    if arguments.output:
        check_output_file(arguments.output)
    if arguments.docs:
        split_document(Path(arguments.docs))
        check_output_file(arguments.docs)
    config = SpeedConfig(
        detections=arguments.detections,
        frames=arguments.frames,
        objects=arguments.objects,
        networks=arguments.networks,
        device=choose_device(arguments.device),
        precision=arguments.precision,
        engine=arguments.engine,
        comparisons=not arguments.no_comparisons,
        weights=arguments.weights,
    )
    result = run_speed(config, lambda text: print(f"vpog: timing {text}", file=sys.stderr, flush=True))
    print(speed_tables(result))
    if arguments.output:
        try:
            atomic_write(Path(arguments.output), speed_json(result))
        except OSError as error:
            raise VPOGError(
                f"'{arguments.output}' cannot be written ({error.strerror}): choose another --output."
            ) from error
    if arguments.docs:
        update_document(Path(arguments.docs), result)
    return 0


def _counts(text: str) -> tuple[int, ...]:
    """Parse whole numbers from one on, separated by commas."""
    return tuple(positive(part) for part in text.split(","))
