"""Define the settings of a replay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vpog_core.replay.unpaired_images import UnpairedImageRule


@dataclass(frozen=True)
class ReplaySettings:
    """Set how a bag is replayed.

    Attributes:
        bag: the recording; output: the folder for results.
        image, camera_info, detections: topics; None: the one of a fitting type.
        rectified: the images are rectified, `P` of their CameraInfo holds.
        max_detections: used of one frame, best scores first.
        tracking: look first where an instance was in the last frame.
        without_detections: follow objects in images where no detection shows them as well.
        detector_timeout: seconds that images wait for detections before they are answered without.
        max_age: seconds after its last detection for which an object is followed.
        min_score: poses under it are not published, and drawn grey.
        images: write overlay and flow into the bag of results.
        storage: of the bag of results.
        rerun: write a recording for the Rerun viewer as well.
    """

    bag: Path
    output: Path
    image: str | None = None
    camera_info: str | None = None
    detections: str | None = None
    rectified: bool = False
    max_detections: int = 16
    tracking: bool = True
    without_detections: bool = True
    detector_timeout: float = 0.5
    max_age: float = 5.0
    min_score: float = 0.05
    images: bool = True
    storage: str = "mcap"
    rerun: bool = False

    @property
    def unpaired_rule(self) -> UnpairedImageRule | None:
        """The rule for images without detections; None: they are never answered."""
        if not (self.tracking and self.without_detections):
            return None
        return UnpairedImageRule(self.detector_timeout, self.max_age)
