"""Choose the topics of a bag: by type if only one fits, else as the user specifies."""

from __future__ import annotations

from dataclasses import dataclass

from vpog_core.messages.detection_inputs import DETECTION_INPUTS
from vpog_core.replay.bag_reader import Bag
from vpog_core.types import VPOGError

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
DETECTION_TYPES = tuple(row.type for row in DETECTION_INPUTS.values())
CAMERA_TYPES = ("sensor_msgs/msg/CameraInfo",)


@dataclass(frozen=True)
class Topics:
    """Names the topics of a bag's images, calibrations and detections."""

    image: str
    camera_info: str
    detections: str

    @property
    def all(self) -> list[str]:
        """Return all three topics."""
        return [self.image, self.camera_info, self.detections]


def choose_topics(bag: Bag, image: str | None, camera_info: str | None, detections: str | None) -> Topics:
    """Choose the topics of a bag; None: the one topic of a fitting type that holds messages.

    Raises:
        VPOGError: no topic fits, or several do; a topic that was given is not there or of another type.
    """
    image = _chosen(bag, image, IMAGE_TYPES, "image", "--image")
    if camera_info is None:
        # A camera publishes its image and camera_info in the same namespace, as image_transport expects.
        folder = image.removesuffix("/compressed").rpartition("/")[0]
        beside = f"{folder}/camera_info"
        camera_info = beside if bag.types.get(beside) in CAMERA_TYPES and bag.counts[beside] else None
    return Topics(
        image,
        _chosen(bag, camera_info, CAMERA_TYPES, "camera calibration", "--camera-info"),
        _chosen(bag, detections, DETECTION_TYPES, "detection", "--detections"),
    )


def _chosen(bag: Bag, given: str | None, types: tuple[str, ...], what: str, option: str) -> str:
    fitting = sorted(topic for topic, kind in bag.types.items() if kind in types and bag.counts[topic])
    wanted = " or ".join(types)
    if given is not None:
        if given in fitting:
            return given
        state = "is not in" if given not in bag.types else "holds no message in"
        if given in bag.types and bag.types[given] not in types:
            state = f"is {bag.types[given]}, not {wanted}, in"
        raise VPOGError(f"The topic '{given}' {state} the bag '{bag.path}': {_remedy(bag, fitting, option)}.")
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise VPOGError(f"The bag '{bag.path}' holds no {what} ({wanted}): {_remedy(bag, fitting, option)}.")
    raise VPOGError(
        f"The bag '{bag.path}' holds {len(fitting)} topics that fit ({', '.join(fitting)}): "
        f"choose one with {option}."
    )


def _remedy(bag: Bag, fitting: list[str], option: str) -> str:
    if fitting:
        return f"give {option} {' or '.join(fitting)}"
    held = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(bag.types.items()))
    return f"record it as well; the bag has {held or 'no topics'}"
