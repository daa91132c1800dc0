"""Send the real node more than it can process: hostile messages, and frames at 30 Hz.

Each is short; VPOG_HOSTILE_MESSAGES=10000 and VPOG_LOAD_SECONDS=120 are worth it where the node's loop,
conversions or checks change. Latency, memory and the fraction of the CPU are printed; what is checked is the
same on any machine.
"""

from __future__ import annotations

import os
import time
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
from vpog_core.messages.reading import stamp_to_ns
from vpog_core.synthetic.scene import make_scene
from vpog_core.types import Detection
from vpog_ros.conversions import pose_from_message
from vpog_ros.parameters import Settings

from .hostile import camera_infos, good_detections, good_image, good_info, images, instance_arrays

MESSAGES = int(os.environ.get("VPOG_HOSTILE_MESSAGES", "300"))
KEEP_UP = 20
"""Frames after which the node is waited for: it takes the newest, and would drop what comes too fast."""
WAIT_S = 120.0
SECONDS = float(os.environ.get("VPOG_LOAD_SECONDS", "5"))
RATE_HZ = 30
OBJECTS = 4
FRAMES = 24
"""Images that are sent in turn, there and back; objects move between two as a camera of that rate sees it."""
COUNTED = "images received", "frames matched", "images without detections", "frames dropped, node busy"
MAX_DETECTIONS = Settings().max_detections

# See test_node: a wrong convention is far outside.
ROTATION_TOLERANCE_DEG = 15.0
TRANSLATION_TOLERANCE_DIAMETERS = 0.10
GROWTH_MIB = 80
"""Encoded templates of an object are kept, up to some 20 MiB, and allocators keep pages. Frames at 30 Hz that
are held are 27 MiB a second."""


@dataclass
class Storm:
    """Holds the number of messages sent, and samples of the node's memory, MiB."""

    sent: int = 0
    memory_mib: list[float] = field(default_factory=list)


@pytest.fixture(scope="module")
def node(start_node, client, carton_dir, carton_cache):
    node = start_node(
        objects_dir=carton_dir,
        cache_dir=carton_cache,
        device="cpu",
        diagnostics_period=0.2,
        autostart="false",
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
    """Draw image, calibration and detections, one of them hostile, under one stamp or under any."""
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
    # Of a thousand detections that are none, two cost enough.
    assert client.set_parameter("max_detections", 2) == (True, "")
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
    half, last = storm.memory_mib[len(storm.memory_mib) // 2], storm.memory_mib[-1]
    print(f"{storm.sent} messages: {told}; MiB after half of them {half:.0f}, at the end {last:.0f}")
    # They were processed, and not only dropped: 20 to 33 frames of 100, of which 5 to 16 failed, in ten runs.
    assert told["frames matched"] > storm.sent / 3 / 10
    assert told["failures, frame"] > 0
    assert last < half + GROWTH_MIB
    assert node.process.poll() is None
    assert "Traceback" not in node.log.read_text()
    check_pose(client, scene, carton)
    assert client.set_parameter("max_detections", MAX_DETECTIONS) == (True, "")


@pytest.fixture(scope="module")
def load(carton):
    """Return images of a scene with four objects, and their detections."""
    scene = make_scene(12, [carton] * OBJECTS, distractors=0)
    made = []
    for n in range(FRAMES):
        frame = scene.render(n / RATE_HZ)
        boxes = enumerate(frame.boxes_visible)
        made.append((frame.image, scene.camera, [Detection("carton", b, 0.9, instance=k) for k, b in boxes]))
    return made + made[-2:0:-1]


def test_under_load_frames_are_answered_or_counted_and_memory_is_flat(node, client, load):
    client.answer(client.send(*load[0]), WAIT_S)
    before, cpu, begin = client.diagnosis(), node.cpu_seconds(), time.monotonic()
    client.received["poses"].clear()
    latencies, memory, sent, seen = [], [], 0, 0
    while (now := time.monotonic() - begin) < SECONDS or (not latencies and now < WAIT_S):
        if sent < now * RATE_HZ:
            client.send(*load[sent % len(load)])
            sent += 1
        client.executor.spin_once(timeout_sec=max(0.0, sent / RATE_HZ - (time.monotonic() - begin)))
        for message in client.received["poses"][seen:]:
            latencies.append(time.time() - stamp_to_ns(message.header.stamp) * 1e-9)
            memory.append(node.resident_mib())
            seen += 1
    seconds = time.monotonic() - begin
    fraction = (node.cpu_seconds() - cpu) / seconds
    counts: dict[str, int] = {}

    def all_answered() -> bool:
        after = client.diagnosis()
        counts.update({key: int(after[key]) - int(before[key]) for key in COUNTED})
        begun = counts["frames matched"] + counts["images without detections"]
        return begun == len(client.received["poses"]) + counts["frames dropped, node busy"]

    # Every frame is answered, or counted as dropped.
    is_accounted_for = client.spin_until(all_answered, WAIT_S)
    answers = len(client.received["poses"])
    p50, p95 = np.percentile(latencies, [50, 95]) * 1e3
    print(
        f"{sent} frames of {OBJECTS} detections at {sent / seconds:.1f} Hz, {answers} answers, {counts}; "
        f"latency median {p50:.0f} ms, p95 {p95:.0f} ms; {fraction:.2f} CPU cores of {os.cpu_count()}; "
        f"MiB {memory[len(memory) // 3]:.0f} after a third, {memory[-1]:.0f} at the end"
    )
    assert is_accounted_for, counts
    assert memory[-1] < memory[len(memory) // 3] + GROWTH_MIB
    assert "Traceback" not in node.log.read_text()
