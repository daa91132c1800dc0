"""Implement `vpog calibrate`: fit the scores and covariances of a weights file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vpog_core.cli.cluster import add_cluster
from vpog_core.cli.flags import add_flags
from vpog_core.cli.numbers import positive
from vpog_core.inference.options import LoadSettings
from vpog_core.types import VPOGError

CHECKED = 3
"""Every third scene is held out of the fit that is checked."""

HELP = """\
Fit the conversion of matches to a probability (the score) and a covariance of the correct size.

The network estimates poses of objects it was not trained on, in synthetic scenes whose poses are known:
textured and plain objects, some partly hidden, and in every second scene meshes that are not exact, hard
light, and a camera that blurs and adds noise. A few numbers are fitted for each kind of pose: from matches
alone, aligned with the image, and followed from one image to the next, by the refiner or by optical flow
alone. All poses of a detection tell how they are ranked, the best one what its score means. Numbers fitted
to two thirds of the scenes are checked on the others; those fitted to all are stored in the weights file,
which stays the same network. Run it for every newly trained file."""

LEGEND = """\
matched: poses from matches alone; aligned: those aligned with the image; tracked, flow: those followed by
the refiner, or by optical flow alone, from poses of an earlier image, near ones and wrong ones, some in
images where they are hidden.
correct: mean distance of points (ADD) under 10 % of the diameter; score error: expected calibration
error; in the 50 %: correct poses whose truth lies in the ellipsoid half of them should lie in."""

EXAMPLE = """\
example:
  vpog calibrate --weights runs/tiny/weights.safetensors --scenes 30 --workers 4
Exit status: 0 stored, 2 unusable input."""


def add_command(add) -> None:
    """Register the subcommand; `add(name, summary, description, epilog, run)` gives its parser."""
    parser = add("calibrate", "fit scores and covariances of new weights", HELP, EXAMPLE, run_calibrate)
    add_flags(parser, LoadSettings, "weights", "refiner_weights", "device")
    parser.add_argument(
        "--scenes",
        type=positive,
        default=24,
        metavar="N",
        help="synthetic scenes, of 3 objects each (default: %(default)s)",
    )
    parser.add_argument(
        "--frames",
        type=positive,
        default=6,
        metavar="N",
        help="frames of each scene (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=positive, default=1, metavar="N", help="processes (default: %(default)s)"
    )
    add_cluster(parser)
    parser.add_argument("--output", metavar="FILE", help="write here instead of into the weights file")
    parser.add_argument("--half", action="store_true", help="store numbers of 16 bits: half the file")
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be stored, and store nothing"
    )


def run_calibrate(arguments: argparse.Namespace) -> int:
    """Run `vpog calibrate`.

    Raises:
        VPOGError: unreadable weights, too few scenes, a file that cannot be written.
    """
    from tqdm import tqdm

    from vpog_core.cli.files import check_output_file
    from vpog_core.evaluation.calibration_fit import SIGNS, best_of_each, fit_best
    from vpog_core.evaluation.calibration_scenes import collect
    from vpog_core.inference.calibration import Calibration, read_calibration
    from vpog_core.inference.networks import DEFAULT_WEIGHTS

    if arguments.scenes < CHECKED:
        raise VPOGError(f"--scenes {arguments.scenes}: give {CHECKED} at least, of which one checks.")
    weights = Path(arguments.weights) if arguments.weights else DEFAULT_WEIGHTS
    output = Path(arguments.output) if arguments.output else weights
    if not arguments.dry_run:
        check_output_file(output)
    # Collect poses in synthetic scenes, compared with the truth.
    calibrators = {}
    with tqdm(total=arguments.scenes, desc="scenes", delay=1, file=sys.stderr) as bar:
        networks = weights, arguments.refiner_weights, arguments.device
        how = arguments.scenes, arguments.frames, arguments.workers, bar.update, arguments.cluster
        stages = collect(*networks, *how)
    # Fit the calibrator of each stage: to some scenes, to check it on the others, then to all.
    for name, stage in stages.items():
        checks = stage.scene % CHECKED == CHECKED - 1
        try:
            checked = fit_best(stage.samples[~checks], stage.detection[~checks], SIGNS[name])
            calibrators[name] = fit_best(stage.samples, stage.detection, SIGNS[name])
        except VPOGError as error:
            if name != "flow":
                raise
            # Flow alone finds few poses: with few scenes the weights keep what they have.
            calibrators[name] = read_calibration(weights).flow
            print(f"flow: the weights' own calibration stays. {error}")
            continue
        best = best_of_each(checked.probability(stage.samples.score_features), stage.detection)
        print(_report(name, checked, stage.samples[best & ~checks], stage.samples[best & checks]))
    print(LEGEND)
    # Store the calibration in the weights file.
    calibration = Calibration.of(**calibrators)
    if not arguments.dry_run:
        store(weights, output, calibration, arguments.half)
        print(f"Stored in {output}.")
    return 0


def store(weights: Path, output: Path, calibration, half: bool = False) -> None:
    """Write a weights file with a calibration; everything else in it stays.

    Args:
        half: with tensors of 16 bits.

    Raises:
        VPOGError: the file cannot be written.
    """
    import torch

    from vpog_core.models.checkpoint import copy_weights

    try:
        copy_weights(weights, output, calibration.to_metadata(), torch.float16 if half else None)
    except OSError as error:
        raise VPOGError(
            f"'{output}' cannot be written ({error.strerror}): choose another --output."
        ) from error


def _report(title: str, calibrator, fitted, checked) -> str:
    """Say how well a stage is calibrated, measured on scenes that were held out of the fit."""
    from vpog_core.evaluation.calibration_fit import calibration_error, coverage

    lines = [f"{title:14}{'fitted':>10}{'checked':>10}"]

    def line(name: str, value, form: str) -> None:
        lines.append(f"{name:14}{format(value(fitted), form):>10}{format(value(checked), form):>10}")

    line("poses", len, "d")
    line("correct", lambda a: float(a.correct.mean()), ".0%")
    line("mean score", lambda a: float(calibrator.probability(a.score_features).mean()), ".0%")
    line(
        "score error", lambda a: calibration_error(calibrator.probability(a.score_features), a.correct), ".3f"
    )
    for fraction in (0.5, 0.9):
        line(f"in the {fraction:.0%}", lambda a, s=fraction: coverage(a, calibrator.covariance, s), ".0%")
    return "\n".join(lines)
