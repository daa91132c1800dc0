"""Test subscriptions over real DDS: the QoS that publishers offer, and topics without messages."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vpog_core.types import VPOGError
from vpog_ros import qos
from vpog_ros.inputs import subscriptions
from vpog_ros.inputs.subscriptions import Inputs, InputSpec
from vpog_ros.notices import Notices

DISCOVERY_S = 10.0
"""Two nodes of one process find each other within tens of milliseconds."""

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
NO_OVERRIDES = {"reliability": "auto", "durability": "auto", "history": "keep_last", "depth": 5}


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str) -> None:
        self.lines.append(text)


class Bench:
    """Holds a node that listens, one that publishes, and what was received."""

    def __init__(self, **overrides) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        given = [Parameter(f"qos_overrides./image.subscription.{k}", value=v) for k, v in overrides.items()]
        self.listener = rclpy.create_node("listener", context=self.context, parameter_overrides=given)
        # As in a process of its own: DDS takes a topic with two types only from two participants.
        self.other_context = rclpy.Context()
        rclpy.init(context=self.other_context)
        self.camera = rclpy.create_node("camera", context=self.other_context)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.listener)
        self.came: list = []
        self.notices = Notices(Log())
        self.inputs: Inputs | None = None

    def listen(self, message_type=Image, topic="/image", **more) -> None:
        spec = InputSpec("image", topic, message_type, self.came.append, **more)
        self.inputs = Inputs(self.listener, [spec], MutuallyExclusiveCallbackGroup(), set())

    def publisher(self, profile: QoSProfile, message_type=Image, topic="/image"):
        return self.camera.create_publisher(message_type, topic, profile)

    @property
    def asked(self) -> ReliabilityPolicy:
        return self.inputs._inputs[0].profile.reliability

    def spin_until(self, condition, timeout_s: float = DISCOVERY_S) -> bool:
        """Spin and watch until something is true; returns whether it became so."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.executor.spin_once(timeout_sec=0.02)
            self.inputs.watch(self.notices)
        return True

    def close(self) -> None:
        if self.inputs is not None:
            self.inputs.close()
        self.executor.shutdown()
        for context in (self.context, self.other_context):
            context.try_shutdown()


@pytest.fixture
def bench():
    made = []

    def make(**overrides) -> Bench:
        made.append(Bench(**overrides))
        return made[-1]

    yield make
    for item in made:
        item.close()


@pytest.mark.parametrize(
    ("offered", "asked"),
    [
        ([], ReliabilityPolicy.BEST_EFFORT),
        ([RELIABLE], ReliabilityPolicy.RELIABLE),
        ([BEST_EFFORT], ReliabilityPolicy.BEST_EFFORT),
        ([RELIABLE, BEST_EFFORT], ReliabilityPolicy.BEST_EFFORT),
    ],
)
def test_reliable_is_asked_for_where_every_publisher_offers_it(offered, asked):
    assert qos.chosen_profile(offered, NO_OVERRIDES, reliable=False, latched=False).reliability == asked


def test_latched_is_asked_for_where_it_is_wanted_and_offered():
    def durability(offered: list, latched: bool) -> DurabilityPolicy:
        return qos.chosen_profile(offered, NO_OVERRIDES, reliable=False, latched=latched).durability

    assert durability([LATCHED], latched=True) == DurabilityPolicy.TRANSIENT_LOCAL
    assert durability([LATCHED], latched=False) == DurabilityPolicy.VOLATILE
    assert durability([LATCHED, RELIABLE], latched=True) == DurabilityPolicy.VOLATILE


def test_overrides_go_before_what_is_offered(bench):
    made = bench(reliability="best_effort", durability="transient_local", history="keep_all", depth=3)
    overrides = qos.declare_overrides(made.listener, "/image", 5)
    profile = qos.chosen_profile([RELIABLE], overrides, reliable=True, latched=False)
    assert profile.reliability == ReliabilityPolicy.BEST_EFFORT
    assert profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert profile.history.name == "KEEP_ALL"
    assert overrides["depth"] == 3


