"""Test the Fast DDS profile: small messages that are sent with images arrive before the next image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image

from vpog_ros.dds_profile import profile_environment

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"
SENDER = Path(__file__).parent / "image_sender.py"
COUNT = 60


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "FASTDDS_DEFAULT_PROFILES_FILE"),
        ({"ROS_DISTRO": "kilted"}, "FASTDDS_DEFAULT_PROFILES_FILE"),
        ({"ROS_DISTRO": "jazzy"}, "FASTRTPS_DEFAULT_PROFILES_FILE"),
    ],
)
def test_each_distribution_reads_its_variable(environment, name):
    assert profile_environment(CONFIG, environment) == {name: str(CONFIG / "fastdds.xml")}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FASTDDS_DEFAULT_PROFILES_FILE", "/own.xml"),
        ("FASTRTPS_DEFAULT_PROFILES_FILE", "/own.xml"),
        ("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4"),
    ],
)
def test_what_the_user_has_chosen_stays(name, value):
    assert profile_environment(CONFIG, {name: value}) == {}


@pytest.fixture
def listener():
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("image_listener", context=context)
    yield node
    node.destroy_node()
    context.shutdown()


def test_small_messages_come_before_the_next_image(listener):
    order: list[tuple[str, int]] = []
    for name, kind in (("camera_info", CameraInfo), ("image", Image)):
        listener.create_subscription(
            kind, name, lambda m, name=name: order.append((name, m.header.stamp.nanosec)), 5
        )
    sender = subprocess.Popen([sys.executable, str(SENDER), str(COUNT)])
    executor = SingleThreadedExecutor(context=listener.context)
    executor.add_node(listener)
    while sender.poll() is None:
        executor.spin_once(timeout_sec=0.1)
    assert sender.returncode == 0
    place = {key: n for n, key in enumerate(order)}
    assert len(place) == 2 * COUNT
    late = [n for n in range(COUNT - 1) if place["camera_info", n] > place["image", n + 1]]
    assert late == []
