"""Test the node in this process: parameters, clocks, and what it publishes of given poses."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray
from vpog_ros.msg import ObjectPoseArray

from vpog_core.geometry.se3 import transform
from vpog_core.types import Camera, MatchView, PoseEstimate
from vpog_core.visualization.estimate_drawing import estimate_drawings
from vpog_core.visualization.overlay import PALETTE, draw_poses
from vpog_ros import clock_watch, diagnostics, optional
from vpog_ros.image_conversion import image_to_rgb
from vpog_ros.input_specs import input_specs
from vpog_ros.outputs import publishers
from vpog_ros.parameter_table import TABLE
from vpog_ros.parameters import Settings
from vpog_ros.transitions import FAILURE, SUCCESS

from .node_here import NodeHere

ROOT = Path(__file__).resolve().parents[2]
CAMERA = Camera(K=np.array([[200.0, 0, 79.5], [0, 200, 59.5], [0, 0, 1]]), width=160, height=120)


@pytest.fixture
def start(mug_library):
    ready = SimpleNamespace(to_onboard=list)
    estimator = SimpleNamespace(
        library=mug_library, device="cpu", object_ids=list(mug_library.ids), left_out={}, objects=ready
    )
    with ExitStack() as nodes:
        yield lambda **parameters: nodes.enter_context(closing(NodeHere(estimator, "alone", **parameters)))


def test_loading_the_file_the_node_was_started_with_is_accepted(start):
    """`ros2 param load` sets every value of config/vpog.yaml, most of them to what they are."""
    node = start(onboarding=TABLE["onboarding"].default).node
    assert node.trigger_configure() == SUCCESS
    content = yaml.safe_load((ROOT / "config" / "vpog.yaml").read_text())["/**"]["ros__parameters"]
    results = node.set_parameters([Parameter(name, value=value) for name, value in content.items()])
    assert [result.reason for result in results] == [""] * len(content)
    (changed,) = node.set_parameters([Parameter("mode", value="global")])
    assert "clean the node up" in changed.reason


def test_parameters_that_the_node_does_not_have_are_named(start, monkeypatch):
    own = {"min_score": 0.5, "qos_overrides./image.subscription.depth": 3}
    wrong = {"minimum_score": 0.5, "qos_overrides.image.subscription.depth": 3}
    node = start(**own, **wrong).node
    said: list[str] = []
    monkeypatch.setattr(node, "get_logger", lambda: SimpleNamespace(warning=said.append, info=lambda _: None))
    assert node.trigger_configure() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    (sentence,) = said
    assert "ignored: minimum_score, qos_overrides.image.subscription.depth;" in sentence


def test_why_it_is_not_active_is_one_sentence_and_stays_on_diagnostics(start, monkeypatch):
    monkeypatch.setattr(diagnostics, "WINDOW_S", 0.0)  # As if it had happened long ago.
    policy = "qos_overrides./image.subscription.reliability"
    alone = start(diagnostics_period=0.1, **{policy: "relaible"})
    came = alone.listen(DiagnosticArray, "/diagnostics")
    said: list[str] = []
    monkeypatch.setattr(
        alone.node, "get_logger", lambda: SimpleNamespace(error=said.append, info=lambda _: None)
    )
    assert alone.node.trigger_configure() == SUCCESS
    assert alone.node.trigger_activate() == FAILURE
    (sentence,) = said
    assert sentence.startswith(f"{policy} is 'relaible': it must be one of")
    assert alone.spin_until(lambda: any(message.status[0].message == sentence for message in came))
    assert ord(came[-1].status[0].level) == 1
    assert alone.node.trigger_cleanup() == SUCCESS
    assert alone.node._why_inactive == ""


def test_without_clock_diagnostics_come_and_name_it(start, monkeypatch):
    monkeypatch.setattr(clock_watch, "NO_CLOCK_S", 0.1)
    alone = start(use_sim_time=True, diagnostics_period=0.1)
    came = alone.listen(DiagnosticArray, "/diagnostics")
    assert alone.spin_until(lambda: any("/clock" in message.status[0].message for message in came))
    assert ord(came[-1].status[0].level) == 1


@pytest.mark.parametrize(
    ("remapped", "transport", "topic"),
    [
        ("image", "raw", "/image"),
        ("image", "compressed", "/image/compressed"),
        ("/camera/image_raw/compressed", "compressed", "/camera/image_raw/compressed"),
    ],
)
def test_the_image_topic_follows_image_transport(start, monkeypatch, remapped, transport, topic):
    node = start(image_transport=transport).node
    monkeypatch.setattr(
        node,
        "resolve_topic_name",
        lambda name: f"/{remapped if name == 'image' else name}".replace("//", "/"),
    )
    processor = SimpleNamespace(add_label_info=print)
    found = input_specs(node, node.settings, print, print, print, processor)
    specs = {spec.name: spec for spec in found}
    assert specs["image"].topic == topic
    assert specs["image"].type_name.endswith("CompressedImage") is (transport == "compressed")


@pytest.fixture
def outputs(start):
    """Return the node's active publishers; the overlay shows one object in front of a black wall."""
    alone = start()
    alone.activate()
    return alone


