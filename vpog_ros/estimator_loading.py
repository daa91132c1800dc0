"""Make the estimator from the node's parameters."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

from rclpy.logging import get_logger

from vpog_core.inference.options import LoadSettings, Options
from vpog_core.objects.symmetry_hint import symmetry_hint
from vpog_core.types import VPOGError
from vpog_ros.image_conversion import cv_bridge_works
from vpog_ros.parameter_table import IN_BACKGROUND, WHEN_ASKED
from vpog_ros.parameters import Settings, group

OPEN_S = 2.0
"""Seconds of configure after which objects are no longer opened there but in the background."""

Progress = Callable[[int, int, str], None]
"""Function called with (objects done, number of objects, the next one's name)."""

EstimatorFactory = Callable[[Settings, Progress], object]


def load_estimator(settings: Settings, progress: Progress):
    """Make the PoseEstimator that the settings ask for, with those objects onboarded that are to be now.

    Raises:
        VPOGError: a setting that cannot be followed; no object can be used, or not all where they must be.
    """
    if not settings.objects_dir:
        raise VPOGError("objects_dir is not set: give the folder that holds the meshes.")
    from vpog_core.inference.estimator import PoseEstimator
    from vpog_core.threads import use_threads

    used = use_threads(settings.num_threads)
    if settings.num_threads not in (0, used):
        cause = (
            f"num_threads is {settings.num_threads}, and OMP_NUM_THREADS in the environment goes before it"
        )
        get_logger("vpog_node").warning(f"{cause}: {used} threads are used.")
    estimator = PoseEstimator(
        settings.objects_dir, **group(settings, LoadSettings), **group(settings, Options)
    )
    if settings.onboarding == WHEN_ASKED:
        estimator.objects.check(settings.strict_objects)
    elif settings.onboarding == IN_BACKGROUND and not settings.strict_objects:
        estimator.objects.open_cached(OPEN_S, progress)
    else:
        estimator.onboard(progress=progress, strict=settings.strict_objects)
    estimator.warm_up()
    return estimator


def log_ready(estimator, logger) -> dict[str, str]:
    """Log what a configured node works with: objects, those left out, notes on the meshes of the others.

    Returns:
        what is shown on /diagnostics as well: hints on the symmetry of objects.
    """
    hints = {}
    for object_id, sentence in estimator.left_out.items():
        logger.error(f"'{object_id}' is left out. {sentence}")
    for object_id in (name for name in estimator.object_ids if name not in estimator.left_out):
        hints |= log_notes(estimator.library, object_id, logger)
    images = "cv_bridge" if cv_bridge_works() else "rosbags-image"
    names = ", ".join(name for name in estimator.object_ids if name not in estimator.left_out)
    logger.info(f"Ready on {estimator.device}, images through {images}, objects: {names}.")
    return hints


def log_notes(library, object_id: str, logger) -> dict[str, str]:
    """Log notes on an object's mesh, if it has been read; return what is shown on /diagnostics as well."""
    for note in library.notes(object_id):
        logger.warning(note)
    hint = symmetry_hint(library, object_id) if library.is_read(object_id) else ""
    if not hint:
        return {}
    logger.warning(hint)
    return {f"symmetry of {object_id}": hint}


def free_memory() -> None:
    """Release the memory of an estimator that is no longer used."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
