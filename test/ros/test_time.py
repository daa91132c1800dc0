"""Test the node's use of time: nearly equal stamps, old images, poses at the newest image, simulated time.

The real node in this process, over DDS; its estimator reads the pose from the image, as it is told to.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vpog_ros.msg import ObjectPoseArray

from vpog_core.geometry.se3 import transform
from vpog_core.messages.reading import stamp_to_ns
from vpog_core.objects.library import ObjectLibrary
from vpog_core.types import Estimates, PoseEstimate

from .camera_here import MUG, CameraHere
from .node_here import NodeHere


def image_of(x_mm: int) -> np.ndarray:
    """Return an image that tells where the object is."""
    return np.full((48, 64, 3), x_mm, np.uint8)


class Reader:
    """Reads x, millimetres, from the image; slow where an object is detected."""

    device, left_out, can_track = "cpu", {}, True
    objects = SimpleNamespace(left_out={}, is_open=lambda object_id: True)

    def __init__(self, library: ObjectLibrary) -> None:
        self.library, self.object_ids = library, list(library.ids)
        self.detect_s = 0.0
        self.more: dict = {}

    def estimate(self, image, camera, detections, priors=None, constraints=None) -> Estimates:
        priors = priors or [None] * len(detections)
        if any(prior is None or prior.detected for prior in priors):
            time.sleep(self.detect_s)
        T = transform(np.eye(3), [image[0, 0, 0] * 1e-3, 0.0, 0.5])
        return Estimates(
            PoseEstimate(d.class_id, d.instance, T, 0.9, np.eye(6) * 1e-6, tracked=p is not None, **self.more)
            for d, p in zip(detections, priors, strict=True)
        )


class Rig(NodeHere):
    """Holds the active node, a camera, a detector, and the node's results and log."""

    def __init__(self, library: ObjectLibrary, **parameters) -> None:
        super().__init__(Reader(library), "timed", **{"diagnostics_period": 0.1, **parameters})
        self.activate()
        self.camera = CameraHere(self)
        self.clock = self.peer.create_publisher(Clock, "/clock", 10)
        self.answers = self.listen(ObjectPoseArray, "/timed/poses")
        self.told = self.listen(DiagnosticArray, "/diagnostics")
        assert self.spin_until(lambda: self.node.count_subscribers("/timed/poses"))

    def send(
        self, stamp_ns: int, x_mm: int = 0, detector_ns: int | None = None, detected: bool = True
    ) -> None:
        """Send an image, and what the detector says of it, under a stamp of its own where one is given."""
        detector = _header(stamp_ns if detector_ns is None else detector_ns) if detected else None
        self.camera.send(_header(stamp_ns), image_of(x_mm), detector)

    def detect(self, stamp_ns: int) -> None:
        """Send the detection of an image that was sent before."""
        self.camera.detect(_header(stamp_ns))

    def told_values(self) -> dict[str, str]:
        status = self.told[-1].status[0]
        return {item.key: item.value for item in status.values} | {"message": status.message}

    def stamps(self) -> list[int]:
        """Return the stamps of the results that hold a pose."""
        return [stamp_to_ns(m.header.stamp) for m in self.answers if m.poses]


def _header(stamp_ns: int) -> Header:
    return Header(frame_id="camera", stamp=_time(stamp_ns))


