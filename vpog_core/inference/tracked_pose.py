"""Track the poses of objects from image to image: by optical flow, and by the refiner where that is unsure.

There is no crop to encode, no view to retrieve and no template to match: the object is rendered at the pose
known before, compared with the image, and moved to where the image shows it. Optical flow from that render is
exact and takes a few milliseconds, but needs print or edges, and a motion that is not too large. Where its
score is low, the refiner corrects the last pose first. Every image is compared with renders of the mesh, not
with the image before, so that errors do not add up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vpog_core import cancellation
from vpog_core.geometry.pnp import Consensus, PnPResult, reprojection_distance
from vpog_core.geometry.se3 import rotation_angle
from vpog_core.inference.alignment import FlowPose, align, follow_flow, is_near
from vpog_core.inference.calibration import Calibration, ScoreCalibrator
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.outline_alignment import ROUNDS, outline_aligned
from vpog_core.inference.pose_solver import PoseOfPoints, compute_supports
from vpog_core.inference.query import Query
from vpog_core.inference.render_and_compare import PoseToRefine, RefinedPose, mean_displacement, refine
from vpog_core.inference.rendered_view import RenderedView
from vpog_core.models.refiner import RefinerNet
from vpog_core.objects.recent_renders import RecentRenders

MAX_SIZE = 192
"""Largest side of the crop that a tracked object is compared in, pixels."""
SURE = 0.85
"""Score from which a pose found by flow alone is taken. In hard synthetic images of unseen objects three
quarters of the poses that the flow finds have it, and 95 % of those are correct."""
MAX_ROUNDS = 2
"""Rounds of the refiner; the last one is skipped for poses that the first hardly moved."""
ALIGNMENTS = 3
"""Rounds of alignment, at most, of which the refiner is the first, see `alignment.align`."""
OUTLINE_ROUNDS = ROUNDS[1:]
"""Rounds of the alignment of outlines."""
MIN_TURN = np.radians(5.0)
"""If an object turned by less since the last image, its last orientation is used as the start."""
CONVERGED_STEP = 0.2
"""A round that moves a pose by less than this (diameters, mean over its points) is the last. On unseen
synthetic objects another round changes nothing then, and halves the error after longer steps."""


def follow(
    refiner: RefinerNet,
    queries: Sequence[Query],
    renderer_of: Callable[[Query], RecentRenders],
    calibration: Calibration,
    rounds: int = MAX_ROUNDS,
) -> list[PoseHypothesis | None]:
    """Find the poses of queries from the poses known before.

    Args:
        queries: each with a prior.
        renderer_of: what renders a query's object; calibration: scores the poses.
        rounds: of the refiner, at most.

    Returns:
        A hypothesis for each query, whose score tells how far the image agrees; None where the object is out
        of the image, or the image shows too little of it for any pose.
    """
    # Follow the flow from the poses where the objects are expected.
    found = _by_flow(queries, renderer_of, calibration.flow)
    # Start from the refiner for the others.
    rows = [n for n, hypothesis in enumerate(found) if hypothesis is None or hypothesis.score < SURE]
    unsure = [queries[n] for n in rows]
    refined = _by_refiner(refiner, unsure, renderer_of, calibration.tracked, min(rounds, MAX_ROUNDS))
    # Of both, keep the pose with the higher score.
    for n, hypothesis in zip(rows, refined, strict=True):
        candidates = [h for h in (found[n], hypothesis) if h is not None]
        found[n] = max(candidates, key=lambda h: h.score, default=None)
    return found


def _by_flow(
    queries: Sequence[Query], renderer_of: Callable[[Query], RecentRenders], calibrator: ScoreCalibrator
) -> list[PoseHypothesis | None]:
    """Find poses by one round of optical flow; None where the flow leads to none."""
    # Render the objects where they are expected.
    starts = [_poses_to_start_from(query)[-1] for query in queries]
    views = [_view(query, renderer_of(query), T) for query, T in zip(queries, starts, strict=True)]
    rows = [n for n, view in enumerate(views) if view is not None]
    # Move the poses by the flow from the renders to the image.
    moved = follow_flow([views[n] for n in rows])
    # Score each pose by a render at it.
    compared: list[_ComparedPose | None] = [None] * len(queries)
    for n, pose in zip(rows, moved, strict=True):
        renderer = renderer_of(queries[n])
        if pose is not None and is_near(starts[n], pose.T_cam_obj, renderer.mesh.center):
            compared[n] = _compared(queries[n], renderer, starts[n], pose)
    return _hypotheses(compared, calibrator)


@dataclass(frozen=True, eq=False)
class _ComparedPose:
    """Holds a pose of a query, its score features [F], and the similarity of its render and the image.

    `has_flow`: see `Alignment.has_flow`.
    """

    query: Query
    pose: PoseOfPoints
    features: np.ndarray
    similarity: float
    has_flow: bool


def _compared(
    query: Query, renderer: RecentRenders, T_start: np.ndarray, found: FlowPose
) -> _ComparedPose | None:
    """Compare the image with a render at the pose that the flow led to from T_start; None where it cannot."""
    after = _view(query, renderer, found.T_cam_obj)
    if after is None:
        return None
    step = mean_displacement(renderer.mesh, T_start, found.T_cam_obj)
    features = compute_flow_features(after.coverage(found.points), step, after.similarity)
    return _ComparedPose(query, found, features, after.similarity, has_flow=True)


def _view(query: Query, renderer: RecentRenders, T_cam_obj: np.ndarray) -> RenderedView | None:
    """Render a query's object at a pose [4, 4]; None where it is out of the image or too small in it."""
    cancellation.check()
    return RenderedView.of(renderer, query.observation, T_cam_obj, MAX_SIZE)


