"""Turn a query's hypotheses into the pose estimate that a caller gets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vpog_core.geometry.se3 import covariance_at, invert
from vpog_core.inference.calibration import Calibration
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.match_view import match_view
from vpog_core.inference.options import Options
from vpog_core.inference.pose_solver import draw_samples
from vpog_core.inference.query import Query
from vpog_core.types import PoseEstimate


def pose_estimate(query: Query, options: Options, calibration: Calibration) -> PoseEstimate:
    """Make the estimate of a query: a pose, or the reason why there is none.

    Args:
        options: tell how many alternatives and samples come with it.
    """
    best = query.best
    if query.reason or not best.has_pose:
        reason = query.reason or f"No pose agrees with the {len(best.pairs.weights)} correspondences found."
        estimate = PoseEstimate(query.detection.class_id, query.detection.instance, reason=reason)
    else:
        estimate = _estimate_of(query, best, None if query.prior is None else query.prior.T_cam_obj)
        others = [h for h in query.hypotheses[1 : 1 + options.alternatives] if h.has_pose]
        estimate = replace(
            estimate,
            alternatives=[_estimate_of(query, other, estimate.T_cam_obj) for other in others],
            samples=_samples(best, estimate.T_cam_obj, options.samples, calibration),
        )
    # A pose that was followed has no match to show.
    has_match = best is not None and best.match is not None
    return replace(
        estimate, tracked=query.tracked, draw_match=(lambda: match_view(best)) if has_match else None
    )


def _estimate_of(query: Query, hypothesis: PoseHypothesis, T_ref: np.ndarray | None) -> PoseEstimate:
    """Make the estimate of one hypothesis: its equivalent pose nearest to T_ref (None: to upright)."""
    T_found = hypothesis.T_cam_obj
    T_cam_obj = query.symmetry.nearest(T_found, T_ref)
    shift = (invert(T_found) @ T_cam_obj)[:3, 3]
    return PoseEstimate(
        query.detection.class_id,
        query.detection.instance,
        T_cam_obj,
        hypothesis.score,
        covariance_at(hypothesis.covariance, T_found[:3, :3] @ shift),
        int(hypothesis.pnp.inlier.sum()),
        hypothesis.pnp.reprojection_error,
        score_features=hypothesis.score_features,
        similarity=hypothesis.similarity,
        aligned=hypothesis.support is not None,
    )


def _samples(
    best: PoseHypothesis, T_cam_obj: np.ndarray, count: int, calibration: Calibration
) -> np.ndarray | None:
    """Draw poses [count, 4, 4] around an equivalent of a hypothesis' pose; None if count is 0."""
    if not count:
        return None
    move = invert(best.T_cam_obj) @ T_cam_obj
    return best.crop.virtual.T_cam_virt @ draw_samples(best, count, calibration) @ move
