"""Choose the images of a bag that are processed without detections, by the rules of the running node."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Arrival:
    """Holds an image of a bag, with its detections or without, and the time when both had arrived.

    Attributes:
        time_s: when that was recorded.
        image, detections: rows of the messages in their topics; detections None: the image came first.
    """

    time_s: float
    image: int
    detections: int | None


@dataclass(frozen=True)
class UnpairedImageRule:
    """Declares when an image is processed without detections, if objects are being tracked.

    Attributes:
        detector_timeout: seconds that images have waited for detections by then.
        max_age: seconds after the last image with detections at which no object is followed any more.
    """

    detector_timeout: float
    max_age: float


def choose_frames(
    arrivals: list[Arrival], stamps_ns: list[int], rule: UnpairedImageRule | None
) -> list[tuple[int, int | None]]:
    """Choose the frames of a bag, in order: all pairs and, by the rule, images alone.

    Images that get detections later wait for them, and images without a stamp are never answered alone.

    Args:
        stamps_ns: of the images.
        rule: None: pairs alone.

    Returns:
        (row of the image, row of the detections or None) of each frame.
    """
    paired = {arrival.image for arrival in arrivals if arrival.detections is not None}
    frames: list[tuple[int, int | None]] = []
    unpaired_since: float | None = None
    last_pair_ns = 0
    for arrival in arrivals:
        stamp_ns = stamps_ns[arrival.image]
        if arrival.detections is not None:
            frames.append((arrival.image, arrival.detections))
            unpaired_since, last_pair_ns = None, stamp_ns
            continue
        if not stamp_ns:
            continue
        unpaired_since = arrival.time_s if unpaired_since is None else unpaired_since
        if rule is None or not last_pair_ns or arrival.image in paired:
            continue
        waited = arrival.time_s - unpaired_since >= rule.detector_timeout
        if waited and 0 < stamp_ns - last_pair_ns <= 1e9 * rule.max_age:
            frames.append((arrival.image, None))
    return frames
