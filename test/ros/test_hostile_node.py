"""Thousands of hostile messages to the real node in a process of its own; then a frame that it must answer.

VPOG_HOSTILE_MESSAGES says how many: ten thousand are worth it where conversions or checks change.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
import pytest

pytest.importorskip("rclpy")

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vpog_ros.msg import Instance2DArray

from vpog_core.geometry.se3 import rotation_angle
from vpog_core.types import Detection
from vpog_ros.conversions import pose_from_message

from .hostile import camera_infos, good_detections, good_image, good_info, images, instance_arrays

MESSAGES = int(os.environ.get("VPOG_HOSTILE_MESSAGES", "300"))
KEEP_UP = 20
"""Frames after which the node is waited for: it takes the newest, and would drop what comes too fast."""
WAIT_S = 60.0

# See test_node: a wrong convention is far outside.
ROTATION_TOLERANCE_DEG = 15.0
TRANSLATION_TOLERANCE_DIAMETERS = 0.10
GROWTH_MIB = 60
"""Encoded templates of the object are kept, up to some 20 MiB, and allocators keep pages; an image that is
held for every tenth message is more."""


@dataclass
class Storm:
    """What was sent, and the node's memory once it has seen a quarter of it."""

    sent: int = 0
    memory_mib: list[float] = field(default_factory=list)


@pytest.fixture(scope="module")
def node(start_node, client, carton_dir, carton_cache):
    node = start_node(
        objects_dir=carton_dir, cache_dir=carton_cache, device="cpu", diagnostics_period=0.2, max_detections=2
    )
    client.bring_to("active")
    client.shake_hands()
    return node


def check_pose(client, scene, carton) -> None:
    """Send a frame of one unoccluded object, and compare its pose with the truth."""
    frame = scene.render(0.0)
    stamp = client.send(frame.image, scene.camera, [Detection("carton", frame.boxes_visible[0], 0.9)])
    (pose,) = client.answer(stamp, WAIT_S).poses
    T, T_true = pose_from_message(pose.pose.pose), frame.T_cam_obj[0]
    assert np.rad2deg(rotation_angle(T[:3, :3], T_true[:3, :3])) < ROTATION_TOLERANCE_DEG
    assert np.linalg.norm(T[:3, 3] - T_true[:3, 3]) < TRANSLATION_TOLERANCE_DIAMETERS * carton.diameter


@st.composite
def frames(draw) -> tuple:
    """Image, calibration and detections, one of them hostile, under one stamp or under any."""
    image, info, detections = good_image(), good_info(), Instance2DArray()
    hostile = draw(st.sampled_from(["image", "info", "detections"]))
    if hostile == "image":
        image = draw(images().filter(lambda message: isinstance(message, Image)))
        detections = good_detections()
    elif hostile == "info":
        info = draw(camera_infos())
    else:
        detections = draw(instance_arrays())
        if draw(st.integers(0, 9)) == 0:
            detections.instances = (detections.instances or good_detections().instances) * 1000
            del detections.instances[1000:]
    return image, info, detections, draw(st.booleans()) and draw(st.booleans())


def publish(client, image, info, detections, stamped: bool) -> None:
    if not stamped:
        header = Header(frame_id="camera", stamp=client.node.get_clock().now().to_msg())
        image.header = info.header = detections.header = header
    client.camera_info.publish(info)
    client.instances.publish(detections)
    client.image.publish(image)


def test_after_a_storm_of_hostile_messages_a_pose_is_right_and_memory_flat(node, client, scene, carton):
    check_pose(client, scene, carton)
    storm = Storm()
    ready = (client.image, client.camera_info, client.instances)
    assert client.spin_until(lambda: all(p.get_subscription_count() for p in ready), WAIT_S)

    @settings(
        max_examples=MESSAGES // 3, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(frame=frames())
    def send(frame):
        publish(client, *frame)
        storm.sent += 3
        if storm.sent % (3 * KEEP_UP) == 0:
            stamp = client.send(np.zeros((48, 64, 3), np.uint8), good_info(), [])
            client.answer(stamp, WAIT_S)
            storm.memory_mib.append(node.resident_mib())
            for messages in client.received.values():
                messages.clear()

    before = client.diagnosis()
    send()
    after = client.diagnosis()
    counts = [key for key in after if str(after[key]).isdigit()]
    told = {key: int(after[key]) - int(before.get(key, 0)) for key in counts}
    quarter, last = storm.memory_mib[len(storm.memory_mib) // 4], storm.memory_mib[-1]
    print(f"{storm.sent} messages: {told}; MiB after a quarter {quarter:.0f}, at the end {last:.0f}")
    # They were looked at, and not only dropped.
    assert told["failures, frame"] > storm.sent / 3 / 10
    assert last < quarter + GROWTH_MIB
    assert node.process.poll() is None
    assert "Traceback" not in node.log.read_text()
    check_pose(client, scene, carton)
