"""Measure what each optimisation of the estimator gains, and what the classical method takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from vpog_core.evaluation.baseline_sift import SiftBaseline
from vpog_core.evaluation.speed_scene import SpeedScene
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.models.precision import choose_precision, uses_bfloat16
from vpog_core.types import Detection


def compare_variants(
    estimator: PoseEstimator, scene: SpeedScene, count: int, frames: int, precision: str
) -> dict[str, float]:
    """Time the estimator and its variants in turn, on the same images.

    Args:
        count: detections in each of the `frames` images; precision: that of the estimator.

    Returns:
        for each other way, its median time over that of the estimator as it is.
    """
    images = [scene.image(n, count) for n in range(frames)]

    def ours(image: np.ndarray, detections: list[Detection]) -> None:
        estimator.estimate(image, scene.camera, detections)

    def without_cache(image: np.ndarray, detections: list[Detection]) -> None:
        for name in scene.names:
            estimator.onboarded(name).clear_clusters()
        ours(image, detections)

    def one_by_one(image: np.ndarray, detections: list[Detection]) -> None:
        for detection in detections:
            ours(image, [detection])

    def all_compared(image: np.ndarray, detections: list[Detection]) -> None:
        options = estimator.options
        # With as many alternatives as hypotheses, all of them are compared with the image.
        estimator.options = replace(options, alternatives=2, hypotheses=max(3, options.hypotheses))
        try:
            ours(image, detections)
        finally:
            estimator.options = options

    def in_float32(image: np.ndarray, detections: list[Detection]) -> None:
        for chosen in ("float32", precision):
            for network in (estimator.model, estimator.networks.refiner):
                choose_precision(network, chosen)
            if chosen == "float32":
                ours(image, detections)

    others = {
        "templates encoded again in every image": without_cache,
        f"{count} detections one by one": one_by_one,
        "three hypotheses, all compared with the image": all_compared,
    }
    if uses_bfloat16(estimator.model):
        others["float32"] = in_float32
    sift = SiftBaseline(estimator.library)
    for name in scene.names:
        sift.onboard(name)
    others["SIFT + PnP"] = lambda image, detections: sift.estimate(image, scene.camera, detections)
    return {name: _ratio(ours, other, images) for name, other in others.items()}


def _ratio(ours: Callable, other: Callable, images: Sequence[tuple]) -> float:
    """Compute the median time of a variant over that of the estimator, measured in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for image, detections in images:
        for variant, seconds in zip((ours, other), times, strict=True):
            begin = time.perf_counter()
            variant(image, detections)
            seconds.append(time.perf_counter() - begin)
    return float(np.median(times[1]) / np.median(times[0]))
