"""Declare how a stream of images and detections is processed, by the node and by `vpog replay`."""

from __future__ import annotations

from dataclasses import dataclass

from vpog_core.setting import setting


@dataclass(frozen=True)
class StreamSettings:
    """Declares how images and detections are read, and which poses are published."""

    rectified: bool = setting(False, "Take the images as rectified: use P of CameraInfo, and no distortion.")
    max_detections: int = setting(
        16,
        "Detections used of one frame, best scores first; those left out come first in the next frame.",
        unit="detections",
        minimum=1,
        maximum=256,
    )
    min_score: float = setting(
        0.05,
        "Poses of a lower score are not published, and are drawn grey; 0 publishes all.",
        minimum=0.0,
        maximum=1.0,
    )
    tracking: bool = setting(
        True,
        "Track objects from their poses in the last frame; needs refiner_rounds of 1 or more.",
        off="Search for all objects in every frame, in place of tracking them from the last one.",
    )
    detector_timeout: float = setting(
        0.5,
        "Time that images wait for detections; after it, objects are tracked in them without.",
        unit="s",
        minimum=0.05,
        maximum=60.0,
    )
