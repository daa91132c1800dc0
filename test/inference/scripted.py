"""Provide an estimator whose answers the test sets, and questions to its tracker."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from vpog_core.geometry.se3 import rotation_z, transform
from vpog_core.types import Camera, Detection, Estimates, PoseEstimate

CAMERA = Camera(np.array([[600.0, 0, 320.0], [0, 600.0, 240.0], [0, 0, 1]]), 640, 480, [0.1, -0.1, 0, 0])
POSE = transform(rotation_z(0.3), [0.02, -0.01, 0.6])
BOX = np.array([300.0, 200.0, 380.0, 280.0])
IMAGE = np.zeros((480, 640, 3), np.uint8)
MESH = SimpleNamespace(
    center=np.array([0.01, 0.0, 0.02]),
    hull_points=np.array([0.01, 0.0, 0.02])
    + 0.04 * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]),
    diameter=0.08 * 3**0.5,
)


@dataclass
class Scripted:
    """Answers `POSE` with a score, tracked where the prior says that is enough; remembers the questions."""

    score: float = 0.9
    pose: np.ndarray | None = field(default_factory=lambda: POSE)
    can_track: bool = True
    similarity: float = 0.8
    asked: list = field(default_factory=list)
    priors: list = field(default_factory=list)

    @property
    def library(self):
        return SimpleNamespace(mesh=lambda class_id: MESH, name_of=lambda c: {"beaker": "mug"}.get(c, c))

    def estimate(self, image, camera, detections, priors, constraints=None):
        self.asked, self.priors = list(detections), list(priors)
        return Estimates([self._answer(d, p) for d, p in zip(detections, priors, strict=True)])

    def _answer(self, detection, prior) -> PoseEstimate:
        tried = prior is not None and prior.accept_score is not None and not prior.search_all_views
        enough = tried and self.score >= prior.accept_score
        return PoseEstimate(
            detection.class_id, detection.instance, self.pose, self.score,
            similarity=self.similarity, tracked=enough,
        )  # fmt: skip


def ask(tracker, time, *detections):
    return tracker.estimate(IMAGE, CAMERA, detections or [Detection("mug", BOX)], time)


def numbers_of(tracker, time, *detections) -> list[int]:
    """Return the numbers of the objects that are detected."""
    return [e.instance for e in ask(tracker, time, *detections) if e.detected]


def ask_without(tracker, time):
    """Ask about an image in which nothing is detected."""
    return tracker.estimate(IMAGE, CAMERA, [], time)
