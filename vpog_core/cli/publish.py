"""Implement `vpog publish-weights`: calibrate and evaluate trained weights, and write card and results."""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from vpog_core.cli.evaluate import config_of
from vpog_core.cli.flags import add_flags
from vpog_core.cli.numbers import positive
from vpog_core.inference.options import LoadSettings
from vpog_core.types import VPOGError
from vpog_core.utils.fingerprint import digest

HELP = """\
Calibrate, evaluate and document new weights: fit their scores (`vpog calibrate`), evaluate them on the
held-out benchmark and on datasets (`vpog evaluate`), and write card and page of results. Without --into only
the folder --work is written; with it the weights, their card and docs/results.md of a source tree.

A run that was stopped is resumed when started again with the same options. Figures depend on
refiner-tiny.safetensors beside the shipped weights, too: put a new one there first."""

EXAMPLE = """\
examples:
  vpog publish-weights --weights runs/tiny/weights.safetensors --quick
  vpog publish-weights --weights runs/tiny/weights.safetensors --dataset bop/ycbv --dataset bop/hope --into .
Exit status: 0 done, 2 unusable input."""

FULL = {"calibrate": [], "heldout": ["--baseline", "sift"]}
QUICK = {
    "calibrate": ["--scenes", "6", "--frames", "3"],
    "heldout": ["--objects", "2", "--crops", "1", "--levels", "clean,occluded", "--no-stages"],
}
SMALL_DATASET = ["--limit", "2", "--no-stages"]
CARD, RESULTS = Path("vpog_core/weights/README.md"), Path("docs/results.md")


def add_command(add) -> None:
    """Register the subcommand; `add(name, summary, description, epilog, run)` gives its parser."""
    parser = add("publish-weights", "calibrate, evaluate and ship weights", HELP, EXAMPLE, run_publish)
    parser.add_argument("--weights", required=True, metavar="FILE", help="a trained .safetensors file")
    parser.add_argument("--name", default="vpog-tiny", help="it is shipped by (default: %(default)s)")
    parser.add_argument(
        "--dataset", action="append", default=[], metavar="DIR", help="in BOP's layout; may be repeated"
    )
    parser.add_argument("--work", default="runs/publish", metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--into", metavar="DIR", help="the source tree that ships them")
    parser.add_argument(
        "--quick", action="store_true", help="evaluate a small part of the benchmark, to test the command"
    )
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="processes (default: 1)")
    add_flags(parser, LoadSettings, "device")


def run_publish(arguments: argparse.Namespace) -> int:
    """Run `vpog publish-weights`."""
    from vpog_core.cli import files
    from vpog_core.evaluation.results_page import page, read_scores
    from vpog_core.evaluation.weights_card import scores_block

    if arguments.into and arguments.quick:
        raise VPOGError("--quick looks at a part of the benchmark: leave it out, or --into.")
    if arguments.into:
        _check_tree(Path(arguments.into), arguments.name)
    _check_datasets(arguments)
    work = files.output_folder(Path(arguments.work) / _key(arguments))
    weights = _calibrated(arguments, work)
    folders = [_evaluated(arguments, work, weights, *of) for of in _sets(arguments)]
    results = [read_scores(folder) for folder in folders]
    block = scores_block(results, (work / "calibration.txt").read_text(encoding="utf-8"))
    (work / "card.md").write_text(block + "\n", encoding="utf-8")
    (work / "results.md").write_text(page(results), encoding="utf-8")
    print(f"weights, card.md and results.md: {work}")
    if arguments.into:
        _put_into(Path(arguments.into), arguments.name, work, weights, block)
    return 0


def _check_tree(tree: Path, name: str) -> None:
    """Raise a VPOGError, before hours of work, for a folder that the results cannot be written into."""
    from vpog_core.evaluation.weights_card import with_block

    for path in (CARD, RESULTS.parent):
        if not (tree / path).exists():
            raise VPOGError(f"'{tree}' has no {path}: give the root of a source tree as --into.")
    with_block(tree / CARD, f"scores of {name}", "")