def _by_refiner(
    refiner: RefinerNet,
    queries: Sequence[Query],
    renderer_of: Callable[[Query], RecentRenders],
    calibrator: ScoreCalibrator,
    rounds: int,
) -> list[PoseHypothesis | None]:
    """Find poses by the refiner, then by optical flow; None where the image shows too little of an object."""
    # Correct the poses to start from by the refiner; its small renders are of no use later, and not kept.
    starts = [
        [PoseToRefine(renderer_of(query).renderer, query.observation, T) for T in _poses_to_start_from(query)]
        for query in queries
    ]
    refined = _refined(refiner, starts, rounds)
    # Continue by flow, and score each pose.
    aligned = [
        _aligned(query, renderer_of(query), of_query[0].T_cam_obj, pose)
        for query, of_query, pose in zip(queries, starts, refined, strict=True)
    ]
    found = _hypotheses(aligned, calibrator)
    # Align the outlines of those whose pose is determined.
    return [
        None
        if one is None
        else outline_aligned(
            renderer_of(query), query.observation, one, calibrator.covariance, OUTLINE_ROUNDS, MAX_SIZE
        )
        for query, one in zip(queries, found, strict=True)
    ]


def _poses_to_start_from(query: Query) -> list[np.ndarray]:
    """Return the pose [4, 4] known before, and, where the object turns, the one it should have turned to."""
    prior = query.prior
    if prior.T_turned is None or rotation_angle(prior.T_turned[:3, :3], prior.T_cam_obj[:3, :3]) < MIN_TURN:
        return [prior.T_cam_obj]
    return [prior.T_cam_obj, prior.T_turned]


def _refined(refiner: RefinerNet, starts: Sequence[Sequence[PoseToRefine]], rounds: int) -> list[RefinedPose]:
    """Refine the poses that each query starts from once, then the best of each until it converges."""
    # Refine all of them, and keep the one of each query that has the highest score.
    once = iter(refine(refiner, [pose for of_query in starts for pose in of_query], 1))
    found = [max([next(once) for _ in of_query], key=_quality) for of_query in starts]
    # Refine those that still move.
    for _ in range(rounds - 1):
        moving = [n for n, pose in enumerate(found) if not pose.reason and pose.step > CONVERGED_STEP]
        again = [replace(starts[n][0], T_cam_obj=found[n].T_cam_obj) for n in moving]
        for n, after in zip(moving, refine(refiner, again, 1), strict=True):
            # A round that fails leaves the pose of the round before.
            found[n] = after if _is_usable(after) else found[n]
    return found


def _quality(pose: RefinedPose) -> tuple[bool, float]:
    """Return the key by which the better of two refined poses is chosen: usable, then its score."""
    return _is_usable(pose), pose.score


def _is_usable(pose: RefinedPose) -> bool:
    return not pose.reason and pose.points is not None and len(pose.points) > 0


def _aligned(
    query: Query, renderer: RecentRenders, T_start: np.ndarray, refined: RefinedPose
) -> _ComparedPose | None:
    """Align a pose that was refined from T_start with the image; None where it is not usable."""
    if not _is_usable(refined):
        return None
    cancellation.check()
    aligned = align(renderer, query.observation, T_start, ALIGNMENTS, refined, max_size=MAX_SIZE)
    features = compute_tracked_features(refined, aligned.similarity)
    pose = aligned if aligned.moved else refined
    return _ComparedPose(query, pose, features, aligned.similarity, aligned.has_flow)


def _hypotheses(
    compared: Sequence[_ComparedPose | None], calibrator: ScoreCalibrator
) -> list[PoseHypothesis | None]:
    """Make the hypotheses of poses, with covariance and score; None where points do not determine a pose."""
    rows = [n for n, one in enumerate(compared) if one is not None]
    crops, poses = [compared[n].query.crop for n in rows], [compared[n].pose for n in rows]
    found: list[PoseHypothesis | None] = [None] * len(compared)
    for n, solved in zip(rows, compute_supports(crops, poses, calibrator.covariance), strict=True):
        if solved is not None:
            found[n] = _hypothesis(compared[n], *solved, calibrator)
    return found


def _hypothesis(
    compared: _ComparedPose, support: Consensus, covariance: np.ndarray, calibrator: ScoreCalibrator
) -> PoseHypothesis:
    """Make the hypothesis of a pose from its correspondences and its covariance [6, 6]."""
    crop, features = compared.query.crop, compared.features
    points = (support.points_2d, support.points_3d, crop.virtual.K)
    error = float(np.sqrt(np.mean(reprojection_distance(support.T, *points) ** 2)))
    pnp = PnPResult(support.T, np.ones(len(support.sigma), bool), error, covariance)
    score = float(calibrator.probability(features))
    return PoseHypothesis(
        crop,
        cluster=None,
        match=None,
        pairs=None,
        pnp=pnp,
        score_features=features,
        score=score,
        similarity=compared.similarity,
        support=support,
        has_flow=compared.has_flow,
        converged=True,
    )


def compute_tracked_features(refined: RefinedPose, similarity: float) -> np.ndarray:
    """Compute the score features of a pose followed by the refiner, [F] as `TRACKED_FEATURES` names them.

    Args:
        similarity: of render and image, -1..1.
    """
    step = np.log(max(refined.step, 1e-3))
    return np.array([refined.agreement, refined.precision, step, similarity, refined.score])


def compute_flow_features(coverage: float, step: float, similarity: float) -> np.ndarray:
    """Compute the score features of a pose followed by flow alone, [F] as `FLOW_FEATURES` names them.

    Args:
        coverage: fraction of the object's cells with points that agree; step: how far the flow moved the
            pose, in diameters; similarity: of render and image, -1..1.
    """
    return np.array([coverage, np.log(max(step, 1e-3)), similarity])
