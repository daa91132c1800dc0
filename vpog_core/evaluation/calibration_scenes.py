"""Collect calibration samples: poses estimated in synthetic scenes, compared with the truth."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vpog_core.evaluation.pose_error import ADD_FRACTION, add
from vpog_core.evaluation.tracking_samples import MOTIONS, covered, moved
from vpog_core.geometry.boxes import jitter_box
from vpog_core.inference.calibration import (
    ALIGNED_FEATURES,
    DEFAULT_ALIGNED,
    DEFAULT_REFINED,
    DEFAULT_TRACKED,
    FEATURES,
    REFINED_FEATURES,
    Calibration,
    CalibrationSamples,
    squared_distance,
)
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.networks import Networks
from vpog_core.inference.options import Options
from vpog_core.inference.query import Prior
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.mesh import Mesh, save_meshes
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.scene import SceneFrame, make_scene
from vpog_core.synthetic.seeds import CALIBRATION, take
from vpog_core.types import Camera, Detection, PoseEstimate, VPOGError
from vpog_core.utils.worker_pool import WorkerPool

OBJECTS, SECONDS = 3, 1.7
"""Objects of a scene, and the seconds between two frames of it."""
MIN_VISIBLE, BOX_JITTER = 0.4, 0.05
ALTERNATIVES = 3
"""Poses of other views that are samples beside the best: the score must distinguish them."""
STAGES = tuple(
    Options(alignments=rounds, alternatives=ALTERNATIVES, retry_views=0) for rounds in (0, Options.alignments)
)
"""Poses from matches alone, and poses aligned with the image."""


@dataclass
class StageSamples:
    """Hold the poses of one stage.

    Attributes:
        samples: all of them, N, with covariances as solved; scene: [N] int; best: [N] bool, given as the
            detection's pose and not as an alternative.
    """

    samples: CalibrationSamples
    scene: np.ndarray
    best: np.ndarray


class SceneEvaluator:
    """Estimates poses in synthetic scenes and compares them with the truth."""

    def __init__(self, weights: Path, device: str, frames: int) -> None:
        self.networks, self.frames = Networks.load(weights, device=device), frames

    def run(self, scene: int) -> tuple[list, ...]:
        """Estimate the poses of one scene.

        Returns:
            for each of `STAGES`, and for poses that were followed, a row for each pose: score features,
            correct, squared distance, scene, best.
        """
        seeds = take(CALIBRATION, OBJECTS * scene, OBJECTS)
        meshes = {f"object_{n}": make_object(seed) for n, seed in enumerate(seeds)}
        as_solved = Calibration(
            covariance=1.0,
            aligned=replace(DEFAULT_ALIGNED, covariance=1.0),
            refined=replace(DEFAULT_REFINED, covariance=1.0),
            tracked=replace(DEFAULT_TRACKED, covariance=1.0),
        )
        rows = tuple([] for _ in (*STAGES, "tracked"))
        rng = np.random.default_rng([scene, 11])
        with tempfile.TemporaryDirectory(prefix="vpog_") as temporary:
            save_meshes(meshes, temporary)
            library = ObjectLibrary(temporary, Path(temporary) / "cache")
            estimator = PoseEstimator(library, replace(self.networks, calibration=as_solved))
            for frame, camera, detections in scene_frames(scene, meshes, self.frames):
                rows[-1].extend((*row, scene, True) for row in _follow(rng, estimator, frame, camera, meshes))
                for estimator.options, collected in zip(STAGES, rows[:-1], strict=True):
                    for result in estimator.estimate(frame.image, camera, detections):
                        T_true, mesh = frame.T_cam_obj[result.instance], meshes[result.class_id]
                        for pose in (result, *result.alternatives):
                            if pose.T_cam_obj is not None:
                                collected.append(
                                    (*_compare_with_truth(pose, T_true, mesh), scene, pose is result)
                                )
        return rows


def collect(
    weights: Path,
    scenes: int,
    frames: int,
    device: str,
    workers: int = 1,
    progress: Callable[[], None] = lambda: None,
    cluster: str | None = None,
) -> dict[str, StageSamples]:
    """Collect the poses that a network finds in scenes of `frames` frames each.

    Args:
        workers: processes; progress: called after each scene.
        cluster: address of a Dask scheduler whose workers are used in place of processes.

    Returns:
        Samples for each calibrator of `calibration.SIGNS`.

    Raises:
        VPOGError: unreadable weights, too many scenes, or no pose found at all.
    """
    take(CALIBRATION, 0, OBJECTS * scenes)
    matched, compared, tracked = rows = ([], [], [])
    arguments = weights.resolve(), device, frames
    with WorkerPool(SceneEvaluator, arguments, min(workers, scenes), cluster) as pool:
        for found in pool.map(SceneEvaluator.run, range(scenes)):
            for stage, more in zip(rows, found, strict=True):
                stage.extend(more)
            progress()
    # A refined pose gives two samples: with and without the refiner's features.
    of_kind = {
        "matched": matched,
        "aligned": [(row[0][: len(ALIGNED_FEATURES)], *row[1:]) for row in compared],
        "refined": [row for row in compared if len(row[0]) == len(REFINED_FEATURES)],
        "tracked": tracked,
    }
    if not all(of_kind.values()):
        raise VPOGError(f"'{weights}' finds no pose at all: train longer before calibrating.")
    return {name: _table(sorted(found, key=lambda row: row[3])) for name, found in of_kind.items()}


def scene_frames(
    number: int, meshes: Mapping[str, Mesh], frames: int
) -> Iterator[tuple[SceneFrame, Camera, list[Detection]]]:
    """Yield frames of one scene, its camera, and detections with jittered boxes."""
    scene, rng = make_scene(number, list(meshes.values())), np.random.default_rng([number, 7])
    for step in range(frames):
        frame = scene.render(SECONDS * step)
        detections = [
            Detection(name, jitter_box(rng, frame.boxes_visible[n], BOX_JITTER), instance=n)
            for n, name in enumerate(meshes)
            if frame.visible_fraction[n] >= MIN_VISIBLE
        ]
        yield frame, scene.camera, detections


def _follow(
    rng: np.random.Generator,
    estimator: PoseEstimator,
    frame: SceneFrame,
    camera: Camera,
    meshes: Mapping[str, Mesh],
) -> Iterator[tuple[np.ndarray, bool, float]]:
    """Yield poses of a scene's objects followed from poses that are off, compared with the truth."""
    for n, (name, mesh) in enumerate(meshes.items()):
        if frame.visible_fraction[n] < MIN_VISIBLE:
            continue
        for motion in MOTIONS:
            image = covered(rng, frame.image, frame.boxes_amodal[n], camera)
            prior = Prior(moved(rng, frame.T_cam_obj[n], mesh, motion), accept_score=0.0, detected=False)
            detection = Detection(name, frame.boxes_visible[n], instance=n)
            (pose_estimate,) = estimator.estimate(image, camera, [detection], [prior])
            if pose_estimate.T_cam_obj is not None:
                yield _compare_with_truth(pose_estimate, frame.T_cam_obj[n], mesh)


def _compare_with_truth(
    pose_estimate: PoseEstimate, T_true: np.ndarray, mesh: Mesh
) -> tuple[np.ndarray, bool, float]:
    """Compare a pose with the truth: (score features, correct, squared Mahalanobis distance)."""
    error = add(pose_estimate.T_cam_obj, T_true, mesh.hull_points) / mesh.diameter
    # The covariance of a pose that the alignment did not change is calibrated with the matches.
    own = pose_estimate.aligned or len(pose_estimate.score_features) == len(FEATURES)
    distance = squared_distance(pose_estimate.T_cam_obj, pose_estimate.covariance, T_true) if own else np.nan
    return pose_estimate.score_features, error < ADD_FRACTION, distance


def _table(rows: list) -> StageSamples:
    features, correct, distance, scene, best = (np.array(values) for values in zip(*rows, strict=True))
    return StageSamples(CalibrationSamples(features, correct, distance), scene, best)
