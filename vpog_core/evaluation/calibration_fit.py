"""Fit calibrators to poses whose truth is known, and measure how well they fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from vpog_core.inference.calibration import ScoreCalibrator
from vpog_core.types import VPOGError

MIN_SAMPLES, MIN_BEST = 40, 20
"""Least number of poses for a fit, and of best poses for theirs."""
SIGNS = {
    "matched": (1, 1, -1),
    "aligned": (1, 1, -1, 1),
    "refined": (1, 1, -1, 1, 1, -1, 1),
    "tracked": (1, -1, -1, 1, 1),
    "flow": (1, -1, 1),
}
"""The calibrators that go with weights, and the signs that the coefficients of each may have."""
RIDGE = 0.003
"""Strength of the L2 regularisation of the fitted coefficients."""


@dataclass
class CalibrationSamples:
    """Holds N poses that were compared with the truth, to fit and check a calibration.

    Attributes:
        score_features: [N, F]; correct: [N] bool, ADD(-S) under 10 % of the diameter.
        distance: [N] squared Mahalanobis distance of the true pose under the covariance as solved (factor 1);
            NaN where it is not to be counted.
    """

    score_features: np.ndarray
    correct: np.ndarray
    distance: np.ndarray

    def __len__(self) -> int:
        return len(self.correct)

    def __getitem__(self, chosen: np.ndarray) -> CalibrationSamples:
        """Return the samples that a mask [N] chooses."""
        return CalibrationSamples(self.score_features[chosen], self.correct[chosen], self.distance[chosen])


def best_of_each(score: np.ndarray, detection: np.ndarray) -> np.ndarray:
    """Tell which samples [N] have the highest score of their detection, [N] bool.

    Args:
        score: [N]; detection: [N], the same number for the poses of one detection.
    """
    order = np.lexsort((-score, detection))
    first = np.unique(detection[order], return_index=True)[1]
    best = np.zeros(len(score), dtype=bool)
    best[order[first]] = True
    return best


def fit_best(samples: CalibrationSamples, detection: np.ndarray, signs: Sequence[int]) -> ScoreCalibrator:
    """Fit a calibrator that ranks the poses of a detection, and is a probability for the best of them.

    The best of several poses is correct more often than any pose of the same features, so a fit to all poses
    is too low for it, while a fit to the best alone has few poses to learn the ranking from. So all poses
    tell how features are weighed, and the best ones what probability a sum of them means (Platt scaling).

    Args:
        samples: N poses; detection: [N], the same number for the poses of one detection; signs: see `fit`.

    Raises:
        VPOGError: as `fit` does.
    """
    ranking = fit(samples, signs)
    best = samples[best_of_each(ranking.logit(samples.score_features), detection)]
    logits = ranking.logit(best.score_features)[:, None]
    scaling = fit(replace(best, score_features=logits), (1,), MIN_BEST)
    (slope,) = scaling.coefficients
    return replace(
        scaling,
        bias=scaling.bias + slope * ranking.bias,
        coefficients=tuple(slope * c for c in ranking.coefficients),
    )


def fit(samples: CalibrationSamples, signs: Sequence[int], least: int = MIN_SAMPLES) -> ScoreCalibrator:
    """Fit a calibrator to poses whose truth is known, for any set of features.

    The score is fitted by logistic regression with a weak ridge, the sign of each coefficient given by
    `signs`; the covariance factor so that half of the correct poses lie within the ellipsoid that half of
    them should lie in.

    Raises:
        VPOGError: under `least` poses, or all of them correct, or all wrong.
    """
    count, correct = len(samples), int(samples.correct.sum())
    if count < least or min(correct, count - correct) < 5:
        raise VPOGError(
            f"{correct} of {count} poses are correct: a fit needs {least} poses, and 5 of both kinds; "
            "take more scenes."
        )
    if np.isfinite(samples.distance[samples.correct]).sum() < 5:
        raise VPOGError("Fewer than 5 correct poses have a covariance of their own: take more scenes.")
    mean, scale = samples.score_features.mean(axis=0), samples.score_features.std(axis=0) + 1e-9
    X, sign = (samples.score_features - mean) / scale, np.where(samples.correct, 1.0, -1.0)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (w[0] + X @ w[1:])
        slope = -sign / (1.0 + np.exp(np.clip(margin, -30, 30))) / count
        gradient = np.concatenate([[slope.sum()], slope @ X + 2 * RIDGE * w[1:]])
        return float(np.logaddexp(0.0, -margin).mean() + RIDGE * np.sum(w[1:] ** 2)), gradient

    bounds = [(None, None), *((0, None) if sign > 0 else (None, 0) for sign in signs)]
    w = minimize(loss, np.zeros(X.shape[1] + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    coefficients = w[1:] / scale
    return ScoreCalibrator(
        bias=float(w[0] - coefficients @ mean),
        coefficients=tuple(float(c) for c in coefficients),
        covariance=covariance_factor(samples),
        num_samples=count,
    )


def covariance_factor(samples: CalibrationSamples) -> float:
    """Find the factor on covariances with which half of the correct poses lie in the 50 % ellipsoid."""
    return float(np.nanmedian(samples.distance[samples.correct]) / chi2.median(6))


def coverage(samples: CalibrationSamples, factor: float, fraction: float) -> float:
    """Measure which fraction of the correct poses has its truth in the ellipsoid that `fraction` should."""
    distance = samples.distance[samples.correct & np.isfinite(samples.distance)]
    return float(np.mean(distance < factor * chi2.ppf(fraction, 6)))


def squared_distance(T_est: np.ndarray, covariance: np.ndarray, T_true: np.ndarray) -> float:
    """Compute the squared Mahalanobis distance of a true pose [4, 4] from an estimate with its covariance."""
    turn = Rotation.from_matrix(T_true[:3, :3] @ T_est[:3, :3].T).as_rotvec()
    step = np.concatenate([T_true[:3, 3] - T_est[:3, 3], turn])
    return float(step @ np.linalg.solve(covariance, step))


def calibration_error(probability: np.ndarray, correct: np.ndarray, bins: int = 10) -> float:
    """Compute the expected calibration error: mean of |mean score - fraction correct| over bins of scores.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2; bins of equal width.
    """
    which = np.minimum((np.asarray(probability) * bins).astype(int), bins - 1)
    errors = [
        np.sum(which == b) * abs(probability[which == b].mean() - correct[which == b].mean())
        for b in np.unique(which)
    ]
    return float(np.sum(errors) / max(len(correct), 1))
