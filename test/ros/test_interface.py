"""Compare docs/interface.md with the code, and the code with a running node."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.parameter import Parameter

from vpog_ros import optional
from vpog_ros.interface import (
    ACTION,
    ACTIONS,
    BOND,
    INPUTS,
    LIFECYCLE,
    MOVEIT,
    OUTPUTS,
    SERVICES,
    TF2,
    VISION,
    interface_page,
)
from vpog_ros.sros_policy import policy
from vpog_ros.vpog_node import VpogNode

PAGE = Path(__file__).parents[2] / "docs" / "interface.md"
POLICY = Path(__file__).parents[2] / "sros" / "vpog_node.policy.xml"
OF_EVERY_NODE = ("rcl_interfaces", "rosgraph_msgs", "type_description_interfaces", LIFECYCLE)
"""Packages of topics and services that nodes have without asking for them."""

INSTALLED = {
    "": True,
    "vpog_ros": True,
    TF2: optional.TFMessage is not None,
    VISION: optional.Detection3DArray is not None,
    "yolo_msgs": "yolo_detections" in optional.DETECTION_CLASSES,
    BOND: optional.BondStatus is not None,
    ACTION: optional.ActionServer is not None,
    MOVEIT: optional.CollisionObject is not None,
}


@pytest.fixture(scope="module")
def node():
    """Yield the real node, active, with an estimator that knows no object."""
    context = rclpy.Context()
    rclpy.init(context=context)
    library = SimpleNamespace(ids=[])
    estimator = SimpleNamespace(library=library, object_ids=[], left_out={}, device="cpu")
    ready = [Parameter("onboarding", value="configure")]
    node = VpogNode(lambda settings, progress: estimator, context=context, parameter_overrides=ready)
    node.trigger_configure()
    node.trigger_activate()
    yield node
    node.destroy_node()
    context.try_shutdown()


def own(found) -> set[tuple[str, str]]:
    """Return (name, type) of what is the node's own, less the topics and services of actions."""
    pairs = {(name, kind) for name, kinds in found for kind in kinds if "/_action/" not in name}
    return {pair for pair in pairs if not pair[1].startswith(OF_EVERY_NODE)}


def described(node, rows) -> set[tuple[str, str]]:
    """Return (name, type) that the tables say the node has on this machine."""
    resolved = {True: lambda name: f"/vpog_node/{name[2:]}", False: node.resolve_topic_name}
    return {
        (resolved[r.name.startswith("~")](r.name), r.type)
        for r in rows
        if INSTALLED[r.needs] and "NAME" not in r.name
    }


def test_the_page_is_made_from_the_code():
    assert PAGE.read_text() == interface_page(), (
        "docs/interface.md is not what the code says: run "
        "`python -m vpog_ros.interface > docs/interface.md` in the environment."
    )


def test_topics_are_those_of_the_node(node):
    inputs = node.get_subscriber_names_and_types_by_node("vpog_node", "/")
    outputs = node.get_publisher_names_and_types_by_node("vpog_node", "/")
    assert own(inputs) == described(node, INPUTS)
    assert own(outputs) == described(node, OUTPUTS)


def test_services_are_those_of_the_node(node):
    found = node.get_service_names_and_types_by_node("vpog_node", "/")
    assert own(found) == described(node, SERVICES)


def test_actions_are_those_of_the_node(node):
    action = pytest.importorskip("rclpy.action")
    found = action.get_action_server_names_and_types_by_node(node, "vpog_node", "/")
    assert own(found) == described(node, ACTIONS)


def of_policy(kind: str) -> set[str]:
    """Names that the SROS2 policy allows the node to publish, subscribe to, or answer."""
    elements = ElementTree.parse(POLICY).getroot().iter()
    return {item.text for element in elements if element.get(kind) == "ALLOW" for item in element}


def names_of(found) -> set[str]:
    """Names less those of the topics and services that actions are made of."""
    return {name for name, _ in found if "/_action/" not in name}


def missing_here(rows) -> set[str]:
    """Return topics that are off on this machine."""
    names = [row.name for row in rows if not INSTALLED[row.needs] and "NAME" not in row.name]
    return {name.replace("~", "/vpog_node") if name[0] in "~/" else f"/{name}" for name in names}


def test_the_sros2_policy_is_made_from_the_code_and_allows_what_the_node_has(node):
    told = "run `python -m vpog_ros.sros_policy > sros/vpog_node.policy.xml` in the environment."
    assert POLICY.read_text() == policy(), told
    outputs = names_of(node.get_publisher_names_and_types_by_node("vpog_node", "/"))
    inputs = names_of(node.get_subscriber_names_and_types_by_node("vpog_node", "/"))
    services = names_of(node.get_service_names_and_types_by_node("vpog_node", "/"))
    of_objects = {f"/vpog_node/objects/*/{kind}" for kind in ("pose", "alternatives", "samples")}
    assert of_policy("publish") - missing_here(OUTPUTS) == outputs | of_objects
    # With simulated time, or with a target_frame, alone the node listens to these.
    sometimes = {"/clock", "/parameter_events", "/tf", "/tf_static"}
    assert of_policy("subscribe") - missing_here(INPUTS) - sometimes <= inputs
    assert inputs <= of_policy("subscribe")
    assert services <= of_policy("reply")
    assert of_policy("execute") == {"/vpog_node/estimate"}
    # Of Jazzy and later.
    assert of_policy("reply") - services <= {"/vpog_node/get_type_description"}


def test_the_sros2_policy_follows_remappings_and_names():
    own = policy("poses", "/arm", {"image": "/camera/image_raw"})
    assert '<enclave path="/arm/poses">' in own
    assert "<topic>/camera/image_raw</topic>" in own
    assert "<topic>/arm/camera_info</topic>" in own
    assert "<service>/arm/poses/reset_tracking</service>" in own
    assert "<action>/arm/poses/estimate</action>" in own
