"""Estimate 6D poses of objects known by their mesh alone, from one RGB image and 2D detections.

    import vpog_core as vpog

    estimator = vpog.PoseEstimator("meshes")
    estimates = estimator.estimate(image, K, [vpog.Detection("mug", box)])

The names below are imported when they are first used: `import vpog_core` alone does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vpog_core.inference.constraints import PoseConstraint as PoseConstraint
    from vpog_core.inference.estimator import PoseEstimator as PoseEstimator
    from vpog_core.inference.tracking import Tracker as Tracker
    from vpog_core.inference.tracking import TrackerSettings as TrackerSettings
    from vpog_core.objects.mesh import load_mesh as load_mesh
    from vpog_core.types import Camera as Camera
    from vpog_core.types import Detection as Detection
    from vpog_core.types import Estimates as Estimates
    from vpog_core.types import PoseEstimate as PoseEstimate
    from vpog_core.types import VPOGError as VPOGError

__version__ = "0.1.0"

_HOMES = {
    "PoseEstimator": "vpog_core.inference.estimator",
    "PoseConstraint": "vpog_core.inference.constraints",
    "Tracker": "vpog_core.inference.tracking",
    "TrackerSettings": "vpog_core.inference.tracking",
    "load_mesh": "vpog_core.objects.mesh",
    "Camera": "vpog_core.types",
    "Detection": "vpog_core.types",
    "Estimates": "vpog_core.types",
    "PoseEstimate": "vpog_core.types",
    "VPOGError": "vpog_core.types",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
