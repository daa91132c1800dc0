"""Turn score features into probabilities; the numbers that do so are kept in weights files."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from vpog_core.types import VPOGError

METADATA_KEY = "calibration"
"""Key of the calibration in a weights file's metadata."""
FEATURES = ("support", "agreement", "error")
"""The score features of a matched pose, computed from its matches; logarithms, see
`pose_solver.compute_score_features`."""
ALIGNED_FEATURES = (*FEATURES, "similarity")
"""The score features of an aligned pose; similarity: -1..1, see `rendered_view.RenderedView`."""
FEATURES_IN_FILE = (*FEATURES, "likeness")
"""The names of `ALIGNED_FEATURES` in weights files, the last under its old name, so that older files can be
read. A calibration of other features is not used, see `read_calibration`."""
REFINED_FEATURES = (*ALIGNED_FEATURES, "visible", "precision", "score")
"""The score features of a pose that the refiner compared with the image: also the fraction of the object
that is visible and agrees, the flow's mean logarithmic scale, and the scorer's logit, see
`render_and_compare.RefinedPose`."""
TRACKED_FEATURES = ("agreement", "precision", "step", "similarity", "score")
"""The score features of a pose that the refiner followed from an earlier image, see
`tracked_pose.compute_tracked_features`."""
FLOW_FEATURES = ("coverage", "step", "similarity")
"""The score features of a pose that was followed by optical flow alone, see
`tracked_pose.compute_flow_features`."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreCalibrator:
    """Turns score features into a probability, and gives covariances the size of the errors.

    Attributes:
        bias, coefficients: the score is the logistic function of bias + coefficients [F] . features [F].
        covariance: factor on the solver's covariances.
        num_samples: poses it was fitted on; 0 for the defaults.
    """

    bias: float
    coefficients: tuple[float, ...]
    covariance: float
    num_samples: int = 0

    def probability(self, score_features: np.ndarray) -> float | np.ndarray:
        """Compute the probability 0..1 that poses of features [..., F] are correct: ADD(-S) under 10 %."""
        return 1.0 / (1.0 + np.exp(-np.clip(self.logit(score_features), -30.0, 30.0)))

    def logit(self, score_features: np.ndarray) -> float | np.ndarray:
        """Compute the logit of `probability`."""
        return self.bias + np.asarray(score_features) @ np.asarray(self.coefficients)

    def check(self, features: int) -> None:
        """Raise a VPOGError where the numbers are impossible, or not of so many features."""
        numbers = np.array(
            [self.bias, self.covariance, self.num_samples, *self.coefficients], dtype=np.float64
        )
        if len(self.coefficients) != features or not np.isfinite(numbers).all() or self.covariance <= 0:
            raise VPOGError("The calibration in the weights holds impossible numbers: run vpog calibrate.")


DEFAULT_ALIGNED = ScoreCalibrator(-2.87, (1.02, 1.68, -7.84, 6.30), 3.05)
"""Fitted to a vpog-tiny on 520 poses of 30 unseen procedural objects, half of them correct."""
DEFAULT_REFINED = replace(DEFAULT_ALIGNED, coefficients=(*DEFAULT_ALIGNED.coefficients, 0.0, 0.0, 0.0))
"""The refiner's features have no weight until `vpog calibrate` has fitted them."""
DEFAULT_TRACKED = ScoreCalibrator(-2.72, (2.10, -0.80, -0.36, 4.77, 0.0), 2.81)
"""Fitted to a refiner-tiny on 606 poses of 48 unseen procedural objects, 53 % of them correct."""
DEFAULT_FLOW = ScoreCalibrator(-5.0, (7.0, -0.65, 3.0), 2.8)
"""Fitted on 117 poses of 30 unseen procedural objects, 79 % of them correct."""


