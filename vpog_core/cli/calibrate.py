"""`vpog calibrate`: make the scores and covariances of a weights file honest."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from vpog_core.types import Detection, VPOGError

CHECKED = 3
"""Every third scene checks what the others fit."""
FIRST_SEED = 910_000
"""Objects from this seed on are in no training set, nor in the held-out benchmark."""
OBJECTS, SECONDS = 3, 1.7
"""Objects of a scene, and the time between two looks at it."""
MIN_VISIBLE, BOX_JITTER = 0.4, 0.05
RIGHT = 0.1
"""ADD of a right pose is under this share of the diameter."""
ALTERNATIVES = 3
"""Answers of other views that are looked at besides the best: the score has to tell them apart."""

_HELP = """\
Fit what turns matches into a probability (the score) and a covariance of the right size.

The network looks at objects it was not trained on, in made-up scenes whose poses are known. Two thirds of
the scenes fit a few numbers, on the best answer for an object and on those it has to be told from; the
others check them, on the best alone: for poses from matches alone, and for poses aligned with the picture.
They are stored in the weights file, which stays the same network. To be done anew for
every newly trained file."""

_LEGEND = """\
matched: poses from matches alone; aligned: those aligned with the picture.
right: mean distance of points (ADD) under 10 % of the diameter; score error: expected calibration
error; in the 50 %: right poses whose truth lies in the ellipsoid half of them should lie in."""

_EXAMPLE = """\
example:
  vpog calibrate --weights runs/tiny/weights.safetensors --scenes 30
