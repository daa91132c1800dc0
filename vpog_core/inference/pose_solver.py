"""Solve matches for poses with covariances, draw samples of them, and compute their scores.

The poses are those of `geometry.pnp`. Covariances and samples come from the same cost, with the noise that
correspondences have when their errors are correlated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from vpog_core.geometry import pinhole
from vpog_core.geometry.pnp import (
    Consensus,
    PnPInput,
    PnPResult,
    minimise,
    pnp_problem,
    reprojection_distance,
    solve_pnp_all,
    with_noise,
)
from vpog_core.geometry.pose_distribution import sample_poses
from vpog_core.geometry.se3 import invert, transform_points
from vpog_core.inference.alignment import Alignment, FlowPose
from vpog_core.inference.calibration import DEFAULT_CALIBRATION, Calibration
from vpog_core.inference.correspondence import (
    Correspondences,
    DenseMatch,
    correspondences,
)
from vpog_core.inference.crop import Crop
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.onboarding import Cluster
from vpog_core.inference.options import DEFAULT_OPTIONS, Options
from vpog_core.inference.render_and_compare import RefinedPose
from vpog_core.models.config import PATCH

PoseOfPoints = Alignment | FlowPose | RefinedPose
"""A pose that comes with what it was solved from: `T_cam_obj`, `rays`, `points` and `weights`."""
MAX_REPROJECTION = 3.0 / 112.0
"""Largest reprojection error of an inlier over the crop's side."""


def solve(
    crop: Crop, cluster: Cluster, match: DenseMatch, options: Options = DEFAULT_OPTIONS
) -> PoseHypothesis:
    """Solve one crop's match for a pose; see `solve_all`."""
    return solve_all([crop], [cluster], [match], options)[0]


def solve_all(
    crops: Sequence[Crop],
    clusters: Sequence[Cluster],
    matches: Sequence[DenseMatch],
    options: Options = DEFAULT_OPTIONS,
    calibration: Calibration = DEFAULT_CALIBRATION,
) -> list[PoseHypothesis]:
    """Lift the matches of N crops with a cluster each to 3D, and find the poses that they agree on.

    Returns:
        N hypotheses; one without a pose where too few correspondences agree.
    """
    # Lift the matches to 3D.
    pairs = [
        correspondences(match, cluster.coords, crop.mask, options)
        for crop, cluster, match in zip(crops, clusters, matches, strict=True)
    ]
    # Find the poses they agree on, and score them.
    poses = solve_poses(crops, pairs, calibration)
    hypotheses = []
    for crop, cluster, match, found, pnp in zip(crops, clusters, matches, pairs, poses, strict=True):
        features = None if pnp is None else compute_score_features(found, pnp)
        score = 0.0 if pnp is None else float(calibration.probability(features))
        hypotheses.append(PoseHypothesis(crop, cluster, match, found, pnp, features, score))
    return hypotheses


def solve_poses(
    crops: Sequence[Crop], pairs: Sequence[Correspondences], calibration: Calibration = DEFAULT_CALIBRATION
) -> list[PnPResult | None]:
    """Find the poses that the correspondences of N crops agree on; None where there is none."""
    # Solve all problems together.
    problems = [
        PnPInput(p.points_2d, p.points_3d, crop.virtual.K, p.weights, threshold_px(crop))
        for crop, p in zip(crops, pairs, strict=True)
    ]
    found = solve_pnp_all(problems)
    # Replace the covariances of independent errors by calibrated ones.
    rows = [n for n, pnp in enumerate(found) if pnp is not None]
    supports = [_inlier_support(crops[n], pairs[n], found[n], calibration.covariance) for n in rows]
    for n, covariance in zip(rows, _covariances(supports), strict=True):
        found[n] = None if covariance is None else replace(found[n], covariance=covariance)
    return found


def draw_samples(
    hypothesis: PoseHypothesis, count: int, calibration: Calibration, seed: int = 0
) -> np.ndarray:
    """Draw poses T_virt_obj [count, 4, 4], equally likely, from the distribution of a hypothesis."""
    if hypothesis.pnp is None:
        return np.zeros((0, 4, 4))
    # Sample the distribution around the pose.
    problem = pnp_problem([_support_of(hypothesis, calibration.covariance)])
    generator = torch.Generator().manual_seed(seed)
    T, covariance = (torch.from_numpy(v)[None] for v in (hypothesis.T_virt_obj, hypothesis.pnp.covariance))
    drawn = sample_poses(problem, T, covariance, samples=max(4 * count, 512), generator=generator)
    # Draw from the samples by their weights.
    probability = drawn.log_weights[0].softmax(dim=-1)
    chosen = torch.multinomial(probability, count, replacement=True, generator=generator)
    return drawn.T[0, chosen].numpy()