def pose(score: float) -> PoseEstimate:
    return PoseEstimate("mug", 0, transform(np.eye(3), np.array([0.0, 0.0, 0.5])), score)


@pytest.mark.parametrize("kept", [True, False])
def test_a_subscriber_that_comes_later_is_sent_the_last_result_where_it_is_kept(start, kept):
    policies = {"durability": "transient_local", "depth": 1} if kept else {}
    alone = start(
        **{
            f"qos_overrides./alone/{topic}.publisher.{key}": value
            for topic in ("poses", "markers")
            for key, value in policies.items()
        }
    )
    alone.activate()
    for score in (0.5, 0.9):
        alone.node._outputs.publish_poses([pose(score)], Header(frame_id="camera"), Settings())
    poses, markers = [], []
    durability = DurabilityPolicy.TRANSIENT_LOCAL if kept else DurabilityPolicy.VOLATILE
    late = QoSProfile(depth=10, durability=durability)
    alone.peer.create_subscription(ObjectPoseArray, "/alone/poses", poses.append, late)
    alone.peer.create_subscription(MarkerArray, "/alone/markers", markers.append, late)
    alone.spin_until(lambda: poses and markers, 10.0 if kept else 0.5)
    alone.spin_for(0.2)
    assert [message.poses[0].score for message in poses] == ([pytest.approx(0.9)] if kept else [])
    assert [len(message.markers) for message in markers] == ([1] if kept else [])


def test_poses_under_min_score_are_drawn_grey(outputs):
    came = outputs.listen(Image, "/alone/overlay_image")
    made = outputs.node._outputs
    assert outputs.spin_until(lambda: made.overlay_image.is_wanted)
    colour = np.array(PALETTE[0])
    black = np.zeros((120, 160, 3), np.uint8)
    for score, coloured in ((0.9, True), (0.01, False)):
        came.clear()
        made.publish_images(black, CAMERA, [pose(score)], Header(frame_id="camera"), Settings())
        assert outputs.spin_until(lambda: came)
        drawn = np.frombuffer(came[0].data, np.uint8).reshape(120, 160, 3).astype(int)
        assert drawn.any()
        assert bool(np.abs(drawn - colour).sum(axis=2).min() < 30) is coloured