def _time(ns: int) -> Time:
    return Time(sec=ns // 10**9, nanosec=ns % 10**9)


@pytest.fixture
def start(mug_library):
    with ExitStack() as rigs:
        yield lambda **parameters: rigs.enter_context(closing(Rig(mug_library, **parameters)))


def now_ns() -> int:
    return time.time_ns()


def test_a_detector_that_stamps_anew_meets_the_nearest_image(start):
    rig = start(stamp_tolerance=0.04)
    stamp = now_ns()
    rig.send(stamp, 10, stamp + 30_000_000)
    assert rig.spin_until(rig.stamps)
    assert rig.stamps() == [stamp]
    assert rig.spin_until(
        lambda: rig.told and rig.told_values().get("frames matched by stamp_tolerance") == "1"
    )
    rig.send(stamp + 100_000_000, 20, stamp + 150_000_000)
    rig.spin_for(0.3)
    assert rig.stamps() == [stamp]


def test_old_images_are_dropped_counted_and_told_of(start):
    rig = start(max_age=0.5)
    old, new = now_ns() - 2_000_000_000, now_ns()
    rig.send(old)
    assert rig.spin_until(
        lambda: rig.told and rig.told_values().get("frames dropped, older than max_age") == "1"
    )
    assert rig.spin_until(lambda: "over max_age (0.5 s), and are dropped" in rig.told_values()["message"])
    rig.send(new)
    assert rig.spin_until(rig.stamps)
    assert rig.stamps() == [new]
    assert rig.spin_until(lambda: "max_age" not in rig.told_values()["message"])


@pytest.mark.parametrize("newest", [True, False])
def test_a_slow_answer_is_carried_to_the_newest_image(start, newest):
    rig = start(publish_at_newest=newest, tracking_without_detections=False)
    rig.estimator.detect_s = 0.4
    first, x_mm = now_ns(), list(range(10, 60, 10))
    rig.send(first, x_mm[0])
    rig.spin_for(0.2)
    for n in range(1, 5):  # While the node is at work.
        rig.send(first + n * 10_000_000, x_mm[n], detected=False)
    assert rig.spin_until(rig.stamps)
    (pose,) = rig.answers[-1].poses
    expected = 4 if newest else 0
    assert rig.stamps() == [first + expected * 10_000_000]
    assert pose.pose.pose.position.x == pytest.approx(x_mm[expected] * 1e-3)
    assert pose.detected is not newest
    assert pose.detection_age == pytest.approx(expected * 0.01, abs=1e-4)


def test_an_answer_that_nothing_can_carry_is_published_as_it_is(start):
    rig = start(publish_at_newest=True, tracking=False)
    stamp = now_ns()
    rig.send(stamp + 10_000_000, detected=False)
    rig.send(stamp)
    assert rig.spin_until(rig.stamps)
    assert rig.stamps() == [stamp]


@pytest.mark.parametrize("late", [4, 8])
def test_poses_do_not_go_back_in_time_with_a_slow_detector(start, late):
    """The detector takes its next image once it has sent the detections of the last one.

    Eight images later is more than `tracking_max_gap`: the object is tracked on all the same.
    """
    rig = start(tracking_detector_timeout=0.1, tracking_max_gap=0.5)
    first, step = now_ns(), 100_000_000
    for n in range(3 * late + 4):
        rig.send(first + n * step, n, detected=False)
        if n >= late and n % late == 0:
            rig.detect(first + (n - late) * step)
        rig.spin_for(0.1)
    assert rig.spin_until(lambda: "tracked on to the next image" in str(rig.told_values()))
    stamps = rig.stamps()
    assert len(stamps) > late
    assert stamps == sorted(stamps)
    # One object all along: found once, at the place that its image shows, and tracked from then on.
    poses = [message.poses[0] for message in rig.answers if message.poses]
    assert [pose.tracked for pose in poses] == [False] + [True] * (len(poses) - 1)
    assert {pose.instance for pose in poses} == {0}
    shown = [(stamp - first) // step * 1e-3 for stamp in stamps]
    np.testing.assert_allclose([pose.pose.pose.position.x for pose in poses], shown, atol=1e-6)


def test_a_slow_detector_has_its_poses_where_nothing_is_tracked_without_detections(start):
    rig = start(tracking_without_detections=False)
    first, step = now_ns(), 100_000_000
    for n in range(6):
        rig.send(first + n * step, n, detected=False)
    for n in (5, 2):
        rig.detect(first + n * step)
        assert rig.spin_until(lambda n=n: first + n * step in rig.stamps())


def test_a_bag_in_a_loop_ten_times_as_fast_with_simulated_time(start):
    """Each second of the bag takes a tenth of one; then it begins again."""
    rig = start(use_sim_time=True, max_age=1.5, publish_at_newest=True, pose_filter=True)
    loops = []
    for _ in range(2):
        before = len(rig.answers)
        for n in range(10):
            stamp = (100 + n) * 10**8
            rig.clock.publish(Clock(clock=_time(stamp)))
            rig.spin_for(0.005)
            rig.send(stamp, n)
            rig.spin_for(0.005)
        assert rig.spin_until(lambda before=before: 10_900_000_000 in _stamps(rig.answers[before:]))
        rig.spin_for(0.1)
        loops.append(_stamps(rig.answers[before:]))
    for stamps in loops:
        assert stamps == sorted(stamps)
        assert stamps[0] < 10_500_000_000
    assert rig.spin_until(lambda: rig.told and "frames dropped" in str(rig.told_values()))
    assert "frames dropped, older than max_age" not in rig.told_values()
    # Ages are those of the bag's clock, and not of this machine's, which is years later.
    assert float(rig.told_values()["latency from image stamp p95 [ms]"]) < 1500


def _stamps(messages) -> list[int]:
    return [stamp_to_ns(message.header.stamp) for message in messages]


def test_filtered_poses_leave_a_single_jump_out(start):
    rig = start(pose_filter=True)
    stamp, found = now_ns(), []
    for n, x_mm in enumerate([10, 10, 10, 10, 200, 10, 200, 200]):
        rig.send(stamp + n * 33_000_000, x_mm)
        assert rig.spin_until(lambda n=n: len(rig.answers) == n + 1)
        found.append(rig.answers[-1].poses[0].pose.pose.position.x)
    np.testing.assert_allclose(found, [0.01] * 7 + [0.2], atol=1e-3)


def test_without_the_filter_poses_are_as_they_were_found(start):
    rig = start()
    stamp = now_ns()
    for n, x_mm in enumerate([10, 200]):
        rig.send(stamp + n * 33_000_000, x_mm)
        assert rig.spin_until(lambda n=n: len(rig.answers) == n + 1)
    assert rig.answers[-1].poses[0].pose.pose.position.x == pytest.approx(0.2)


def test_alternatives_and_samples_have_topics_of_their_own(start):
    rig = start()
    T = transform(np.eye(3), [0.0, 0.0, 0.7])
    rig.estimator.more = {"alternatives": [PoseEstimate("mug", 0, T, 0.3)], "samples": np.stack([T] * 5)}
    stamp, topics = now_ns(), [f"/timed/objects/mug/{kind}" for kind in ("alternatives", "samples")]
    rig.send(stamp)
    assert rig.spin_until(rig.stamps)
    came = [rig.listen(PoseArray, topic) for topic in topics]
    assert rig.spin_until(lambda: all(rig.node.count_subscribers(topic) for topic in topics))

    def answered() -> bool:
        rig.send(stamp + 10**7 * (1 + len(rig.answers)))
        rig.spin_for(0.1)
        return all(came)

    assert rig.spin_until(answered)
    assert [len(messages[0].poses) for messages in came] == [1, 5]
    assert came[0][0].header.frame_id == "camera"
    assert came[0][0].poses[0].position.z == 0.7


def test_objects_that_are_renumbered_keep_their_numbers(start):
    rig = start()
    stamp = now_ns()
    header = _header(stamp)
    for n, given in enumerate([3, 4, -1, 3]):
        header = _header(stamp + n * 33_000_000)
        rig.camera.send(header, image_of(10), header, replace(MUG, instance=given))
        assert rig.spin_until(lambda n=n: len(rig.answers) == n + 1)
    assert [pose.instance for answer in rig.answers for pose in answer.poses] == [3] * 4


def test_a_label_map_is_looked_at_as_detections_are(start):
    rig = start(label_names="3: mug")
    label_map = rig.peer.create_publisher(Image, "label_map", 10)
    assert rig.spin_until(label_map.get_subscription_count)
    stamp = now_ns()
    labels = np.zeros((48, 64), np.uint8)
    labels[15:35, 20:45] = 3
    message = Image(header=_header(stamp), height=48, width=64, encoding="mono8", step=64)
    message.data = labels.tobytes()
    rig.send(stamp, 10, detected=False)
    label_map.publish(message)
    assert rig.spin_until(rig.stamps)
    assert rig.answers[-1].poses[0].class_id == "mug"