@dataclass(frozen=True)
class Calibration(ScoreCalibrator):
    """Holds the calibration of a weights file; the defaults fit a vpog-tiny on unseen procedural objects.

    Its own numbers, of `FEATURES`, are for poses from matches alone: intermediate ones, and the final ones
    where poses are not aligned.

    Attributes:
        aligned: for poses that were aligned with the image, of `ALIGNED_FEATURES`.
        refined: for those that the refiner compared with the image as well, of `REFINED_FEATURES`.
        tracked: for poses that the refiner followed from an earlier image, of `TRACKED_FEATURES`.
        flow: for those that were followed by optical flow alone, of `FLOW_FEATURES`.
    """

    bias: float = -2.99
    coefficients: tuple[float, ...] = (1.25, 4.34, -4.21)
    covariance: float = 1.16
    num_samples: int = 0
    aligned: ScoreCalibrator = DEFAULT_ALIGNED
    refined: ScoreCalibrator = DEFAULT_REFINED
    tracked: ScoreCalibrator = DEFAULT_TRACKED
    flow: ScoreCalibrator = DEFAULT_FLOW

    @classmethod
    def of(
        cls,
        matched: ScoreCalibrator,
        aligned: ScoreCalibrator,
        refined: ScoreCalibrator = DEFAULT_REFINED,
        tracked: ScoreCalibrator = DEFAULT_TRACKED,
        flow: ScoreCalibrator = DEFAULT_FLOW,
    ) -> Calibration:
        """Join the calibrators of matched, aligned, refined and followed poses."""
        own = (getattr(matched, f.name) for f in fields(ScoreCalibrator))
        return cls(*own, aligned, refined, tracked, flow)

    def compared(self, score_features: np.ndarray) -> ScoreCalibrator:
        """Return the calibrator for a pose that was compared with the image and has these features [F]."""
        return self.refined if len(score_features) == len(REFINED_FEATURES) else self.aligned

    def to_metadata(self) -> dict[str, str]:
        """Return the entry for a weights file's metadata."""
        values = {
            **_to_file(self),
            "aligned": _to_file(self.aligned),
            "features": FEATURES_IN_FILE,
            "refined": {**_to_file(self.refined), "features": REFINED_FEATURES},
            "tracked": {**_to_file(self.tracked), "features": TRACKED_FEATURES},
            "flow": {**_to_file(self.flow), "features": FLOW_FEATURES},
        }
        return {METADATA_KEY: json.dumps(values)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Calibration | None:
        """Read the calibration of a weights file; None where it has none, or one of other features.

        Where it holds nothing for refined or for followed poses, or for other features of theirs, they get
        the default.

        Raises:
            VPOGError: there is one that cannot be understood.
        """
        text = metadata.get(METADATA_KEY)
        if text is None:
            return None
        try:
            values = json.loads(text)
            if tuple(values.pop("features")) != FEATURES_IN_FILE:
                return None
            refined = _optional_from_file(values.pop("refined", None), REFINED_FEATURES, DEFAULT_REFINED)
            tracked = _optional_from_file(values.pop("tracked", None), TRACKED_FEATURES, DEFAULT_TRACKED)
            flow = _optional_from_file(values.pop("flow", None), FLOW_FEATURES, DEFAULT_FLOW)
            aligned, matched = _from_file(values.pop("aligned")), _from_file(values)
        except (json.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise VPOGError(
                f"The calibration in the weights cannot be read ({error}): run vpog calibrate."
            ) from error
        matched.check(len(FEATURES))
        aligned.check(len(ALIGNED_FEATURES))
        refined.check(len(REFINED_FEATURES))
        tracked.check(len(TRACKED_FEATURES))
        flow.check(len(FLOW_FEATURES))
        return cls.of(matched, aligned, refined, tracked, flow)


def _to_file(calibrator: ScoreCalibrator) -> dict:
    """Return the numbers of a calibrator under the names that weights files have for them."""
    return {
        "bias": calibrator.bias,
        "coefficients": calibrator.coefficients,
        "covariance": calibrator.covariance,
        "cases": calibrator.num_samples,
    }


def _from_file(values: Mapping) -> ScoreCalibrator:
    """Read what `_to_file` made; other values raise KeyError, TypeError or ValueError."""
    numbers = {"cases": 0, **values}
    coefficients = tuple(float(c) for c in numbers.pop("coefficients"))
    bias, covariance, num_samples = (numbers.pop(name) for name in ("bias", "covariance", "cases"))
    if numbers:
        raise ValueError(f"unknown entries {', '.join(map(str, numbers))}")
    return ScoreCalibrator(float(bias), coefficients, float(covariance), int(num_samples))


def _optional_from_file(
    values: dict | None, features: Sequence[str], default: ScoreCalibrator
) -> ScoreCalibrator:
    """Read a calibrator that older files lack; the default where there is none of these features."""
    if values is None or tuple(values.pop("features")) != tuple(features):
        return default
    return _from_file(values)


DEFAULT_CALIBRATION = Calibration()


def read_calibration(path: str | Path) -> Calibration:
    """Read the calibration stored with a weights file; the defaults where there is none, which is logged.

    Where it was fitted to other score features than this version computes, the defaults take its place, which
    is logged as a warning.

    Raises:
        VPOGError: the file cannot be read, or its calibration cannot be understood.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            found = Calibration.from_metadata(metadata)
    except (SafetensorError, OSError) as error:
        raise VPOGError(
            f"'{path}' is no readable safetensors file ({error}): copy the weights again."
        ) from error
    if outdated := _outdated(metadata):
        _LOG.warning(
            "The calibration of %s poses in '%s' was fitted to score features of another version "
            "and is not used: their scores are rough until `vpog calibrate --weights %s` is run.",
            " and ".join(outdated),
            path,
            path,
        )
    elif found is None:
        _LOG.info("'%s' holds no calibration: scores are rough until `vpog calibrate` is run.", path)
    return found or Calibration()


def _outdated(metadata: Mapping[str, str]) -> list[str]:
    """Name the kinds of poses whose calibrators in a weights file were fitted to other score features."""
    values = json.loads(metadata.get(METADATA_KEY, "{}"))
    if values and tuple(values["features"]) != FEATURES_IN_FILE:
        return ["all"]
    kinds = {"refined": REFINED_FEATURES, "tracked": TRACKED_FEATURES, "flow": FLOW_FEATURES}
    return [
        kind
        for kind, features in kinds.items()
        if kind in values and tuple(values[kind]["features"]) != features
    ]
