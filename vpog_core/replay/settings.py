"""Declare how a bag is replayed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vpog_core.inference.constraint_settings import ConstraintSettings
from vpog_core.inference.options import TrackerSettings
from vpog_core.messages.stream_settings import StreamSettings
from vpog_core.replay.unpaired_images import UnpairedImageRule
from vpog_core.setting import check, field_of, settings_of

NOTHING_KNOWN = ConstraintSettings()
_TRACKER = settings_of(TrackerSettings)


@dataclass(frozen=True, kw_only=True)
class ReplaySettings(StreamSettings):
    """Declares the settings of a replay, in addition to those of a stream.

    Attributes:
        bag: the recording; output: the folder for results.
        image, camera_info, detections: topics; None: the one of a fitting type.
        without_detections, max_age: see `TrackerSettings`.
        constraints: what is known of the objects' poses.
        images: write overlay and flow into the bag of results.
        storage: of the bag of results.
        rerun: write a recording for the Rerun viewer as well.
    """

    bag: Path
    output: Path
    image: str | None = None
    camera_info: str | None = None
    detections: str | None = None
    without_detections: bool = field_of(_TRACKER["without_detections"])
    max_age: float = field_of(_TRACKER["max_age"])
    constraints: ConstraintSettings = NOTHING_KNOWN
    images: bool = True
    storage: str = "mcap"
    rerun: bool = False

    def __post_init__(self) -> None:
        check(self)

    @property
    def unpaired_rule(self) -> UnpairedImageRule | None:
        """Return the rule for images without detections; None: they are never processed."""
        if not (self.tracking and self.without_detections):
            return None
        return UnpairedImageRule(self.detector_timeout, self.max_age)
