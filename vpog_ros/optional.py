"""Message packages the node uses where they are installed."""

from __future__ import annotations

try:
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None

try:
    from vision_msgs.msg import Detection2DArray, Detection3D, Detection3DArray, ObjectHypothesisWithPose
except ImportError:
    Detection2DArray = Detection3D = Detection3DArray = ObjectHypothesisWithPose = None


def what_is_off() -> list[str]:
    """A sentence for each thing that is off because its package is missing."""
    sentences = []
    if TFMessage is None:
        sentences.append("tf2_msgs is not installed: object frames are not broadcast on /tf.")
    if Detection2DArray is None:
        sentences.append(
            "vision_msgs is not installed: the topic detections and the topic ~/detections_3d are off; "
            "use the topic instances."
        )
    return sentences
