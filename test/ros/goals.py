"""Send goals of the action ~/estimate, and make what their results are compared with."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy.action")

from rclpy.action import ActionClient
from std_msgs.msg import Header
from vpog_ros.action import Estimate
from vpog_ros.srv import ListObjects

from vpog_core.geometry.se3 import rotation_angle
from vpog_core.types import Detection
from vpog_ros.conversions import camera_to_info, instance_from_detection, pose_from_message
from vpog_ros.image_conversion import rgb_to_image

# Of one textured, unoccluded object in its true box: a wrong convention is far outside.
ROTATION_TOLERANCE_DEG = 15.0
ONBOARDING_S = 300.0


class Asker:
    """Sends goals of the action."""

    def __init__(self, client) -> None:
        self.client = client
        self.action = ActionClient(client.node, Estimate, "/vpog_node/estimate")
        assert client.spin_until(self.action.server_is_ready, 20.0), "no action"
        self.stages: list[tuple[str, str]] = []

    def send(self, goal: Estimate.Goal):
        """Send a goal; returns its handle."""
        future = self.action.send_goal_async(goal, self._hear)
        assert self.client.spin_until(future.done, 20.0)
        return future.result()

    def _hear(self, message) -> None:
        self.stages.append((message.feedback.stage, message.feedback.message))

    def result(self, handle, timeout_s: float = ONBOARDING_S):
        """Wait for the end of a goal; returns (status, result)."""
        future = handle.get_result_async()
        assert self.client.spin_until(future.done, timeout_s), "no result"
        return future.result().status, future.result().result

    def ask(self, goal: Estimate.Goal):
        return self.result(self.send(goal))


def goal_of(frame, detections=(), **more) -> Estimate.Goal:
    """Return a goal with the image of a frame inside."""
    shown, camera = frame
    header = Header(frame_id="inside")
    header.stamp.sec = 7
    instances = [instance_from_detection(d, header) for d in detections]
    info = camera_to_info(camera, header)
    return Estimate.Goal(
        image=rgb_to_image(shown.image, header), camera_info=info, instances=instances, **more
    )


def carton(frame, class_id: str = "carton") -> Detection:
    return Detection(class_id, frame[0].boxes_visible[0], 0.9)


def pot(frame) -> Detection:
    return Detection("pot", frame[0].boxes_visible[1], 0.9)


def assert_right(pose, T_gt: np.ndarray) -> None:
    T = pose_from_message(pose.pose.pose)
    assert np.rad2deg(rotation_angle(T[:3, :3], T_gt[:3, :3])) < ROTATION_TOLERANCE_DEG


def activity_of(message) -> str:
    return next(item.value for item in message.status[0].values if item.key == "activity")


def listed(client) -> dict:
    response = client.call(ListObjects, "list_objects", ListObjects.Request())
    return {info.name: info for info in response.objects}
