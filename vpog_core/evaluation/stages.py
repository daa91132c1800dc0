"""Which stage loses how much, on held-out objects: `python -m vpog_core.evaluation.stages`.

Retrieval, matching with PnP, and the whole are measured apart: the oracle gets the template cluster and
the roll nearest to the truth, so that only matching and PnP can fail.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from vpog_core.evaluation.tally import PoseScore, PoseTally
from vpog_core.geometry.se3 import rotation_angle
from vpog_core.inference.cluster_mode import CLUSTER_SIZE, match_and_solve
from vpog_core.inference.crop import crop_detection
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.onboarding import ROLLS, OnboardedObject, encode_images
from vpog_core.inference.retrieval import retrieve
from vpog_core.objects.mesh import Mesh, save_mesh
from vpog_core.objects.viewpoints import align_roll, nearest_viewpoints
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.scene import jitter_box, make_scene
from vpog_core.types import Camera, Detection

FIRST_SEED = 910_000
"""Objects from this seed on are in no training set."""
MIN_VISIBLE = 0.4
BOX_JITTER = 0.05


@dataclass
class Case:
    """One object in one frame, its detection and its true pose."""

    image: np.ndarray
    camera: Camera
    detection: Detection
    mesh: Mesh
    T_cam_obj: np.ndarray


def note(tally: PoseTally, case: Case, T_cam_obj: np.ndarray | None) -> PoseScore | None:
    """Count a pose of a case, or the lack of one."""
    name, mesh = case.detection.class_id, case.mesh
    return tally.count(name, T_cam_obj, case.T_cam_obj, mesh.hull_points, mesh.diameter)


def summary(tally: PoseTally) -> dict[str, float]:
    """Median rotation error, share under 10 degrees, share with ADD under 10 % of the diameter."""
    scores = [score for of_object in tally.scores.values() for score in of_object]
    degrees = np.array([180.0 if score is None else np.degrees(score.rotation) for score in scores])
    return {
        "median_degrees": float(np.median(degrees)),
        "under_10_degrees": float(np.mean(degrees < 10)),
        "add_10": float(tally.share_right),
    }


def cases(scenes: int, frames: int, objects: int = 3) -> Iterator[Case]:
    """Jittered detections in `scenes` scenes of `objects` objects each, `frames` moments of every scene."""
    for scene_index in range(scenes):
        meshes = [make_object(FIRST_SEED + scene_index * objects + n) for n in range(objects)]
        scene = make_scene(scene_index, meshes)
        rng = np.random.default_rng([scene_index, 7])
        for frame in range(frames):
            shown = scene.render(1.7 * frame)
            for n, mesh in enumerate(meshes):
                if shown.visible_fraction[n] >= MIN_VISIBLE:
                    name = object_name(scene_index * objects + n)
                    detection = Detection(name, jitter_box(rng, shown.boxes_visible[n], BOX_JITTER))
                    yield Case(shown.image, scene.camera, detection, mesh, shown.T_cam_obj[n])


def object_name(index: int) -> str:
    """The class of a held-out object."""
    return f"held_out_{index:03d}"


def oracle_cluster(target: OnboardedObject, R_virt_obj: np.ndarray):
    """The cluster around the template and the roll nearest to a true rotation [3, 3]."""
    view = int(nearest_viewpoints(-R_virt_obj[2])[0])
    roll = align_roll(target.templates.T_virt_obj[view][:3, :3], R_virt_obj)
    return target.cluster(view, round(roll / (2 * np.pi) * ROLLS) % ROLLS, CLUSTER_SIZE)


def measure(estimator: PoseEstimator, all_cases: Sequence[Case]) -> dict:
    """Retrieval, oracle and whole, over the cases."""
    oracle, whole = PoseTally(), PoseTally()
    retrieval: list[list[float]] = []
    scores: dict[bool, list[float]] = {True: [], False: []}
    for case in tqdm(all_cases, desc="cases", mininterval=2):
        target = estimator.onboarded(case.detection.class_id)
        crop = crop_detection(case.image, case.camera, case.detection, estimator.model.config.image_size)
        R_true = crop.virtual.R_virt_cam @ case.T_cam_obj[:3, :3]
        encoded = encode_images(estimator.model, crop.rgb[None])
        with torch.inference_mode():
            found = retrieve(estimator.model.describe(encoded)[0], target, 3)
        retrieval.append(
            [np.degrees(rotation_angle(target.rotation(h.view, h.roll_index), R_true)) for h in found]
        )
        solved = match_and_solve(estimator.model, [crop], encoded, [oracle_cluster(target, R_true)])[0]
        note(oracle, case, None if solved.pnp is None else crop.virtual.T_cam_virt @ solved.pnp.T_virt_obj)
        result = estimator.estimate(case.image, case.camera, [case.detection])[0]
        score = note(whole, case, result.T_cam_obj)
        scores[score is not None and score.right].append(result.score)
    errors = np.array([r + [180.0] * (3 - len(r)) for r in retrieval])
    return {
        "cases": len(all_cases),
        "retrieval_under_25_degrees": float(np.mean(errors[:, 0] < 25)),
        "retrieval_best_of_3_under_25_degrees": float(np.mean(errors.min(axis=1) < 25)),
        "oracle_template": summary(oracle),
        "whole": summary(whole),
        "whole_score_right_wrong": [
            float(np.mean(scores[right])) if scores[right] else float("nan") for right in (True, False)
        ],
    }


def write_objects(folder: Path, count: int) -> None:
    """The held-out objects as mesh files, for the estimator to onboard."""
    for index in range(count):
        save_mesh(make_object(FIRST_SEED + index), folder / f"{object_name(index)}.ply")


def main(argv: list[str] | None = None) -> int:
    """Print the stages as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--weights", default="", help="a .safetensors file; empty: the one we ship")
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--refinements", type=int, default=1)
    parser.add_argument("--hypotheses", type=int, default=2)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_objects(folder, 3 * args.scenes)
        estimator = PoseEstimator.from_files(
            args.weights or None, folder, cache_dir=folder / "cache",
            refinements=args.refinements, hypotheses=args.hypotheses,
        )  # fmt: skip
        with tqdm(total=3 * args.scenes, desc="onboarding", mininterval=2) as bar:
            for name in estimator.object_ids:
                estimator.onboard(name)
                bar.update()
        print(json.dumps(measure(estimator, list(cases(args.scenes, args.frames))), indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
