"""Message packages the node uses where they are installed."""

from __future__ import annotations

try:
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None

try:
    import tf2_ros
except ImportError:
    tf2_ros = None

try:
    from vision_msgs.msg import Detection2DArray, Detection3D, Detection3DArray, ObjectHypothesisWithPose
except ImportError:
    Detection2DArray = Detection3D = Detection3DArray = ObjectHypothesisWithPose = None

try:
    from vision_msgs.msg import LabelInfo
except ImportError:  # Also of a vision_msgs that is older than this message.
    LabelInfo = None

try:
    from yolo_msgs.msg import DetectionArray as YoloDetectionArray
except ImportError:
    YoloDetectionArray = None

try:
    from rclpy.action import ActionServer, CancelResponse
except ImportError:
    ActionServer = CancelResponse = None

DETECTION_INPUTS = {
    name: kind
    for name, kind in (("detections", Detection2DArray), ("yolo_detections", YoloDetectionArray))
    if kind is not None
}
"""Topics of detections in other packages' messages, with their types."""


def what_is_off() -> list[str]:
    """A sentence for each thing that is off because its package is missing."""
    sentences = []
    if TFMessage is None:
        sentences.append("tf2_msgs is not installed: object frames are not broadcast on /tf.")
    if tf2_ros is None:
        sentences.append("tf2_ros is not installed: the parameter target_frame cannot be used.")
    if Detection2DArray is None:
        sentences.append(
            "vision_msgs is not installed: the topic detections and the topic ~/detections_3d are off; "
            "use the topic instances."
        )
    if YoloDetectionArray is None:
        sentences.append("yolo_msgs is not installed: the topic yolo_detections is off.")
    if ActionServer is None:
        sentences.append("rclpy.action is not installed: the action ~/estimate is off; use ~/estimate_once.")
    return sentences
