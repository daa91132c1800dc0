"""Follow objects from image to image: the refiner corrects the last pose, and optical flow sharpens it.

There is no crop to encode, no view to retrieve and no template to match: the object is rendered at the pose
known before, compared with the image, and moved to where the image shows it. The refiner sees some hundred
pixels; flow at the image's resolution takes away the error it leaves, which would add up from image to image
where nothing but print tells the turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from vpog_core import cancellation
from vpog_core.geometry.pnp import PnPResult, reprojection_distance
from vpog_core.inference.alignment import align
from vpog_core.inference.calibration import ScoreCalibrator
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.pose_solver import compute_support
from vpog_core.inference.query import Query
from vpog_core.inference.refine import PoseToRefine, RefinedPose, refine
from vpog_core.models.refiner import RefinerNet
from vpog_core.objects.renderer import Renderer

MAX_ROUNDS = 2
"""Rounds of the refiner; the last one is skipped for poses that the first hardly moved."""
FLOW_ROUNDS = 3
"""Rounds of flow, at most, each kept where the image is more similar. With one round, taken unseen, an object
whose turn only its print tells is up to 14 % of its diameter off from image to image; with three, 5 %."""
CONVERGED_STEP = 0.2
"""A round that moves a pose by less than this (diameters, mean over its points) is the last. On unseen
synthetic objects another round changes nothing then, and halves the error after longer steps."""


def follow(
    refiner: RefinerNet,
    queries: Sequence[Query],
    renderer_of: Callable[[Query], Renderer],
    calibrator: ScoreCalibrator,
    rounds: int = MAX_ROUNDS,
) -> list[PoseHypothesis | None]:
    """Find the poses of queries from the poses known before.

    Args:
        queries: each with a prior.
        renderer_of: the renderer of a query's object; calibrator: of `calibration.TRACKED_FEATURES`.
        rounds: of the refiner, at most.

    Returns:
        A hypothesis for each query, whose score tells how far the image agrees; None where the object is out
        of the image, or the image shows too little of it for any pose.
    """
    poses = [PoseToRefine(renderer_of(q), q.observation, q.prior.T_cam_obj) for q in queries]
    refined = _refined(refiner, poses, min(rounds, MAX_ROUNDS))
    return [
        _hypothesis(query, pose.renderer, found, step, calibrator)
        for query, pose, (found, step) in zip(queries, poses, refined, strict=True)
    ]


def _refined(
    refiner: RefinerNet, poses: Sequence[PoseToRefine], rounds: int
) -> list[tuple[RefinedPose, float]]:
    """Refine poses until they converge; return each with its last step, in diameters."""
    found = [(RefinedPose(pose.T_cam_obj), 0.0) for pose in poses]
    moving = list(range(len(poses)))
    for _ in range(rounds):
        starts = [replace(poses[n], T_cam_obj=found[n][0].T_cam_obj) for n in moving]
        for n, start, after in zip(moving, starts, refine(refiner, starts, 1), strict=True):
            found[n] = (after, _step(start, after.T_cam_obj))
        moving = [n for n in moving if not found[n][0].reason and found[n][1] > CONVERGED_STEP]
    return found


def _step(start: PoseToRefine, T_cam_obj: np.ndarray) -> float:
    """Measure the mean displacement of the hull's points between two poses [4, 4], in diameters."""
    mesh = start.renderer.mesh
    move = T_cam_obj - start.T_cam_obj
    displacement = np.linalg.norm(mesh.hull_points @ move[:3, :3].T + move[:3, 3], axis=1)
    return float(displacement.mean() / mesh.diameter)


def _hypothesis(
    query: Query, renderer: Renderer, found: RefinedPose, step: float, calibrator: ScoreCalibrator
) -> PoseHypothesis | None:
    """Make the hypothesis of a refined pose, with covariance and score; None where there is no pose."""
    if found.reason or found.rays is None or not len(found.points):
        return None
    cancellation.check()
    # Align by flow, starting from the refined or the previous pose, whichever is more similar.
    aligned = align(renderer, query.observation, query.prior.T_cam_obj, FLOW_ROUNDS, found)
    moved = aligned if aligned.moved else found
    observed = (moved.rays, moved.points, moved.weights)
    solved = compute_support(query.crop, moved.T_cam_obj, *observed, calibrator.covariance, iterations=0)
    if solved is None:
        return None
    support, covariance = solved
    points = (support.points_2d, support.points_3d, query.crop.virtual.K)
    error = float(np.sqrt(np.mean(reprojection_distance(support.T, *points) ** 2)))
    pnp = PnPResult(support.T, np.ones(len(support.sigma), bool), error, covariance)
    features = compute_tracked_features(found, step, aligned.similarity)
    score = float(calibrator.probability(features))
    return PoseHypothesis(query.crop, None, None, None, pnp, features, score, support=support, converged=True)


def compute_tracked_features(found: RefinedPose, step: float, similarity: float) -> np.ndarray:
    """Compute the score features of a followed pose, [F] as `TRACKED_FEATURES` names them.

    Args:
        step: how far the last round moved the pose, in diameters; similarity: of render and image, -1..1.
    """
    return np.array([found.agreement, found.precision, np.log(max(step, 1e-3)), similarity])
