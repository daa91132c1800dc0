"""Track the poses of objects from image to image: the refiner corrects the last pose, then optical flow does.

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
from vpog_core.geometry.se3 import rotation_angle
from vpog_core.inference.alignment import RenderedView, align
from vpog_core.inference.calibration import ScoreCalibrator
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.pose_solver import compute_support
from vpog_core.inference.query import Query
from vpog_core.inference.render_and_compare import PoseToRefine, RefinedPose, refine
from vpog_core.models.refiner import RefinerNet
from vpog_core.objects.renderer import Renderer

MAX_ROUNDS = 2
"""Rounds of the refiner; the last one is skipped for poses that the first hardly moved."""
FLOW_ROUNDS = 3
"""Largest number of rounds of flow; a round is kept if it raises the similarity. With one unchecked round, an
object whose turn only its print tells is up to 14 % of its diameter off from image to image; with three,
5 %."""
MIN_TURN = np.radians(5.0)
"""If an object turned by less since the last image, its last orientation is used as the start."""
CONVERGED_STEP = 0.2
"""A round that moves a pose by less than this (diameters, mean over its points) is the last. On unseen
synthetic objects another round changes nothing then, and halves the error after longer steps."""


Corrected = tuple[RefinedPose, float]
"""A refined pose, and how far the refiner's last round moved it, in diameters."""


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
    # Start from each object's last pose, and from the pose predicted from its rotation.
    starts = [_starts(query, renderer_of(query)) for query in queries]
    # Correct all of these poses by the refiner.
    poses = [start for of_query in starts for start in of_query]
    refined = iter(zip(poses, _refined(refiner, poses, min(rounds, MAX_ROUNDS)), strict=True))
    # Continue by flow from the pose whose render is most similar to the image.
    corrected = [_most_similar([next(refined) for _ in of_query]) for of_query in starts]
    return [
        _hypothesis(query, start, found, step, calibrator)
        for query, (start, (found, step)) in zip(queries, corrected, strict=True)
    ]


def _starts(query: Query, renderer: Renderer) -> list[PoseToRefine]:
    """Return the poses to follow an object from: the one known before, and that turned on, where it turns."""
    prior = query.prior
    start = PoseToRefine(renderer, query.observation, prior.T_cam_obj)
    if prior.T_turned is None or rotation_angle(prior.T_turned[:3, :3], prior.T_cam_obj[:3, :3]) < MIN_TURN:
        return [start]
    return [start, replace(start, T_cam_obj=prior.T_turned)]


def _most_similar(corrected: Sequence[tuple[PoseToRefine, Corrected]]) -> tuple[PoseToRefine, Corrected]:
    """Return the start, with what the refiner made of it, that the image is most similar to."""
    return corrected[0] if len(corrected) == 1 else max(corrected, key=_similarity)


def _similarity(corrected: tuple[PoseToRefine, Corrected]) -> float:
    """Tell how similar the image is to a render at a corrected pose, -1..1; -1 where nothing is compared."""
    start, (found, _) = corrected
    view = RenderedView.of(start.renderer, start.observation, found.T_cam_obj)
    return -1.0 if view is None or found.reason else view.similarity


def _refined(refiner: RefinerNet, poses: Sequence[PoseToRefine], rounds: int) -> list[Corrected]:
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
    query: Query, start: PoseToRefine, found: RefinedPose, step: float, calibrator: ScoreCalibrator
) -> PoseHypothesis | None:
    """Make the hypothesis of a refined pose, with covariance and score; None where there is no pose."""
    if found.reason or found.rays is None or not len(found.points):
        return None
    cancellation.check()
    # Start the flow from the refined or the previous pose, whichever is more similar to the image.
    aligned = align(start.renderer, query.observation, start.T_cam_obj, FLOW_ROUNDS, found)
    moved = aligned if aligned.moved else found
    observed = (moved.rays, moved.points, moved.weights)
    solved = compute_support(query.crop, moved.T_cam_obj, *observed, calibrator.covariance)
    if solved is None:
        return None
    support, covariance = solved
    points = (support.points_2d, support.points_3d, query.crop.virtual.K)
    error = float(np.sqrt(np.mean(reprojection_distance(support.T, *points) ** 2)))
    pnp = PnPResult(support.T, np.ones(len(support.sigma), bool), error, covariance)
    features = compute_tracked_features(found, step, aligned.similarity)
    score = float(calibrator.probability(features))
    return PoseHypothesis(
        query.crop, None, None, None, pnp, features, score, aligned.similarity, support, converged=True
    )


def compute_tracked_features(found: RefinedPose, step: float, similarity: float) -> np.ndarray:
    """Compute the score features of a followed pose, [F] as `TRACKED_FEATURES` names them.

    Args:
        step: how far the last round moved the pose, in diameters; similarity: of render and image, -1..1.
    """
    return np.array([found.agreement, found.precision, np.log(max(step, 1e-3)), similarity])
