"""What makes scores honest and covariances the right size: a few numbers fitted to weights."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from vpog_core.types import VPOGError

METADATA_KEY = "calibration"
"""Of the weights file's metadata."""
FEATURES = ("support", "agreement", "error")
"""What matches say, and the score of a matched pose is a function of; logarithms, see `solution.evidence`."""
ALIGNED_FEATURES = (*FEATURES, "likeness")
"""What the score of an aligned pose is a function of; likeness: -1..1, see `alignment.View`."""
MIN_CASES = 40
"""Fewer answers than this say too little to fit by."""
SIGNS = (1, 1, -1, 1)
"""Which way each feature speaks: none may count for a pose what speaks against it."""
RIDGE = 0.003
"""Strength of the pull of the fitted coefficients towards zero."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scale:
    """What turns evidence into a probability, and gives covariances the right size.

    Attributes:
        bias, coefficients: the score is the logistic function of bias + coefficients [F] . features [F].
        covariance: factor on the solver's covariances.
        cases: answers it was fitted on; 0 for the defaults.
    """

    bias: float
    coefficients: tuple[float, ...]
    covariance: float
    cases: int = 0

    def probability(self, evidence: np.ndarray) -> float | np.ndarray:
        """That a pose is right (ADD(-S) under 10 % of the diameter), 0..1, of features [..., F]."""
        logit = self.bias + np.asarray(evidence) @ np.asarray(self.coefficients)
        return 1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0)))

    def check(self, features: int) -> None:
        """Raise a VPOGError where the numbers are impossible, or not of so many features."""
        numbers = np.array([self.bias, self.covariance, self.cases, *self.coefficients], dtype=np.float64)
        if len(self.coefficients) != features or not np.isfinite(numbers).all() or self.covariance <= 0:
            raise VPOGError("The calibration in the weights holds impossible numbers: run vpog calibrate.")


DEFAULT_ALIGNED = Scale(-2.87, (1.02, 1.68, -7.84, 6.30), 3.05)
"""Of a vpog-tiny on 520 answers of different views of 30 unseen procedural objects, half of them right."""


@dataclass(frozen=True)
class Calibration(Scale):
    """The numbers that go with a weights file; the defaults fit a vpog-tiny on unseen procedural objects.

    Its own are for poses that matches alone speak for: those on the way, and the last where poses are not
    aligned (of `FEATURES`).

    Attributes:
        aligned: for poses that were aligned with the picture (of `ALIGNED_FEATURES`).
    """

    bias: float = -2.99
    coefficients: tuple[float, ...] = (1.25, 4.34, -4.21)
    covariance: float = 1.16
    cases: int = 0
    aligned: Scale = DEFAULT_ALIGNED

    @classmethod
    def of(cls, matched: Scale, aligned: Scale) -> Calibration:
        """The calibration made of both its parts."""
        return cls(matched.bias, matched.coefficients, matched.covariance, matched.cases, aligned)

    def to_metadata(self) -> dict[str, str]:
        """The entry for the weights file's metadata."""
        return {METADATA_KEY: json.dumps({**asdict(self), "features": ALIGNED_FEATURES})}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Calibration | None:
        """The calibration of a weights file, or None where there is none, or one of other features.

        Raises:
            VPOGError: there is one that cannot be understood.
        """
        text = metadata.get(METADATA_KEY)
        if text is None:
            return None
        try:
            values = json.loads(text)
            if tuple(values.pop("features")) != ALIGNED_FEATURES:
                return None
            aligned, matched = _scale(values.pop("aligned")), _scale(values)
        except (json.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise VPOGError(
                f"The calibration in the weights cannot be read ({error}): run vpog calibrate."
            ) from error
        matched.check(len(FEATURES))
        aligned.check(len(ALIGNED_FEATURES))
        return cls.of(matched, aligned)


def _scale(values: Mapping) -> Scale:
    """A `Scale` of plain values; whatever error Python finds where they are none."""
    coefficients = tuple(float(c) for c in values["coefficients"])
    made = Scale(**{**values, "coefficients": coefficients})
    return Scale(float(made.bias), coefficients, float(made.covariance), int(made.cases))


def read_calibration(path: str | Path) -> Calibration:
    """The calibration stored with a weights file; the defaults, and a line at INFO, where there is none.

    Raises:
        VPOGError: the file cannot be read, or its calibration cannot be understood.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            found = Calibration.from_metadata(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise VPOGError(
            f"'{path}' is no readable safetensors file ({error}): copy the weights again."
        ) from error
    if found is None:
        _LOG.info("'%s' holds no calibration: scores are rough until `vpog calibrate` is run.", path)
        return Calibration()
    return found


@dataclass
class JudgedAnswers:
    """N poses found, against the truth: what a calibration is fitted on and checked by.

    Attributes:
        evidence: [N, F] features; right: [N] bool, ADD(-S) under 10 % of the diameter.
        distance: [N] squared Mahalanobis distance of the true pose under the covariance as solved (factor 1);
            NaN where it is not to be counted.
    """

    evidence: np.ndarray
    right: np.ndarray
    distance: np.ndarray

    def __len__(self) -> int:
        return len(self.right)


def fit(answers: JudgedAnswers) -> Scale:
    """The scale of a network's answers, of whichever features.

    The score by logistic regression, held back a little towards no say of any feature, each of which speaks
    one way or not at all. The covariance so that half of the right poses lie within the ellipsoid that half
    of them should.

    Raises:
        VPOGError: too few answers, or all right, or all wrong.
    """
    count, right = len(answers), int(answers.right.sum())
    if count < MIN_CASES or min(right, count - right) < 5:
        raise VPOGError(
            f"{right} of {count} answers are right: a fit needs {MIN_CASES} answers, and 5 of both kinds; "
            "take more scenes."
        )
    if np.isfinite(answers.distance[answers.right]).sum() < 5:
        raise VPOGError("Fewer than 5 right poses have a covariance of their own: take more scenes.")
    mean, scale = answers.evidence.mean(axis=0), answers.evidence.std(axis=0) + 1e-9
    X, sign = (answers.evidence - mean) / scale, np.where(answers.right, 1.0, -1.0)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (w[0] + X @ w[1:])
        slope = -sign / (1.0 + np.exp(np.clip(margin, -30, 30))) / count
        gradient = np.concatenate([[slope.sum()], slope @ X + 2 * RIDGE * w[1:]])
        return float(np.logaddexp(0.0, -margin).mean() + RIDGE * np.sum(w[1:] ** 2)), gradient

    bounds = [(None, None), *((0, None) if sign > 0 else (None, 0) for sign in SIGNS[: X.shape[1]])]
    w = minimize(loss, np.zeros(X.shape[1] + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    coefficients = w[1:] / scale
    return Scale(
        bias=float(w[0] - coefficients @ mean),
        coefficients=tuple(float(c) for c in coefficients),
        covariance=covariance_factor(answers),
        cases=count,
    )


def covariance_factor(answers: JudgedAnswers) -> float:
    """What to multiply the covariances by, so that half of the right poses lie in the ellipsoid of half."""
    return float(np.nanmedian(answers.distance[answers.right]) / chi2.median(6))


def coverage(answers: JudgedAnswers, factor: float, share: float) -> float:
    """Share of the right poses whose truth lies in the ellipsoid that `share` of them should lie in."""
    distance = answers.distance[answers.right & np.isfinite(answers.distance)]
    return float(np.mean(distance < factor * chi2.ppf(share, 6)))


def squared_distance(T_est: np.ndarray, covariance: np.ndarray, T_true: np.ndarray) -> float:
    """Squared Mahalanobis distance of a true pose [4, 4] from an estimate with its covariance [6, 6]."""
    turn = Rotation.from_matrix(T_true[:3, :3] @ T_est[:3, :3].T).as_rotvec()
    step = np.concatenate([T_true[:3, 3] - T_est[:3, 3], turn])
    return float(step @ np.linalg.solve(covariance, step))


def calibration_error(probability: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean over answers [N] of |mean score - share right| of its bin of scores.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2; bins of equal width.
    """
    which = np.minimum((np.asarray(probability) * bins).astype(int), bins - 1)
    gaps = [
        np.sum(which == b) * abs(probability[which == b].mean() - right[which == b].mean())
        for b in np.unique(which)
    ]
    return float(np.sum(gaps) / max(len(right), 1))
