"""Test the launch files: their syntax always, their arguments where `launch` is installed."""

from __future__ import annotations

import ast
import importlib.util
import runpy
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import yaml

pytest.importorskip("rclpy")

from vpog_ros.interface import INPUTS
from vpog_ros.parameter_table import TABLE

from .launch_stand_in import run

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))
OTHERS = {
    "rviz",
    "fixed_frame",
    "params_file",
    "namespace",
    "use_sim_time",
    "log_level",
    "reliability",
    "click",
}
TOPICS = {row.name for row in INPUTS} | {"collision_object"}
ARGUMENTS = {
    "vpog": {*TABLE, *TOPICS, *OTHERS},
    "cameras": {
        *TABLE,
        *TOPICS,
        "cameras",
        "params_file",
        "use_sim_time",
        "log_level",
        "reliability",
    }
    - {"tf_prefix"},
    "demo": {"frames", "seed", "device", "weights", "output", "min_fraction", "rviz"},
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_syntax(path):
    tree = ast.parse(path.read_text(), str(path))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert "generate_launch_description" in functions
    assert ast.get_docstring(tree)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_are_declared_and_described(name):
    launch = pytest.importorskip("launch")
    pytest.importorskip("launch_ros")
    spec = importlib.util.spec_from_file_location(f"{name}_launch", ROOT / "launch" / f"{name}.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    description = module.generate_launch_description()
    assert isinstance(description, launch.LaunchDescription)
    declared = {argument.name: argument for argument in description.get_launch_arguments()}
    assert declared.keys() == ARGUMENTS[name]
    for argument in declared.values():
        assert argument.description.endswith(".")
    if "mode" in declared:
        assert "One of: cluster, global." in declared["mode"].description


@pytest.fixture
def cameras(monkeypatch):
    """Load the launch file for several cameras; of `launch`, which may be missing, only names are needed."""
    for name in ("launch", "launch.actions", "launch.launch_description_sources", "launch.substitutions",
                 "launch_ros", "launch_ros.actions"):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, MagicMock())
    return runpy.run_path(str(ROOT / "launch" / "cameras.launch.py"))


@pytest.mark.parametrize("given", ["", "front,,wrist", "front,front", "2nd", "a/b", "front;wrist", "über"])
def test_names_that_are_no_namespaces_are_refused(cameras, given):
    with pytest.raises(ValueError, match=f"cameras is '{given}': give different names"):
        cameras["names_of"](given)


def test_cameras_have_what_the_launch_file_of_one_takes(cameras):
    assert cameras["names_of"]("front, wrist_2") == ["front", "wrist_2"]
    assert {*cameras["SHARED"], *cameras["TOPICS"], "tf_prefix"} <= ARGUMENTS["vpog"]
    # Each camera has its own images, and MoveIt one topic for all of them.
    defaults = {name: default for name, (default, _) in cameras["TOPICS"].items()}
    assert (defaults["image"], defaults["collision_object"]) == ("image_raw", "/collision_object")


VPOG = ROOT / "launch" / "vpog.launch.py"


def test_without_arguments_the_node_has_the_parameters_of_the_file(monkeypatch):
    (node,) = run(monkeypatch, VPOG)
    assert (node.package, node.executable, node.namespace) == ("vpog_ros", "vpog_node", "")
    assert node.parameters == [str(ROOT / "config" / "vpog.yaml"), {}]
    assert dict(node.remappings)["image"] == "image"
    assert node.ros_arguments == ["--log-level", "info"]


def test_arguments_go_over_the_file_by_the_types_of_the_parameters(monkeypatch):
    (node,) = run(
        monkeypatch, VPOG, target_object="3", autostart="false", use_sim_time="true", log_level="debug",
        namespace="arm", image="camera/image_raw", image_transport="compressed", reliability="best_effort",
        params_file="own.yaml",
    )  # fmt: skip
    file, given = node.parameters
    assert file == "own.yaml"
    assert given == {
        "target_object": "3",
        "autostart": False,
        "use_sim_time": True,
        "image_transport": "compressed",
        "qos_overrides./arm/camera/image_raw/compressed.subscription.reliability": "best_effort",
    }
    assert given.keys() - {"use_sim_time"} <= {*TABLE, *(name for name in given if name.startswith("qos_"))}
    assert node.namespace == "arm"
    assert node.ros_arguments == ["--log-level", "debug"]


def test_nodes_that_send_images_have_shared_memory_for_them_unless_the_user_chose_a_profile(monkeypatch):
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    demo = ROOT / "launch" / "demo.launch.py"
    given = {"FASTDDS_DEFAULT_PROFILES_FILE": str(ROOT / "config" / "fastdds.xml")}
    assert [node.additional_env for node in run(monkeypatch, demo)[1:3]] == [given, given]
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/own.xml")
    assert [node.additional_env for node in run(monkeypatch, demo)[1:3]] == [{}, {}]


def test_click_starts_the_click_node_on_the_same_topics_and_one_box_lasts(monkeypatch):
    topics = {"image": "/camera/color/image_raw", "instances": "/boxes"}
    pose, click = run(monkeypatch, VPOG, click="true", objects_dir="/meshes", **topics)
    assert click.executable == "vpog_click"
    assert click.remappings == pose.remappings
    assert click.parameters[1] == {"objects_dir": "/meshes"}
    spec = TABLE["tracking_max_age"]
    assert spec.default < pose.parameters[1]["tracking_max_age"] <= spec.maximum
    assert pose.parameters[1]["onboarding"] == "configure"
    pose, _ = run(monkeypatch, VPOG, click="true", tracking_max_age="60.0")
    assert pose.parameters[1]["tracking_max_age"] == 60.0


def test_rviz_shares_the_namespace_and_the_clock(monkeypatch):
    _, told, rviz = run(monkeypatch, VPOG, rviz="true", namespace="arm", use_sim_time="true")
    assert "fixed_frame is not given" in told.msg
    assert (rviz.namespace, rviz.parameters) == ("arm", [{"use_sim_time": True}])
    _, rviz = run(monkeypatch, VPOG, rviz="true", fixed_frame="camera")
    assert rviz.arguments[-2:] == ["-f", "camera"]


def test_each_camera_has_its_namespace_and_its_frames(monkeypatch):
    nodes = run(
        monkeypatch, ROOT / "launch" / "cameras.launch.py", cameras="front,wrist", objects_dir="/meshes"
    )
    assert [(node.executable, node.namespace) for node in nodes] == [
        ("vpog_node", "front"),
        ("vpog_node", "wrist"),
    ]
    assert [node.parameters[1] for node in nodes] == [
        {"objects_dir": "/meshes", "tf_prefix": f"{name}_"} for name in ("front", "wrist")
    ]


@pytest.mark.parametrize(
    ("image", "topic"), [("image_raw", "/front/image_raw"), ("/front_camera/rgb", "/front_camera/rgb")]
)
def test_the_reliability_is_that_of_the_topic_in_the_camera_s_namespace(monkeypatch, image, topic):
    cameras = ROOT / "launch" / "cameras.launch.py"
    (node,) = run(
        monkeypatch, cameras, cameras="front", objects_dir="/meshes", image=image, reliability="best_effort",
        use_sim_time="true", log_level="warn",
    )  # fmt: skip
    given = node.parameters[1]
    assert given[f"qos_overrides.{topic}.subscription.reliability"] == "best_effort"
    assert given["use_sim_time"] is True
    assert node.ros_arguments == ["--log-level", "warn"]


def test_the_demo_waits_until_its_objects_are_ready(monkeypatch):
    started = run(monkeypatch, ROOT / "launch" / "demo.launch.py", output="/out")
    assert [node.executable for node in started] == [
        "demo_camera", "vpog_node", "demo_camera", "demo_monitor",
    ]  # fmt: skip
    given = {"objects_dir": "/out/objects", "onboarding": "configure", "device": "auto"}
    assert started[1].parameters[1] == given


def test_an_argument_that_is_not_there_is_refused(monkeypatch):
    with pytest.raises(KeyError, match="has no argument imge"):
        run(monkeypatch, VPOG, imge="/camera/image_raw")


def test_rviz_s_topics_follow_the_node_s_namespace_and_its_frame_is_no_camera_s():
    """Both come from the launch arguments; an absolute topic would not be found in a namespace."""
    manager = yaml.safe_load((ROOT / "config" / "vpog.rviz").read_text())["Visualization Manager"]
    topics = [display["Topic"]["Value"] for display in manager["Displays"] if "Topic" in display]
    assert len(topics) == 4
    assert all(topic.startswith("vpog_node/") for topic in topics)
    assert manager["Global Options"]["Fixed Frame"] == "frame_id_of_the_images"


@pytest.mark.parametrize(
    "path",
    sorted(p for p in (ROOT / "config").iterdir() if p.is_file() and p.suffix != ".xml"),
    ids=lambda path: path.name,
)
def test_configuration_files_are_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)