def apply_alignment(
    hypothesis: PoseHypothesis, alignment: Alignment, refined: RefinedPose | None, calibration: Calibration
) -> PoseHypothesis | None:
    """Return a hypothesis with its aligned pose and a score from both matches and image.

    A pose that the alignment moved comes with the covariance of the aligned points.

    Args:
        refined: the refiner's result for the pose, or None; it is part of the score.

    Returns:
        None where the pose was moved to one that is not determined, or that the matches do not agree with.
    """
    # Score the pose by its similarity.
    features = compute_compared_features(hypothesis, alignment.similarity, refined)
    calibrator = calibration.compared(features)
    score = float(calibrator.probability(features))
    compared = replace(
        hypothesis,
        score_features=features,
        score=score,
        similarity=alignment.similarity,
        has_flow=alignment.has_flow,
    )
    if not alignment.moved:
        return compared
    # Replace the pose, if the alignment moved it.
    return _moved(compared, alignment, calibrator.covariance)


def moved_to(hypothesis: PoseHypothesis, T_cam_obj: np.ndarray, factor: float) -> PoseHypothesis:
    """Return a hypothesis at another pose [4, 4] near its own, which something else than its points tells.

    What the pose was solved from is shifted in the image as the pose was, so that it agrees as it did before;
    the covariance stays. `factor` on the variances is the calibration's.
    """
    support = _support_of(hypothesis, factor)
    T_virt_obj = invert(hypothesis.crop.virtual.T_cam_virt) @ T_cam_obj
    before, after = (
        pinhole.to_pixels(transform_points(T, support.points_3d), support.K)
        for T in (hypothesis.T_virt_obj, T_virt_obj)
    )
    support = replace(support, T=T_virt_obj, points_2d=support.points_2d + after - before)
    return replace(hypothesis, pnp=replace(hypothesis.pnp, T_virt_obj=T_virt_obj), support=support)


def _support_of(hypothesis: PoseHypothesis, factor: float) -> Consensus:
    """Return what the pose of a hypothesis was solved from, with its noise."""
    return hypothesis.support or _inlier_support(hypothesis.crop, hypothesis.pairs, hypothesis.pnp, factor)


def compute_compared_features(
    hypothesis: PoseHypothesis, similarity: float, refined: RefinedPose | None
) -> np.ndarray:
    """Compute the score features of a pose that was compared with the image.

    Returns:
        [F] as `calibration.ALIGNED_FEATURES` names them; as `REFINED_FEATURES` if the refiner compared
        the pose with the image.
    """
    refiner_features = []
    if refined is not None and refined.rays is not None:
        refiner_features = [refined.agreement, refined.precision, refined.score]
    return np.array([*hypothesis.score_features, similarity, *refiner_features])


def _moved(hypothesis: PoseHypothesis, alignment: Alignment, factor: float) -> PoseHypothesis | None:
    """Move a hypothesis to its aligned pose; None if that is not determined, or the matches do not agree.

    `factor` on the variances is the calibration's.
    """
    crop = hypothesis.crop
    (found,) = compute_supports([crop], [alignment], factor)
    if found is None:
        return None
    support, covariance = found
    pnp = _with_inliers(crop, hypothesis.pairs, support.T, covariance)
    return None if pnp is None else replace(hypothesis, pnp=pnp, support=support)


def compute_supports(
    crops: Sequence[Crop], poses: Sequence[PoseOfPoints], factor: float
) -> list[tuple[Consensus, np.ndarray] | None]:
    """Transform poses and their correspondences into their crops' cameras, and compute the covariances.

    Args:
        factor: on the variances, from the calibration.

    Returns:
        For each pose its correspondences, and its covariance [6, 6] in the crop's camera; None where they do
        not determine the pose.
    """
    supports = [_support(crop, pose, factor) for crop, pose in zip(crops, poses, strict=True)]
    return [
        None if covariance is None else (support, covariance)
        for support, covariance in zip(supports, _covariances(supports), strict=True)
    ]


