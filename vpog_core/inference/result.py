"""From solutions in a crop to the poses a caller gets: the real camera's frame, the right equivalent."""

from __future__ import annotations

import numpy as np

from vpog_core.geometry.pnp import rotate_covariance
from vpog_core.geometry.se3 import invert, skew
from vpog_core.inference.calibration import Calibration
from vpog_core.inference.match_view import match_view
from vpog_core.inference.options import Options
from vpog_core.inference.query import Answers, Query
from vpog_core.inference.solution import Solution, draw_samples
from vpog_core.types import PoseEstimate


def write_answers(result: PoseEstimate, answers: Answers, options: Options, calibration: Calibration) -> None:
    """Write a query's best answer, or the reason there is none, and what else was asked for."""
    best, query = answers.best, answers.query
    result.tracked = answers.tracked
    result.draw_match = lambda: match_view(best)
    if best.pnp is None:
        result.reason = f"No pose agrees with the {len(best.pairs.weights)} correspondences found."
        return
    move = write_pose(result, best, query, None if query.prior is None else query.prior.T_cam_obj)
    if options.samples:
        drawn = draw_samples(best, options.samples, calibration)
        result.samples = best.crop.virtual.T_cam_virt @ drawn @ move
    for candidate in answers.candidates[1 : 1 + options.alternatives]:
        if candidate.solution.pnp is not None:
            other = PoseEstimate(result.class_id, result.instance)
            write_pose(other, candidate.solution, query, result.T_cam_obj)
            result.alternatives.append(other)


def write_pose(
    result: PoseEstimate, solution: Solution, query: Query, T_ref: np.ndarray | None
) -> np.ndarray:
    """Write a solution's pose into a result, of its equivalents the one nearest to T_ref (None: to upright).

    Returns:
        the symmetry [4, 4] that leads from the pose found to the equivalent one.
    """
    T_cam_virt = solution.crop.virtual.T_cam_virt
    T_found = T_cam_virt @ solution.pnp.T_virt_obj
    result.T_cam_obj = query.symmetry.nearest(T_found, T_ref)
    move = invert(T_found) @ result.T_cam_obj
    covariance = rotate_covariance(solution.pnp.covariance, T_cam_virt[:3, :3])
    result.covariance = _of_moved_origin(covariance, T_found[:3, :3] @ move[:3, 3])
    result.inliers = int(solution.pnp.inlier.sum())
    result.reprojection_error = solution.pnp.reprojection_error
    result.score, result.evidence = solution.score, solution.evidence
    result.aligned = solution.support is not None
    return move


def _of_moved_origin(covariance: np.ndarray, arm: np.ndarray) -> np.ndarray:
    """The covariance [6, 6] of a pose whose origin moves by `arm` [3] (camera frame, metres)."""
    lever = np.eye(6)
    lever[:3, 3:] = -skew(arm)
    return lever @ covariance @ lever.T
