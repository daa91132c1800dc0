"""Test poses in another frame, with a stand-in for the Buffer of tf2_ros, which may not be installed."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rclpy.clock import ROSClock
from rclpy.time import Time
from std_msgs.msg import Header

from vpog_core.geometry.se3 import rotation_z, transform
from vpog_core.types import PoseEstimate, VPOGError
from vpog_ros import optional
from vpog_ros.frame_lookup import Transforms
from vpog_ros.target_frame import TargetFrame

from .tf2_stand_in import T_MAP_CAM, TF2

HEADER = Header(frame_id="camera")
HEADER.stamp.sec = 12


def node(clock: ROSClock | None = None) -> SimpleNamespace:
    """Stand in for a node with a clock."""
    clock = clock or ROSClock()
    return SimpleNamespace(get_clock=lambda: clock)


@pytest.fixture
def tf2(monkeypatch):
    monkeypatch.setattr(optional, "tf2_ros", TF2)


@pytest.fixture
def estimate() -> PoseEstimate:
    T = transform(rotation_z(0.4), [0.1, -0.2, 0.7])
    covariance = np.diag([1.0, 4.0, 9.0, 0.1, 0.2, 0.3])
    return PoseEstimate("mug", 0, T, 0.9, covariance, samples=np.stack([T, T]))


def test_poses_and_their_covariance_are_turned(tf2, estimate):
    estimate.alternatives = [replace(estimate)]
    frame = TargetFrame(Transforms(node()), "map")
    (found,), header = frame.of([estimate], HEADER, 0.1)
    assert (header.frame_id, header.stamp) == ("map", HEADER.stamp)
    for T in (found.T_cam_obj, *found.samples, found.alternatives[0].T_cam_obj):
        np.testing.assert_allclose(T, T_MAP_CAM @ estimate.T_cam_obj, atol=1e-12)
    # Along the camera's axes, wherever they point in the map, it is as sure as before.
    for n, axis in enumerate(T_MAP_CAM[:3, :3].T):
        assert axis @ found.covariance[:3, :3] @ axis == pytest.approx(estimate.covariance[n, n])
        assert axis @ found.covariance[3:, 3:] @ axis == pytest.approx(estimate.covariance[n + 3, n + 3])


@pytest.mark.parametrize(
    ("target", "second", "why"),
    [
        ("odom", 12, '"odom" passed to lookupTransform does not exist.'),
        ("map", 9, "extrapolation into the past"),
    ],
)
def test_a_frame_that_is_not_there_is_one_sentence(tf2, estimate, target, second, why):
    header = Header(frame_id="camera")
    header.stamp.sec = second
    frame, sentence = (
        TargetFrame(Transforms(node()), target),
        f"No transform from 'camera' to '{target}'.*{why}",
    )
    with pytest.raises(VPOGError, match=sentence):
        frame.of([estimate], header, 0.1)
    # A request may wait for it.
    assert re.match(sentence, frame.trouble(header))
    assert TargetFrame(Transforms(node()), "map").trouble(HEADER) == ""


def test_images_without_a_frame_are_named(tf2, estimate):
    with pytest.raises(VPOGError, match="the images have no frame_id"):
        TargetFrame(Transforms(node()), "map").of([estimate], Header(), 0.1)
    # To wait for it is of no use.
    assert TargetFrame(Transforms(node()), "map").trouble(Header()) == ""


@pytest.mark.parametrize("frame", ["", "camera"])
def test_the_camera_s_own_frame_needs_no_transform(tf2, estimate, frame):
    assert TargetFrame(Transforms(node()), frame).of([estimate], HEADER, 0.1) == ([estimate], HEADER)


def test_one_listener_serves_all_lookups_until_it_is_ended(monkeypatch):
    listening: list[Listener] = []

    class Listener:
        def __init__(self, buffer, node, spin_thread) -> None:
            listening.append(self)

        def unregister(self) -> None:
            listening.remove(self)

    monkeypatch.setattr(optional, "tf2_ros", SimpleNamespace(**vars(TF2) | {"TransformListener": Listener}))
    transforms = Transforms(node())
    TargetFrame(transforms, "")
    assert listening == []
    for frame in ("map", "odom"):
        TargetFrame(transforms, frame)
    assert len(listening) == 1
    transforms.destroy()
    assert listening == []


def test_a_clock_that_jumps_back_drops_the_transforms(monkeypatch):
    cleared: list[float] = []

    class Buffer(TF2.Buffer):
        def clear(self) -> None:
            cleared.append(clock.now().nanoseconds * 1e-9)

    monkeypatch.setattr(optional, "tf2_ros", SimpleNamespace(**vars(TF2) | {"Buffer": Buffer}))
    clock = ROSClock()
    clock._set_ros_time_is_active(True)
    transforms = Transforms(node(clock))
    TargetFrame(transforms, "map")
    for second in (5, 6, 100, 2, 3):
        clock.set_ros_time_override(Time(seconds=second, clock_type=clock.clock_type))
    assert cleared == [2.0]
    transforms.destroy()
    clock.set_ros_time_override(Time(seconds=1, clock_type=clock.clock_type))
    assert cleared == [2.0]


def test_without_tf2_a_target_frame_is_refused(monkeypatch):
    monkeypatch.setattr(optional, "tf2_ros", None)
    TargetFrame(Transforms(node()), "")
    with pytest.raises(VPOGError, match="target_frame is 'map' and tf2_ros is not installed"):
        TargetFrame(Transforms(node()), "map")
