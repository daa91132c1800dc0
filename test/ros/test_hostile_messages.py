"""Test hostile messages with the node's own conversions and the whole estimator.

Whatever comes, a frame is answered or refused by one sentence, and no pose is published that is none.
"""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CameraInfo

from vpog_core.inference.estimator import PoseEstimator
from vpog_core.types import VPOGError
from vpog_ros.diagnostics import Statistics
from vpog_ros.frame_processor import FrameProcessor
from vpog_ros.inputs.frame_buffer import Frame, FrameBuffer
from vpog_ros.notices import Notices
from vpog_ros.transitions import SUCCESS
from vpog_ros.vpog_node import VpogNode

from .hostile import (
    camera_infos,
    floats,
    good_detections,
    good_image,
    good_info,
    images,
    instance_arrays,
    names,
)

EXAMPLES = int(os.environ.get("VPOG_FUZZ_EXAMPLES", "50"))
"""Examples of each kind; a change of conversions or checks is worth some thousands."""


@pytest.fixture(scope="module")
def node(untrained):
    """Yield a node in this process, configured, with a small untrained network."""

    def estimator(chosen, progress) -> PoseEstimator:
        made = PoseEstimator(
            untrained.objects_dir, untrained.weights, device="cpu", cache_dir=untrained.cache_dir
        )
        made.onboard()
        return made

    context = rclpy.Context()
    rclpy.init(context=context)
    made = VpogNode(estimator, "hostile_node", context=context)
    assert made.trigger_configure() == SUCCESS
    yield made
    made.destroy_node()
    context.try_shutdown()


class Sink:
    """Stands where the publishers are, and remembers the poses."""

    def __init__(self) -> None:
        self.estimates: list = []

    def publish_poses(self, estimates, header, chosen) -> None:
        self.estimates += estimates

    def publish_images(self, *_) -> None:
        pass


@pytest.fixture
def process(node):
    """Sends a frame the whole way; returns the sentence it is refused by, or "", and the poses."""

    def process(image, info: CameraInfo, detections) -> tuple[str, list]:
        sink, notices = Sink(), Notices(node.get_logger())
        processor = FrameProcessor(
            node, node._estimator, sink, Statistics(), notices, FrameBuffer(), node._known_plane
        )
        stamp_ns = image.header.stamp.sec * 1_000_000_000 + image.header.stamp.nanosec
        processor.views.camera_infos.add(info)
        try:
            processor.process(Frame(stamp_ns, image, detections))
        except VPOGError as error:
            return str(error), []
        return "", sink.estimates

    return process


@st.composite
def vision_arrays(draw):
    """Draw what looks like a vision_msgs/Detection2DArray; the package may be missing."""
    detections = []
    for _ in range(draw(st.integers(0, 4))):
        results = [
            SimpleNamespace(hypothesis=SimpleNamespace(class_id=draw(names), score=draw(floats)))
            for _ in range(draw(st.integers(0, 3)))
        ]
        position = SimpleNamespace(x=draw(floats), y=draw(floats))
        centre = SimpleNamespace(position=position, theta=draw(floats))
        bbox = SimpleNamespace(center=centre, size_x=draw(floats), size_y=draw(floats))
        word = draw(st.one_of(st.sampled_from(["", "-1", "0", "7" * 5000, "²"]), st.text(max_size=5)))
        detections.append(SimpleNamespace(results=results, id=word, bbox=bbox))
    return SimpleNamespace(__msgtype__="vision_msgs/msg/Detection2DArray", detections=detections)


def is_sound(sentence: str, poses: list) -> bool:
    """Tell whether a result is one sentence, or poses that are poses."""
    if sentence:
        return sentence[0].isupper() and "\n" not in sentence.strip() and len(sentence) < 1000
    matrices = [pose.T_cam_obj for pose in poses]
    numbers = {(pose.class_id, pose.instance) for pose in poses}
    turned = all(np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-6) for T in matrices)
    return len(numbers) == len(poses) and turned and all(np.isfinite(T).all() for T in matrices)


fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def test_a_good_frame_goes_the_whole_way(process):
    sentence, _ = process(good_image(), good_info(), good_detections())
    assert sentence == ""


@fuzz
@given(info=camera_infos())
def test_any_camera_info(process, info):
    assert is_sound(*process(good_image(), info, good_detections()))


@fuzz
@given(image=images())
def test_any_image(process, image):
    assert is_sound(*process(image, good_info(), good_detections()))


@fuzz
@given(detections=st.one_of(instance_arrays(), vision_arrays()))
def test_any_detections(process, detections):
    assert is_sound(*process(good_image(), good_info(), detections))
