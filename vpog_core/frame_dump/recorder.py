"""Record the last call of an estimator: its inputs and its estimates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vpog_core.types import Camera, Detection, Estimates, PoseEstimate


@dataclass(frozen=True)
class RecordedCall:
    """Holds one call of `PoseEstimator.estimate`.

    Attributes:
        image: [H, W, 3] uint8 RGB; camera: of its size.
        priors: `query.Prior` or None of each detection.
        constraints: `PoseConstraint` by object.
        estimates: of each detection, without what draws the matches.
        context: values of the caller for the frame, such as its stamp.
    """

    image: np.ndarray
    camera: Camera
    detections: list[Detection]
    priors: list
    constraints: dict
    estimates: list[PoseEstimate]
    context: dict[str, Any]


class RecordedEstimator:
    """Wraps an estimator and records its last call; all other attributes are the estimator's.

    Attributes:
        context: values that are recorded with the following calls.
        last: the last call that was answered, or None.
    """

    def __init__(self, estimator) -> None:
        self.context: dict[str, Any] = {}
        self.last: RecordedCall | None = None
        self._estimator = estimator

    def __getattr__(self, name: str):
        return getattr(self._estimator, name)

    def estimate(
        self,
        image: np.ndarray,
        camera: Camera,
        detections: Sequence[Detection],
        priors: Sequence | None = None,
        constraints: Mapping | None = None,
        **others,
    ) -> Estimates:
        """Estimate as the estimator does, and remember the call."""
        context = dict(self.context)
        estimates = self._estimator.estimate(image, camera, detections, priors, constraints, **others)
        detections = list(detections)
        if detections:
            given = [None] * len(detections) if priors is None else list(priors)
            # Drop the function that draws the matches: it keeps all network outputs in memory.
            recorded = [dataclasses.replace(e, draw_match=None, alternatives=[]) for e in estimates]
            known = dict(constraints or {})
            self.last = RecordedCall(image, camera, detections, given, known, recorded, context)
        return estimates