def test_images_are_published_as_jpeg_to_those_who_want_them_so(outputs):
    raw = "/alone/overlay_image"
    came = outputs.listen(CompressedImage, f"{raw}/compressed")
    made, header = outputs.node._outputs, Header(frame_id="camera")
    assert outputs.spin_until(lambda: made.overlay_image.is_wanted)
    assert not made.flow_image.is_wanted
    black, sizes = np.zeros((120, 160, 3), np.uint8), []
    for quality in (95, 10):
        came.clear()
        made.publish_images(black, CAMERA, [pose(0.9)], header, Settings(jpeg_quality=quality))
        assert outputs.spin_until(lambda: came)
        assert (came[0].header.frame_id, came[0].format) == ("camera", "rgb8; jpeg compressed bgr8")
        sizes.append(len(came[0].data))
        shown = image_to_rgb(came[0]).astype(int)
        drawn = draw_poses(black, CAMERA, estimate_drawings([pose(0.9)], outputs.estimator.library, 0.05))
        # JPEG blurs colours at thin lines, and keeps the mean.
        np.testing.assert_allclose(shown.mean(axis=(0, 1)), drawn.mean(axis=(0, 1)), atol=1.5)
    assert sizes[1] < sizes[0]


def test_matches_of_tracked_objects_are_made_at_times(outputs, monkeypatch):
    came = outputs.listen(Image, "/alone/flow_image")
    made, header = outputs.node._outputs, Header(frame_id="camera")
    assert outputs.spin_until(lambda: made.flow_image.is_wanted)
    clock, drawn = [100.0], []
    monkeypatch.setattr(publishers, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    black = np.zeros((120, 160, 3), np.uint8)
    grid = np.zeros((32, 32), np.float32)
    none = np.zeros((0, 2), np.float32)
    view = MatchView(
        np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32, 2), np.float32),
        grid, grid > 0, none, none, np.zeros(0, bool),
    )  # fmt: skip

    def estimate(instance: int, tracked: bool) -> PoseEstimate:
        return replace(
            pose(0.9), instance=instance, tracked=tracked, draw_match=lambda: drawn.append(instance) or view
        )

    for seconds, expected in ((0.0, [1, 2]), (0.4, [2]), (0.4, [2]), (0.4, [1, 2])):
        clock[0] += seconds
        drawn.clear()
        both = [estimate(1, tracked=True), estimate(2, tracked=False)]
        made.publish_images(black, CAMERA, both, header, Settings())
        assert drawn == expected
    assert outputs.spin_until(lambda: len(came) == 4)


def test_a_target_object_that_is_gone_stops_nothing_else(outputs):
    """The objects may be read again without the one that the parameter names."""
    all_poses = outputs.listen(ObjectPoseArray, "/alone/poses")
    best = outputs.listen(PoseStamped, "/alone/pose")
    single = outputs.listen(PoseStamped, "/alone/objects/mug/pose")
    made, header = outputs.node._outputs, Header(frame_id="camera")
    gone = Settings(target_object="spoon")
    assert outputs.spin_until(lambda: made.pose.get_subscription_count())

    def is_published() -> bool:
        made.publish_poses([pose(0.9)], header, gone)
        outputs.spin_for(0.1)
        return bool(all_poses and single)

    assert outputs.spin_until(is_published)
    assert best == []
    (sentence,) = outputs.node._notices.warnings()
    assert sentence.startswith("No pose goes to ~/pose, as target_object is not there")
    made.publish_poses([pose(0.9)], header, Settings(target_object="mug"))
    assert outputs.spin_until(lambda: best)
    assert outputs.node._notices.warnings() == []


@pytest.mark.parametrize(("frame_id", "sent"), [("camera", 1), ("", 0)])
def test_nothing_goes_to_tf_without_a_frame(outputs, monkeypatch, frame_id, sent):
    """tf2_msgs may not be installed; what would be sent is looked at."""
    frames: list = []
    monkeypatch.setattr(optional, "TFMessage", lambda transforms: transforms)
    monkeypatch.setattr(outputs.node._outputs, "tf", SimpleNamespace(publish=frames.extend))
    outputs.node._outputs.publish_poses([pose(0.9)], Header(frame_id=frame_id), Settings())
    assert [frame.child_frame_id for frame in frames] == ["mug_0"] * sent
