"""Import message packages where they are installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from vpog_core.messages.detection_inputs import DETECTION_INPUTS

try:
    import tf2_ros
except ImportError:
    tf2_ros = None

try:
    from rclpy.action import ActionServer, CancelResponse, GoalResponse
except ImportError:
    ActionServer = CancelResponse = GoalResponse = None


def message_class(type_name: str) -> Any:
    """Return the class of a message, such as "sensor_msgs/msg/Image"; None where it is not installed."""
    package, _, name = type_name.split("/")
    try:
        return getattr(import_module(f"{package}.msg"), name, None)
    except ImportError:
        return None


TFMessage = message_class("tf2_msgs/msg/TFMessage")
Detection3D = message_class("vision_msgs/msg/Detection3D")
Detection3DArray = message_class("vision_msgs/msg/Detection3DArray")
ObjectHypothesisWithPose = message_class("vision_msgs/msg/ObjectHypothesisWithPose")
BondStatus = message_class("bond/msg/Status")
CollisionObject = message_class("moveit_msgs/msg/CollisionObject")
ShapeMesh = message_class("shape_msgs/msg/Mesh")
MeshTriangle = message_class("shape_msgs/msg/MeshTriangle")
# An older vision_msgs may lack this message.
LabelInfo = message_class("vision_msgs/msg/LabelInfo")

DETECTION_CLASSES = {
    name: kind for name, row in DETECTION_INPUTS.items() if (kind := message_class(row.type)) is not None
}
"""Classes of the detection messages that are installed, by the names of their topics."""


def missing_features() -> list[str]:
    """Return a sentence for each feature that is off because its package is not installed."""
    sentences = []
    if TFMessage is None:
        sentences.append("tf2_msgs is not installed: object frames are not broadcast on /tf.")
    if tf2_ros is None:
        sentences.append(
            "tf2_ros is not installed: the parameters target_frame and plane_frame cannot be used."
        )
    if Detection3DArray is None:
        sentences.append("vision_msgs is not installed: the topic ~/detections_3d is off.")
    if CollisionObject is None:
        sentences.append("moveit_msgs is not installed: publish_collision_objects cannot be used.")
    for name, row in DETECTION_INPUTS.items():
        if name not in DETECTION_CLASSES:
            package = row.type.partition("/")[0]
            sentences.append(
                f"{package} is not installed: the topic {name} is off; use the topic instances instead."
            )
    if BondStatus is None:
        sentences.append(
            "bond is not installed: nav2's lifecycle manager takes this node with bond_timeout: 0.0 only."
        )
    if ActionServer is None:
        sentences.append("rclpy.action is not installed: the action ~/estimate is off; use ~/estimate_once.")
    return sentences
