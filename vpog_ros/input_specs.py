"""List the topics that the node subscribes to."""

from __future__ import annotations

from collections.abc import Callable

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vpog_ros import optional
from vpog_ros.frame_processor import FrameProcessor
from vpog_ros.inputs.subscriptions import InputSpec
from vpog_ros.parameters import Settings

DETECTIONS = {"label_map", *optional.DETECTION_CLASSES}
"""Topics of detections; one of them is needed."""


def input_specs(
    node,
    settings: Settings,
    on_image: Callable,
    on_detections: Callable,
    on_camera_info: Callable,
    processor: FrameProcessor,
) -> list[InputSpec]:
    """Return the topics to subscribe to, with what is called for each of their messages."""
    image, image_type = node.resolve_topic_name("image"), Image
    if settings.image_transport == "compressed":
        # The topic as image_transport names it; a user may have remapped to it already.
        image_type = CompressedImage
        image = image if image.endswith("/compressed") else f"{image}/compressed"

    def spec(name: str, kind: type, on_message: Callable, depth: int = 10, **more) -> InputSpec:
        return InputSpec(name, node.resolve_topic_name(name), kind, on_message, depth, **more)

    specs = [
        spec("camera_info", CameraInfo, on_camera_info, latched=True),
        InputSpec("image", image, image_type, on_image),
    ]
    for name, kind in optional.DETECTION_CLASSES.items():
        specs.append(spec(name, kind, on_detections, reliable=True))
    specs.append(spec("label_map", Image, on_detections, 5, reliable=True, expected=False))
    if optional.LabelInfo is not None:
        info = processor.add_label_info
        specs.append(
            spec("label_info", optional.LabelInfo, info, reliable=True, latched=True, expected=False)
        )
    return specs
