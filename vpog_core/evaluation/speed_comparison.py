"""Measure what each optimisation of the estimator gains, and what the classical method takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from vpog_core.evaluation.baseline_sift import SiftBaseline
from vpog_core.evaluation.speed_scene import SpeedScene
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.networks import Networks
from vpog_core.types import Camera, Detection

Detections = Sequence[Detection]
Way = Callable[[np.ndarray, Camera, Detections], object]
"""What estimates the poses of detections in an image, as `PoseEstimator.estimate` does."""


def compare_variants(
    estimator: PoseEstimator, scene: SpeedScene, count: int, frames: int, networks: Mapping[str, Networks]
) -> dict[str, float]:
    """Time the estimator and its variants in turn, on the same images.

    Args:
        count: detections in each of the `frames` images.
        networks: the estimator's in other precisions or by other engines, by the name of the way.

    Returns:
        for each other way, its median time over that of the estimator as it is.
    """
    sift = SiftBaseline(estimator.library)
    for name in scene.meshes:
        sift.onboard(name)
    ways: dict[str, Way] = {
        "templates encoded anew in every image": partial(_encoding_anew, estimator),
        f"{count} detections one by one": partial(_one_by_one, estimator),
        # With as many alternatives as hypotheses, all of them are compared with the image.
        "three hypotheses, all compared with the image": estimator.variant(
            replace(estimator.options, alternatives=2, hypotheses=max(3, estimator.options.hypotheses))
        ).estimate,
        **{name: estimator.variant(networks=other).estimate for name, other in networks.items()},
        "SIFT + PnP": sift.estimate,
    }
    images = [scene.image(n, count) for n in range(frames)]
    return {name: _ratio(estimator.estimate, way, scene.camera, images) for name, way in ways.items()}


def _encoding_anew(
    estimator: PoseEstimator, image: np.ndarray, camera: Camera, detections: Detections
) -> None:
    for name in estimator.object_ids:
        estimator.onboarded(name).clear_clusters()
    estimator.estimate(image, camera, detections)


def _one_by_one(estimator: PoseEstimator, image: np.ndarray, camera: Camera, detections: Detections) -> None:
    for detection in detections:
        estimator.estimate(image, camera, [detection])


def _ratio(ours: Way, other: Way, camera: Camera, images: Sequence[tuple]) -> float:
    """Compute the median time of another way over ours, measured in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for image, detections in images:
        for estimate, seconds in zip((ours, other), times, strict=True):
            begin = time.perf_counter()
            estimate(image, camera, detections)
            seconds.append(time.perf_counter() - begin)
    return float(np.median(times[1]) / np.median(times[0]))
