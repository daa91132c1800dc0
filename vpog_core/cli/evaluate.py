"""Implement `vpog evaluate`: score poses on a BOP dataset or on the held-out benchmark."""

from __future__ import annotations

import argparse
import shlex
import sys

from vpog_core.cli.cluster import add_cluster
from vpog_core.cli.flags import add_flags, given_flags, values_of
from vpog_core.cli.numbers import count, positive
from vpog_core.cli.renamed import RenamedOption
from vpog_core.inference.options import MORE_POSES, LoadSettings, Options
from vpog_core.types import VPOGError

HELP = """\
Measure poses the way BOP does: VSD, MSSD, MSPD and their average recall, ADD(-S), by object,
visibility and stage. Writes results CSV, scores.json and report.html into --output."""

EXAMPLE = """\
examples:
  vpog evaluate --dataset ycbv --detections cnos_ycbv.json --output out/ycbv --workers 4
  vpog evaluate --dataset hope --split val --baseline sift --output out/hope
  vpog evaluate --synthetic heldout --baseline sift --output out/heldout
  vpog evaluate --synthetic heldout --objects 5 --crops 4 --output out/quick
  vpog evaluate --synthetic heldout --split plain --levels clean,occluded --output out/plain

A run that was stopped is resumed when started again with the same options.
Exit status: 0 done, 2 unusable input."""


def add_command(add) -> None:
    """Register the subcommand; `add(name, summary, description, epilog, run)` gives its parser."""
    parser = add("evaluate", "score poses on a dataset", HELP, EXAMPLE, run_evaluate)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="DIR", help="a dataset in BOP's layout")
    source.add_argument("--synthetic", choices=("heldout",), help="the benchmark that ships as code")
    parser.add_argument(
        "--split", metavar="NAME", help="of the dataset (default: test); held-out: textured or plain alone"
    )
    parser.add_argument("--sensor", metavar="NAME", help="of a dataset with several cameras: whose images")
    parser.add_argument(
        "--detections",
        default="gt",
        metavar="gt|FILE",
        help="gt: true boxes with seeded jitter; or a JSON file in BOP's format (default: %(default)s)",
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="where results go, and where to resume"
    )
    group = parser.add_argument_group("estimator")
    add_flags(group, LoadSettings, "weights", "refiner_weights", "device")
    add_flags(group, Options, without=MORE_POSES)
    group.add_argument(
        "--second-look", type=count, dest="retry_views", action=RenamedOption, help=argparse.SUPPRESS
    )
    parser.add_argument("--baseline", choices=("sift",), help="also run the classical method, same boxes")
    parser.add_argument("--no-stages", action="store_true", help="leave out the oracles (less time)")
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="processes (default: 1)")
    add_cluster(parser)
    parser.add_argument("--limit", type=positive, metavar="N", help="the first N images of a dataset only")
    parser.add_argument("--objects", type=positive, metavar="N", help="held-out: the first N objects only")
    parser.add_argument("--crops", type=positive, metavar="N", help="held-out: N images a level only")
    parser.add_argument(
        "--levels", metavar="A,B", help="held-out: of clean, light, clutter and occluded, these only"
    )


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Run `vpog evaluate`."""
    from vpog_core.cli import files
    from vpog_core.evaluation.evaluate import evaluate, result_lines

    output = files.output_folder(arguments.output)
    with _ProgressBars() as progress:
        how = arguments.workers, command_of(arguments), progress, arguments.cluster
        result = evaluate(config_of(arguments), output, *how)
    for note in result["notes"]:
        print(note)
    print(f"report: {output / 'report.html'}")
    print(*result_lines(result), sep="\n")
    return 0


def config_of(arguments: argparse.Namespace):
    """Return the evaluation config that the flags ask for.

    Raises:
        VPOGError: options that do not go together.
    """
    from vpog_core.evaluation.frame_run import VPOG, EvaluationConfig
    from vpog_core.evaluation.heldout import CROPS, OBJECTS, SPLITS
    from vpog_core.evaluation.heldout_image import LEVELS

    part = {"objects": OBJECTS, "crops": CROPS}
    for name, most in part.items():
        given = getattr(arguments, name)
        if given is not None and arguments.dataset:
            raise VPOGError(f"--{name} is for --synthetic heldout: use --limit for a part of a dataset.")
        if given is not None and given > most:
            raise VPOGError(f"--{name} {given} is more than the benchmark has: give at most {most}.")
    if arguments.sensor is not None and not arguments.dataset:
        raise VPOGError("--sensor is for --dataset: leave it out.")
    if arguments.levels is not None and arguments.dataset:
        raise VPOGError("--levels is for --synthetic heldout: use --limit for a part of a dataset.")
    if arguments.limit is not None and not arguments.dataset:
        raise VPOGError(
            "--limit is for --dataset: use --objects, --crops and --levels for a part of heldout."
        )
    if arguments.synthetic and arguments.detections != "gt":
        raise VPOGError("--synthetic heldout has no detector's file: leave --detections out.")
    return EvaluationConfig(
        dataset=arguments.dataset,
        split=(arguments.dataset and arguments.split) or "test",
        objects=arguments.objects or OBJECTS,
        crops=arguments.crops or CROPS,
        levels=_named("--levels", arguments.levels, tuple(LEVELS.values())),
        splits=_named("--split", None if arguments.dataset else arguments.split, SPLITS),
        limit=arguments.limit,
        sensor=arguments.sensor or "",
        detections=arguments.detections,
        methods=(VPOG, arguments.baseline) if arguments.baseline else (VPOG,),
        # The oracles replace stages of cluster mode.
        stages=not arguments.no_stages and arguments.mode == "cluster",
        weights=arguments.weights,
        refiner_weights=arguments.refiner_weights,
        device=arguments.device,
        options=Options(**values_of(arguments, Options)),
    )


def _named(option: str, given: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """Parse a list of names separated by commas, in the order of the known ones; all where it is empty.

    Raises:
        VPOGError: one that is not known.
    """
    names = known if given is None else [name.strip() for name in given.split(",")]
    for name in names:
        if name not in known:
            raise VPOGError(f"{option} '{name}' is not a part of heldout: choose of {', '.join(known)}.")
    return tuple(name for name in known if name in names)


def command_of(arguments: argparse.Namespace) -> str:
    """Return the command that computes the same numbers again: without --workers and --device."""
    names = ("dataset", "synthetic", "split", "sensor", "objects", "crops", "levels", "limit", "detections")
    given = {f"--{name}": getattr(arguments, name) for name in (*names, "baseline", "output")}
    flags = {flag: str(value) for flag, value in given.items() if value not in (None, "gt")}
    flags |= given_flags(arguments, LoadSettings) | given_flags(arguments, Options)
    flags.pop("--device", None)
    words = [word for flag_and_text in flags.items() for word in flag_and_text if word]
    return shlex.join(["vpog", "evaluate", *words] + ["--no-stages"] * arguments.no_stages)


class _ProgressBars:
    """Shows one progress bar on stderr for each kind of work."""

    def __enter__(self) -> _ProgressBars:
        self._bars: dict = {}
        return self

    def __call__(self, what: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if what not in self._bars:
            self._bars[what] = tqdm(total=total, initial=done, desc=what, file=sys.stderr)
        self._bars[what].update(done - self._bars[what].n)

    def __exit__(self, *error) -> None:
        for bar in self._bars.values():
            bar.close()
