"""Makes the estimator that the node's parameters ask for."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

from rclpy.logging import get_logger

from vpog_core.inference.options import LoadSettings, Options
from vpog_core.objects.symmetry_hint import symmetry_hint
from vpog_core.types import VPOGError
from vpog_ros.parameters import Settings, group

Progress = Callable[[int, int, str], None]
"""Function called with (objects done, number of objects, the next one's name)."""

EstimatorFactory = Callable[[Settings, Progress], object]


def load_estimator(settings: Settings, progress: Progress):
    """Make the PoseEstimator that the settings ask for, with the folder's objects onboarded.

    Raises:
        VPOGError: a setting that cannot be followed; no object can be used, or not all where they must be.
    """
    if not settings.objects_dir:
        raise VPOGError("objects_dir is not set: give the folder that holds the meshes.")
    from vpog_core.inference.estimator import PoseEstimator
    from vpog_core.threads import use_threads

    used = use_threads(settings.num_threads)
    if settings.num_threads not in (0, used):
        told = f"num_threads is {settings.num_threads}, and OMP_NUM_THREADS in the environment goes before it"
        get_logger("vpog_node").warning(f"{told}: {used} threads are used.")
    estimator = PoseEstimator(
        settings.objects_dir, **group(settings, LoadSettings), **group(settings, Options)
    )
    if settings.onboard_when_asked:
        estimator.objects.check(settings.strict_objects)
    else:
        estimator.onboard(progress=progress, strict=settings.strict_objects)
    return estimator


def log_object_notes(estimator, logger) -> dict[str, str]:
    """Log which objects are left out, and notes on the meshes of the others.

    Returns:
        what is shown on /diagnostics as well: hints on the symmetry of objects.
    """
    hints = {}
    for object_id, sentence in estimator.left_out.items():
        logger.error(f"'{object_id}' is left out. {sentence}")
    for object_id in estimator.object_ids:
        for note in estimator.library.notes(object_id):
            logger.warning(note)
        # The mesh of an object that is onboarded when first asked for is not read now.
        hint = symmetry_hint(estimator.library, object_id) if estimator.library.is_read(object_id) else ""
        if hint:
            hints[f"symmetry of {object_id}"] = hint
            logger.warning(hint)
    return hints


def free_memory() -> None:
    """Release the memory of an estimator that is no longer used."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
