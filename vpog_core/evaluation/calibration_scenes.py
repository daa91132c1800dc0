"""Collect calibration samples: poses estimated in synthetic scenes, compared with the truth."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vpog_core.evaluation.calibration_fit import CalibrationSamples, squared_distance
from vpog_core.evaluation.calibration_images import (
    MIN_VISIBLE,
    OBJECTS,
    CalibrationObject,
    CalibrationScene,
    CalibrationView,
)
from vpog_core.evaluation.pose_error import ADD_FRACTION, add_or_adds
from vpog_core.evaluation.tracking_samples import MOTIONS, covered, moved
from vpog_core.inference.calibration import (
    ALIGNED_FEATURES,
    DEFAULT_ALIGNED,
    DEFAULT_FLOW,
    DEFAULT_REFINED,
    DEFAULT_TRACKED,
    FEATURES,
    FLOW_FEATURES,
    REFINED_FEATURES,
    Calibration,
)
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.networks import Networks
from vpog_core.inference.options import Options
from vpog_core.inference.query import Prior
from vpog_core.objects.library import ObjectLibrary
from vpog_core.synthetic.scene import SceneFrame
from vpog_core.synthetic.seeds import CALIBRATION, take
from vpog_core.types import Camera, Detection, PoseEstimate, VPOGError
from vpog_core.utils.worker_pool import WorkerPool

ALTERNATIVES = 3
"""Poses of other views that are samples beside the best: the score must distinguish them."""
STAGES = tuple(Options(alignments=rounds, alternatives=ALTERNATIVES) for rounds in (0, Options.alignments))
"""Poses from matches alone, and poses aligned with the image."""

AS_SOLVED = Calibration(
    covariance=1.0,
    aligned=replace(DEFAULT_ALIGNED, covariance=1.0),
    refined=replace(DEFAULT_REFINED, covariance=1.0),
    tracked=replace(DEFAULT_TRACKED, covariance=1.0),
    flow=replace(DEFAULT_FLOW, covariance=1.0),
)
"""Covariances as the solver gives them."""
FOLLOWED = tuple(replace(AS_SOLVED, flow=replace(AS_SOLVED.flow, bias=bias)) for bias in (-30.0, 30.0))
"""Followed by the refiner, as no pose found by flow alone is taken, and by flow alone wherever it leads to a
pose."""


@dataclass
class StageSamples:
    """Holds the poses of one stage.

    Attributes:
        samples: all of them, N, with covariances as solved; scene: [N] int; detection: [N] int, number of the
            detection they are poses of, the same for a pose and its alternatives.
    """

    samples: CalibrationSamples
    scene: np.ndarray
    detection: np.ndarray


class SceneEvaluator:
    """Estimates poses in synthetic scenes and compares them with the truth."""

    def __init__(self, weights: Path, refiner_weights: Path | None, device: str, frames: int) -> None:
        self.networks, self.frames = Networks.load(weights, refiner_weights, device), frames

    def run(self, number: int) -> tuple[list, ...]:
        """Estimate the poses of one scene.

        Returns:
            for each of `STAGES`, and of `FOLLOWED`, a row for each pose: score features, correct, squared
            distance, scene, detection in the scene.
        """
        # Make the scene, and an estimator that knows its objects.
        scene = CalibrationScene(number, self.frames, hard=number % 2 == 1)
        rng = np.random.default_rng([number, 7])
        rows = tuple([] for _ in (*STAGES, *FOLLOWED))
        with tempfile.TemporaryDirectory(prefix="vpog_") as temporary:
            scene.write_library(Path(temporary))
            library = ObjectLibrary(temporary, Path(temporary) / "cache")
            estimator = PoseEstimator(library, replace(self.networks, calibration=AS_SOLVED))
            stages = [estimator.variant(options) for options in STAGES]
            for frame, camera in scene.frames():
                # Follow the objects from poses that are off.
                for which, row in _follow(rng, estimator, frame, camera, scene):
                    found = rows[len(STAGES) + which]
                    found.append((*row, number, len(found)))
                # Estimate each object anew, from matches alone and aligned.
                for view in scene.views(frame, camera):
                    for stage, found in zip(stages, rows, strict=False):
                        detection = found[-1][-1] + 1 if found else 0
                        for row in _estimate(stage, view, scene.objects[view.detection.class_id]):
                            found.append((*row, number, detection))
        return rows


def collect(
    weights: Path,
    refiner_weights: str | None,
    device: str,
    scenes: int,
    frames: int,
    workers: int = 1,
    progress: Callable[[], None] = lambda: None,
    cluster: str | None = None,
) -> dict[str, StageSamples]:
    """Collect the poses that a network finds in scenes of `frames` frames each.

    Args:
        refiner_weights: of the refiner; None or "": those that ship.
        workers: processes; progress: called after each scene.
        cluster: address of a Dask scheduler whose workers are used in place of processes.

    Returns:
        Samples for each calibrator of `calibration.SIGNS`.

    Raises:
        VPOGError: unreadable weights, too many scenes, or no pose found at all.
    """
    # Estimate poses in all scenes.
    take(CALIBRATION, 0, OBJECTS * scenes)
    matched, compared, tracked, flow = rows = ([], [], [], [])
    refiner = Path(refiner_weights).resolve() if refiner_weights else None
    arguments = weights.resolve(), refiner, device, frames
    with WorkerPool(SceneEvaluator, arguments, min(workers, scenes), cluster) as pool:
        for found in pool.map(SceneEvaluator.run, range(scenes)):
            for stage, more in zip(rows, found, strict=True):
                stage.extend(more)
            progress()
    # Sort them by calibrator. A refined pose gives two samples: with and without the refiner's features.
    of_kind = {
        "matched": matched,
        "aligned": [(row[0][: len(ALIGNED_FEATURES)], *row[1:]) for row in compared],
        "refined": [row for row in compared if len(row[0]) == len(REFINED_FEATURES)],
        "tracked": tracked,
        "flow": flow,
    }
    if not all(of_kind.values()):
        raise VPOGError(f"'{weights}' finds no pose at all: train longer before calibrating.")
    return {name: _table(sorted(found, key=lambda row: row[3])) for name, found in of_kind.items()}


def _estimate(
    estimator: PoseEstimator, view: CalibrationView, target: CalibrationObject
) -> Iterator[tuple[np.ndarray, bool, float]]:
    """Yield the pose found in a view, and its alternatives, compared with the truth."""
    (found,) = estimator.estimate(view.image, view.camera, [view.detection])
    for pose in (found, *found.alternatives):
        if pose.T_cam_obj is not None:
            yield _compare_with_truth(pose, view.T_cam_obj, target)


def _follow(
    rng: np.random.Generator,
    estimator: PoseEstimator,
    frame: SceneFrame,
    camera: Camera,
    scene: CalibrationScene,
) -> Iterator[tuple[int, tuple[np.ndarray, bool, float]]]:
    """Follow a scene's objects from poses that are off; yield the poses found, compared with the truth.

    Each comes with the number of its way of following, of `FOLLOWED`.
    """
    ways = [
        estimator.variant(networks=replace(estimator.networks, calibration=calibration))
        for calibration in FOLLOWED
    ]
    for n, (name, target) in enumerate(scene.objects.items()):
        if frame.visible_fraction[n] < MIN_VISIBLE:
            continue
        for motion in MOTIONS:
            image = covered(rng, frame.image, frame.boxes_amodal[n], camera)
            prior = Prior(
                moved(rng, frame.T_cam_obj[n], target.mesh, motion), accept_score=0.0, detected=False
            )
            detection = Detection(name, frame.boxes_visible[n], instance=n)
            for which, way in enumerate(ways):
                (found,) = way.estimate(image, camera, [detection], [prior])
                by_flow = found.score_features is not None and len(found.score_features) == len(FLOW_FEATURES)
                if found.T_cam_obj is not None and by_flow == bool(which):
                    yield which, _compare_with_truth(found, frame.T_cam_obj[n], target)


def _compare_with_truth(
    pose: PoseEstimate, T_true: np.ndarray, target: CalibrationObject
) -> tuple[np.ndarray, bool, float]:
    """Compare a pose with the truth: (score features, correct, squared Mahalanobis distance)."""
    mesh, symmetry = target.mesh, target.symmetry
    error = add_or_adds(pose.T_cam_obj, T_true, mesh.vertices, not symmetry.is_trivial) / mesh.diameter
    # The covariance of a pose that the alignment did not change is calibrated with the matches.
    own = pose.aligned or len(pose.score_features) == len(FEATURES)
    alike = symmetry.nearest(T_true, pose.T_cam_obj)
    distance = squared_distance(pose.T_cam_obj, pose.covariance, alike) if own else np.nan
    return pose.score_features, error < ADD_FRACTION, distance


def _table(rows: list) -> StageSamples:
    features, correct, distance, scene, detection = (np.array(values) for values in zip(*rows, strict=True))
    # Number the detections of all scenes.
    _, detection = np.unique(np.stack([scene, detection]), axis=1, return_inverse=True)
    return StageSamples(CalibrationSamples(features, correct, distance), scene, detection.ravel())