Exit status: 0 stored, 2 unusable input."""


def add_calibrate(commands) -> None:
    """Add the subcommand to the parser of `vpog`."""
    parser = commands.add_parser(
        "calibrate",
        help="fit scores and covariances of new weights",
        description=_HELP,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--weights", metavar="FILE", help="a .safetensors file (default: the one shipped)")
    parser.add_argument(
        "--scenes", type=int, default=24, metavar="N", help="of 3 objects each (default: %(default)s)"
    )
    parser.add_argument(
        "--frames", type=int, default=6, metavar="N", help="looked at of each scene (default: %(default)s)"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: %(default)s)"
    )
    parser.add_argument("--output", metavar="FILE", help="write here instead of into the weights file")
    parser.add_argument("--half", action="store_true", help="store numbers of 16 bits: half the file")
    parser.add_argument("--dry-run", action="store_true", help="say what would be stored, and store nothing")
    parser.set_defaults(run=run_calibrate)


def run_calibrate(arguments: argparse.Namespace) -> int:
    """`vpog calibrate`.

    Raises:
        VPOGError: unreadable weights, too few scenes, a file that cannot be written.
    """
    from vpog_core.inference.calibration import Calibration, fit
    from vpog_core.inference.estimator import DEFAULT_WEIGHTS

    if arguments.scenes < CHECKED or arguments.frames < 1:
        raise VPOGError(
            f"--scenes {arguments.scenes} --frames {arguments.frames}: "
            f"give {CHECKED} scenes and a frame at least."
        )
    weights = Path(arguments.weights) if arguments.weights else DEFAULT_WEIGHTS
    scales = []
    collected = collect(weights, arguments.scenes, arguments.frames, arguments.device)
    for title, (answers, scene, best) in zip(("matched", "aligned"), collected, strict=True):
        checks = scene % CHECKED == CHECKED - 1
        scales.append(fit(_part(answers, ~checks)))
        print(_report(title, scales[-1], _part(answers, best & ~checks), _part(answers, best & checks)))
    print(_LEGEND)
    calibration = Calibration.of(*scales)
    if not arguments.dry_run:
        output = Path(arguments.output) if arguments.output else weights
        store(weights, output, calibration, arguments.half)
        print(f"Stored in {output}.")
    return 0


def collect(weights: Path, scenes: int, frames: int, device: str):
    """What a network answers in made-up scenes, without alignment and with it.

    Returns:
        for each of both (`Answers` with covariances as solved, [N] scene of each, [N] bool the best answer of
        its detection).
    """
    from tqdm import tqdm

    from vpog_core.inference.calibration import DEFAULT_ALIGNED, Calibration
    from vpog_core.inference.estimator import PoseEstimator, choose_device
    from vpog_core.inference.options import Options
    from vpog_core.models.checkpoint import load_weights, weights_key
    from vpog_core.objects.library import ObjectLibrary
    from vpog_core.objects.mesh import save_mesh
    from vpog_core.synthetic.objects import make_object

    model, key, rows = load_weights(weights, choose_device(device)), weights_key(weights), ([], [])
    as_solved = Calibration(covariance=1.0, aligned=replace(DEFAULT_ALIGNED, covariance=1.0))
    options = tuple(
        Options(alignments=rounds, alternatives=ALTERNATIVES, second_look=0)
        for rounds in (0, Options.alignments)
    )
    for scene in tqdm(range(scenes), desc="scenes", mininterval=2, file=sys.stderr):
        meshes = {f"object_{n}": make_object(FIRST_SEED + OBJECTS * scene + n) for n in range(OBJECTS)}
        with tempfile.TemporaryDirectory(prefix="vpog_") as temporary:
            for name, mesh in meshes.items():
                save_mesh(mesh, Path(temporary) / f"{name}.ply")
            library = ObjectLibrary(temporary, Path(temporary) / "cache")
            estimator = PoseEstimator(model, library, key, calibration=as_solved)
            for shown, camera, detections in _looks(scene, meshes, frames):
                for chosen, answered in zip(options, rows, strict=True):
                    estimator.options = chosen
                    for result in estimator.estimate(shown.image, camera, detections):
                        T_true, mesh = shown.T_cam_obj[result.instance], meshes[result.class_id]
                        for answer in (result, *result.alternatives):
                            if answer.T_cam_obj is not None:
                                answered.append((*_judged(answer, T_true, mesh), scene, answer is result))
    if not rows[0]:
        raise VPOGError(f"'{weights}' finds no pose at all: train longer before calibrating.")
    return tuple(_table(answered) for answered in rows)


def _judged(result, T_true: np.ndarray, mesh) -> tuple[np.ndarray, bool, float]:
    """(evidence, right, squared distance) of an answer; the distance of the covariance its stage gave it."""
    from vpog_core.evaluation.pose_error import add
    from vpog_core.inference.calibration import FEATURES, squared_distance

    error = add(result.T_cam_obj, T_true, mesh.hull_points) / mesh.diameter
    # Where the alignment left a pose as it was, so it left the covariance, which the other scale is for.
    own = result.aligned or len(result.evidence) == len(FEATURES)
    distance = squared_distance(result.T_cam_obj, result.covariance, T_true) if own else np.nan
    return result.evidence, error < RIGHT, distance


def _table(rows: list):
    """(`Answers`, [N] scene of each, [N] best) of rows (evidence, right, distance, scene, best)."""
    from vpog_core.inference.calibration import Answers

    evidence, right, distance, scene, best = (np.array(values) for values in zip(*rows, strict=True))
    return Answers(evidence, right, distance), scene, best


def _looks(number: int, meshes: dict, frames: int):
    """(frame with its truth, camera, detections) at moments of one scene; boxes err as a detector's do."""
    from vpog_core.synthetic.scene import jitter_box, make_scene

    scene, rng = make_scene(number, list(meshes.values())), np.random.default_rng([number, 7])
    for moment in range(frames):
        shown = scene.render(SECONDS * moment)
        detections = [
            Detection(name, jitter_box(rng, shown.boxes_visible[n], BOX_JITTER), instance=n)
            for n, name in enumerate(meshes)
            if shown.visible_fraction[n] >= MIN_VISIBLE
        ]
        yield shown, scene.camera, detections


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


def _part(answers, chosen: np.ndarray):
    return type(answers)(answers.evidence[chosen], answers.right[chosen], answers.distance[chosen])


def _report(title: str, scale, fitted, checked) -> str:
    """What was found at a stage, for people; the second half of the answers is what counts."""
    from vpog_core.inference.calibration import calibration_error, coverage

    lines = [f"{title:14}{'fitted':>10}{'checked':>10}"]

    def line(name: str, value, form: str) -> None:
        lines.append(f"{name:14}{format(value(fitted), form):>10}{format(value(checked), form):>10}")

    line("answers", len, "d")
    line("right", lambda a: float(a.right.mean()), ".0%")
    line("mean score", lambda a: float(scale.probability(a.evidence).mean()), ".0%")
    line("score error", lambda a: calibration_error(scale.probability(a.evidence), a.right), ".3f")
    for share in (0.5, 0.9):
        line(f"in the {share:.0%}", lambda a, s=share: coverage(a, scale.covariance, s), ".0%")
    return "\n".join(lines)