def _check_datasets(arguments: argparse.Namespace) -> None:
    """Raise a VPOGError, before hours of work, for a dataset that cannot be evaluated on."""
    for name, options in _sets(arguments):
        if "--dataset" in options:
            config_of(arguments.parse(["evaluate", *options, "--output", name])).benchmark()


def _key(arguments: argparse.Namespace) -> str:
    """Return a folder name that is unique for a weights file, the refiner beside it, and the code."""
    from vpog_core.evaluation.runner import code_digest
    from vpog_core.inference.networks import DEFAULT_REFINER

    refiner = DEFAULT_REFINER.read_bytes()
    try:
        key = digest([Path(arguments.weights), refiner, code_digest()])[:12]
    except OSError as error:
        raise VPOGError(
            f"There are no weights '{arguments.weights}' ({error.strerror}): check the path."
        ) from error
    return f"{arguments.name}-{key}" + "-quick" * arguments.quick


def _sets(arguments: argparse.Namespace) -> list[tuple[str, list[str]]]:
    """Return (folder, options of `vpog evaluate`) of each evaluation."""
    sets = [("heldout", ["--synthetic", "heldout", *(QUICK if arguments.quick else FULL)["heldout"]])]
    for dataset in arguments.dataset:
        options = SMALL_DATASET if arguments.quick else ["--baseline", "sift"]
        sets.append((Path(dataset).resolve().name, ["--dataset", dataset, *options]))
    if len({name for name, _ in sets}) < len(sets):
        raise VPOGError("Two of --dataset have the same name: rename a folder.")
    return sets


def _calibrated(arguments: argparse.Namespace, work: Path) -> Path:
    """Return the calibrated weights of a work folder, which are made if they are missing."""
    weights, report = work / f"{arguments.name}.safetensors", work / "calibration.txt"
    if report.is_file():
        print(f"calibrated before: {weights}")
        return weights
    words = ["--weights", arguments.weights, "--output", str(weights), "--device", arguments.device]
    words += ["--workers", str(arguments.workers), *(QUICK if arguments.quick else FULL)["calibrate"]]
    captured = io.StringIO()
    with contextlib.redirect_stdout(captured):
        _vpog(arguments.parse, "calibrate", words)
    text = captured.getvalue().rsplit("Stored in", 1)[0]
    print(text, end="")
    report.write_text(text, encoding="utf-8")
    return weights


def _evaluated(
    arguments: argparse.Namespace, work: Path, weights: Path, name: str, options: list[str]
) -> Path:
    """Run one evaluation, resumed where it stopped, and return its folder."""
    words = [*options, "--weights", str(weights), "--output", str(work / name)]
    words += ["--workers", str(arguments.workers), "--device", arguments.device]
    _vpog(arguments.parse, "evaluate", words)
    return work / name


def _vpog(parse: Callable[[list[str]], argparse.Namespace], command: str, words: list[str]) -> None:
    """Run another command of `vpog`, and stop where it fails: it raises what is wrong."""
    print(f"vpog {command} {' '.join(words)}", file=sys.stderr)
    arguments = parse([command, *words])
    if arguments.run(arguments) != 0:
        raise VPOGError(f"`vpog {command}` did not end well: see above what to fix.")


def _put_into(tree: Path, name: str, work: Path, weights: Path, block: str) -> None:
    """Write weights, card and page of results into a source tree."""
    from vpog_core.evaluation.weights_card import write_block

    write_block(tree / CARD, f"scores of {name}", block)
    shutil.copyfile(work / "results.md", tree / RESULTS)
    shutil.copyfile(weights, tree / CARD.parent / weights.name)
    for path in (CARD, RESULTS, CARD.parent / weights.name):
        print(f"written: {tree / path}")
