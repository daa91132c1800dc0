"""Test that messages written to bags without ROS are read by ROS as the node's."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.serialization import deserialize_message
from std_msgs.msg import Header
from vpog_ros.msg import Instance2DArray, ObjectPoseArray

from vpog_core.geometry.se3 import rotation_x, rotation_y, transform
from vpog_core.replay import result_messages as made
from vpog_core.types import Camera, Detection, PoseEstimate
from vpog_ros import conversions
from vpog_ros.image_conversion import rgb_to_image

HEADER = Header(frame_id="camera")
HEADER.stamp.sec, HEADER.stamp.nanosec = 12, 34
HEAD = made.header(12_000_000_034, "camera")


def read(message, theirs):
    """Return the message as ROS reads it, as the type of another one."""
    return deserialize_message(made.serialized(message), type(theirs))


@pytest.fixture
def estimate() -> PoseEstimate:
    T = transform(rotation_y(0.4) @ rotation_x(2.0), [0.1, -0.2, 0.7])
    covariance = np.arange(36, dtype=np.float64).reshape(6, 6)
    return PoseEstimate("mug", 3, T, 0.5, covariance, inliers=40, reprojection_error=1.5)


def test_poses(estimate):
    theirs = ObjectPoseArray(header=HEADER, poses=[conversions.object_pose(estimate)])
    assert read(made.object_pose_array([estimate], HEAD), theirs) == theirs
    theirs = conversions.pose_stamped(estimate, HEADER)
    assert read(made.pose_stamped(estimate, HEAD), theirs) == theirs


def test_frames(estimate):
    theirs = conversions.transform_stamped(estimate.T_cam_obj, HEADER, "mug_3")
    (ours,) = made.transforms([estimate], HEAD).transforms
    assert read(ours, theirs) == theirs


def test_images_and_cameras():
    rgb = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    theirs = rgb_to_image(rgb, HEADER)
    assert read(made.image(rgb, HEAD), theirs) == theirs
    camera = Camera(np.array([[90.0, 0, 2], [0, 90, 1.5], [0, 0, 1]]), 5, 4, [0.1, 0, 0, 0, 0])
    theirs = conversions.camera_to_info(camera, HEADER)
    assert read(made.camera_info(camera, HEAD), theirs) == theirs


def test_detections():
    detection = Detection("mug", np.array([3.2, 4, 20, 30.5]), 0.75, None, 2)
    theirs = Instance2DArray(
        header=HEADER, instances=[conversions.instance_from_detection(detection, HEADER)]
    )
    assert read(made.instance_array([detection], HEAD), theirs) == theirs
