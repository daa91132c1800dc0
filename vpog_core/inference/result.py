"""Convert a query's hypotheses to the pose estimate that is returned to the caller."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from vpog_core.geometry.se3 import covariance_at, invert, moved
from vpog_core.inference.calibration import Calibration
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.match_view import match_view
from vpog_core.inference.matching import CLUSTER_SIZE, match_crop
from vpog_core.inference.networks import Networks
from vpog_core.inference.onboarding import OnboardedObject
from vpog_core.inference.options import Options
from vpog_core.inference.pose_solver import draw_samples
from vpog_core.inference.query import Query
from vpog_core.types import MatchView, PoseEstimate

NO_VIEW = "No view of the object agrees with its constraint: check the plane, and the object's up axis."
VIOLATED = (
    "No pose that was found agrees with the object's constraint; the best one is {}: check the plane and the "
    "object's up axis, or raise the tolerance."
)


def pose_estimate(query: Query, options: Options, networks: Networks) -> PoseEstimate:
    """Make the estimate of a query: a pose, or the reason why there is none.

    Args:
        options: tell how many alternatives and samples come with it.
        networks: match the crop of a tracked pose, if the match is to be drawn.
    """
    best = query.best
    reason = _reason(query)
    if reason:
        estimate = PoseEstimate(query.detection.class_id, query.detection.instance, reason=reason)
    else:
        estimate = _estimate_of(query, best, None if query.prior is None else query.prior.T_cam_obj)
        others = [h for h in query.hypotheses[1:] if h.has_pose and not query.violation(h)]
        others = others[: options.alternatives]
        estimate = replace(
            estimate,
            alternatives=[_estimate_of(query, other, estimate.T_cam_obj) for other in others],
            samples=_samples(query, estimate, options.samples, networks.calibration),
        )
    draw = None if best is None else partial(_draw_match, networks, query.target, best, options)
    return replace(estimate, tracked=query.tracked, draw_match=draw)


def _draw_match(
    networks: Networks, target: OnboardedObject, shown: PoseHypothesis, options: Options
) -> MatchView:
    """Show a hypothesis' match; the crop of a tracked pose, which has none, is matched now."""
    if shown.match is None:
        nearest = target.nearest_cluster(shown.T_virt_obj[:3, :3], CLUSTER_SIZE)
        shown = match_crop(networks.model, shown.crop, nearest, options, networks.calibration)
    return match_view(shown)


def _reason(query: Query) -> str:
    """Return the reason why a query has no pose, or ""."""
    best = query.best
    if query.reason:
        return query.reason
    if best is None:
        return NO_VIEW
    if not best.has_pose:
        return f"No pose agrees with the {len(best.pairs.weights)} correspondences found."
    violation = query.violation(best)
    return VIOLATED.format(violation) if violation else ""


def _estimate_of(query: Query, hypothesis: PoseHypothesis, T_ref: np.ndarray | None) -> PoseEstimate:
    """Make the estimate of one hypothesis: its equivalent pose nearest to T_ref (None: to upright)."""
    T_found = hypothesis.T_cam_obj
    nearest = query.symmetry.nearest if query.constraint is None else query.constraint.equivalent
    T_cam_obj = nearest(T_found, T_ref)
    covariance = covariance_at(hypothesis.covariance, T_cam_obj[:3, 3] - T_found[:3, 3])
    if query.constraint is not None:
        T_cam_obj, covariance = query.constraint.fuse(T_cam_obj, covariance)
    return PoseEstimate(
        query.detection.class_id,
        query.detection.instance,
        T_cam_obj,
        hypothesis.score,
        covariance,
        int(hypothesis.pnp.inlier.sum()),
        hypothesis.pnp.reprojection_error,
        score_features=hypothesis.score_features,
        similarity=hypothesis.similarity,
        aligned=hypothesis.support is not None,
    )


def _samples(query: Query, estimate: PoseEstimate, count: int, calibration: Calibration) -> np.ndarray | None:
    """Draw poses [count, 4, 4] around an estimate of a query's best hypothesis; None if count is 0."""
    if not count:
        return None
    best = query.best
    if query.constraint is not None:
        # The pose was fused with the constraint: draw samples of the fused normal distribution.
        steps = np.random.default_rng(0).multivariate_normal(np.zeros(6), estimate.covariance, count)
        return np.stack([moved(estimate.T_cam_obj, step) for step in steps])
    move = invert(best.T_cam_obj) @ estimate.T_cam_obj
    return best.crop.virtual.T_cam_virt @ draw_samples(best, count, calibration) @ move