def _support(crop: Crop, pose: PoseOfPoints, factor: float) -> Consensus:
    K = crop.virtual.K
    pixels = pinhole.to_pixels(pose.rays @ crop.virtual.R_virt_cam.T, K)
    T_virt_obj = invert(crop.virtual.T_cam_virt) @ pose.T_cam_obj
    noisy = with_noise(T_virt_obj, pixels, pose.points, K, pose.weights)
    return _correlated(noisy, pose.weights, factor)


def threshold_px(crop: Crop) -> float:
    """Return the largest reprojection error of an inlier, pixels of the crop."""
    return MAX_REPROJECTION * crop.virtual.size


def _inlier_support(crop: Crop, pairs: Correspondences, pnp: PnPResult, factor: float) -> Consensus:
    """Gather the inliers of a matched pose, with their noise."""
    u, X, w = (v[pnp.inlier] for v in (pairs.points_2d, pairs.points_3d, pairs.weights))
    return _correlated(with_noise(pnp.T_virt_obj, u, X, crop.virtual.K, w), w, factor)


def _correlated(found: Consensus, weights: np.ndarray, factor: float) -> Consensus:
    """Enlarge the noise of correspondences, whose errors are not independent.

    The errors within one patch are correlated, so that its correspondences together count as one; `factor`
    on the variances, from the calibration, corrects the rest. The kernel grows with them: samples of the
    pose move the correspondences by as much.
    """
    together = float(np.sqrt(factor * _points_per_patch(found.points_2d, weights)))
    return replace(found, sigma=found.sigma * together, huber_px=found.huber_px * together)


def _covariances(found: Sequence[Consensus]) -> list[np.ndarray | None]:
    """Compute the covariances [6, 6] of poses from what agrees with them; None: not determined."""
    if not found:
        return []
    solution = minimise(found, iterations=0)
    return [
        covariance.numpy() if valid else None
        for covariance, valid in zip(solution.covariance, solution.valid, strict=True)
    ]


def _points_per_patch(points_2d: np.ndarray, weights: np.ndarray) -> float:
    """Estimate how many of the correspondences [M] share a patch, by weight: they are not independent."""
    patch = _number_places(np.floor(points_2d / PATCH))
    of_patches = np.bincount(patch, weights)[np.bincount(patch) > 0]
    return float(np.sum(of_patches**2) / np.sum(weights) / np.mean(weights))


def _number_places(places: np.ndarray) -> np.ndarray:
    """Number places [M, 2], equal ones alike: [M], in the order of x, then of y; there may be gaps."""
    x, y = (np.unique(column, return_inverse=True)[1].ravel() for column in places.T)
    return x * (y.max(initial=0) + 1) + y


def _with_inliers(
    crop: Crop, pairs: Correspondences, T: np.ndarray, covariance: np.ndarray
) -> PnPResult | None:
    """Find the inliers of a pose; None where there are none or a number is not finite."""
    distance = reprojection_distance(T, pairs.points_2d, pairs.points_3d, crop.virtual.K)
    inlier = distance < threshold_px(crop)
    if not (inlier.any() and np.isfinite(T).all() and np.isfinite(covariance).all()):
        return None
    return PnPResult(T, inlier, float(np.sqrt(np.mean(distance[inlier] ** 2))), covariance)


def compute_score_features(pairs: Correspondences, pnp: PnPResult) -> np.ndarray:
    """Compute the score features of a matched pose, [F] as `calibration.FEATURES` names them.

    All are logarithms. Support: the confidence of the crop pixels that agree, of the most confident template
    at each, so that it does not grow with the number of templates. Agreement: the fraction of the total
    confidence. Error: of the inliers, pixels.
    """
    place = _number_places(pairs.points_2d)
    support = _confidence_of_places(place[pnp.inlier], pairs.confidence[pnp.inlier])
    total = _confidence_of_places(place, pairs.confidence)
    return np.log(np.maximum((support, support / total, pnp.reprojection_error), 1e-6))


def _confidence_of_places(place: np.ndarray, confidence: np.ndarray) -> float:
    """Sum the highest confidence of M correspondences at each place, given by its number [M]."""
    surest = np.zeros(place.max(initial=-1) + 1)
    np.maximum.at(surest, place, confidence)
    return float(surest[np.bincount(place, minlength=len(surest)) > 0].sum())
