"""Send images of a small camera, and detections of a mug in them, to a node in this process."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vpog_ros.msg import Instance2DArray

from vpog_core.types import Camera, Detection
from vpog_ros import conversions
from vpog_ros.image_conversion import rgb_to_image

from .node_here import NodeHere

CAMERA = Camera(K=np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]]), width=64, height=48)
MUG = Detection("mug", np.array([20.0, 15.0, 45.0, 35.0]))
BLACK = np.zeros((48, 64, 3), np.uint8)


class CameraHere:
    """Publishes what a camera and its detector publish, from the peer of a node."""

    def __init__(self, node: NodeHere) -> None:
        kinds = {"image": Image, "camera_info": CameraInfo, "instances": Instance2DArray}
        self.publishers = {n: node.peer.create_publisher(kind, n, 10) for n, kind in kinds.items()}
        heard = node.spin_until(lambda: all(p.get_subscription_count() for p in self.publishers.values()))
        assert heard, "the node does not listen"

    def send(
        self,
        header: Header,
        image: np.ndarray = BLACK,
        detector: Header | None = None,
        detection: Detection = MUG,
    ) -> None:
        """Publish an image [48, 64, 3] with its calibration; detector: the header of a detection."""
        self.publishers["camera_info"].publish(conversions.camera_to_info(CAMERA, header))
        self.publishers["image"].publish(rgb_to_image(image, header))
        if detector is not None:
            self.detect(detector, detection)

    def detect(self, header: Header, detection: Detection = MUG) -> None:
        """Publish a detection."""
        instances = [conversions.instance_from_detection(detection, header)]
        self.publishers["instances"].publish(Instance2DArray(header=header, instances=instances))