@pytest.mark.parametrize(("policy", "value"), [("reliability", "good"), ("depth", 0), ("depth", "many")])
def test_a_bad_override_is_named(bench, policy, value):
    with pytest.raises(VPOGError, match=f"qos_overrides./image.subscription.{policy} is {value!r}"):
        bench(**{policy: value}).listen()


@pytest.mark.parametrize("profile", [RELIABLE, BEST_EFFORT], ids=["reliable", "best effort"])
def test_a_publisher_that_comes_later_is_followed_and_each_message_comes_once(bench, profile):
    made = bench()
    made.listen(reliable=profile is BEST_EFFORT)
    publisher = made.publisher(profile)
    assert made.spin_until(lambda: made.asked == profile.reliability)
    assert made.spin_until(publisher.get_subscription_count)
    sent = 0
    # Through the handover, and on.
    while not made.spin_until(lambda: made.inputs._inputs[0]._retiring is None, 0.05) or sent < 5:
        publisher.publish(Image(height=sent))
        sent += 1
    assert made.spin_until(lambda: len(made.came) >= sent)
    assert [message.height for message in made.came] == list(range(sent))


def test_a_camera_info_published_before_the_node_came_is_received(bench):
    made = bench()
    made.publisher(LATCHED, CameraInfo).publish(CameraInfo(width=7))
    made.listen(CameraInfo, latched=True)
    assert made.spin_until(lambda: made.came)
    assert made.came[0].width == 7


def test_silent_topics_are_named(bench, monkeypatch):
    monkeypatch.setattr(subscriptions, "SILENT_S", 0.2)
    made = bench()
    made.listen()

    def told(words: str) -> bool:
        return made.spin_until(lambda: any(words in w for w in made.notices.warnings()))

    assert told("Nobody publishes sensor_msgs/msg/Image on /image: start its publisher, or remap image.")
    publisher = made.publisher(RELIABLE)
    assert told("No message has come on /image for 0.2 s, though /camera publishes there")
    publisher.publish(Image())
    assert made.spin_until(lambda: not made.notices.warnings())
    assert told("No message has come on /image")
    assert not any("send them reliable" in words for words in made.notices.warnings())
    made.publisher(BEST_EFFORT)
    assert told("large images that are sent best effort get lost: send them reliable")


def test_a_topic_of_another_type_is_named(bench, monkeypatch):
    monkeypatch.setattr(subscriptions, "SILENT_S", 0.2)
    made = bench()
    made.publisher(RELIABLE, CompressedImage)
    made.listen()
    words = "/image is published as sensor_msgs/msg/CompressedImage and is wanted as sensor_msgs/msg/Image"
    assert made.spin_until(lambda: any(words in w for w in made.notices.warnings()))
    assert "set image_transport to compressed" in made.notices.warnings()[0]


def test_an_override_the_publisher_does_not_offer_is_named(bench, monkeypatch):
    monkeypatch.setattr(subscriptions, "SILENT_S", 0.2)
    made = bench(reliability="reliable")
    made.publisher(BEST_EFFORT)
    made.listen()
    assert made.spin_until(lambda: any("take the overrides" in w for w in made.notices.warnings()))
    assert "best effort publisher and reliable subscription" in made.notices.warnings()[0]


def test_of_two_sources_of_detections_one_is_enough(bench, monkeypatch):
    monkeypatch.setattr(subscriptions, "SILENT_S", 0.2)
    made = bench()
    specs = [
        InputSpec(name, f"/{name}", CameraInfo, made.came.append, reliable=True)
        for name in ("instances", "detections")
    ]
    made.inputs = Inputs(made.listener, specs, MutuallyExclusiveCallbackGroup(), {"instances", "detections"})
    assert made.spin_until(lambda: made.notices.warnings())
    (sentence,) = made.notices.warnings()
    assert "/instances" in sentence
    assert "/detections" in sentence
    publisher = made.publisher(RELIABLE, CameraInfo, "/detections")
    assert made.spin_until(publisher.get_subscription_count)
    publisher.publish(CameraInfo())
    assert made.spin_until(lambda: not made.notices.warnings())
