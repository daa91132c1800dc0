"""The launch files: syntax always, their arguments where `launch` is installed."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))
ARGUMENTS = {
    "vpog": {
        "image",
        "camera_info",
        "detections",
        "instances",
        "yolo_detections",
        "objects_dir",
        "weights",
        "device",
        "mode",
        "target_object",
        "image_transport",
        "rviz",
        "fixed_frame",
        "params_file",
    },
    "demo": {"frames", "seed", "device", "weights", "output", "min_share", "rviz"},
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
    assert declared.keys() >= ARGUMENTS[name]
    for argument in declared.values():
        assert argument.description.endswith(".")
    if "mode" in declared:
        assert "One of: cluster, global." in declared["mode"].description


def test_rviz_s_topics_follow_the_node_s_namespace_and_its_frame_is_no_camera_s():
    """Both come from the launch arguments; an absolute topic would not be found in a namespace."""
    manager = yaml.safe_load((ROOT / "config" / "vpog.rviz").read_text())["Visualization Manager"]
    topics = [display["Topic"]["Value"] for display in manager["Displays"] if "Topic" in display]
    assert len(topics) == 4
    assert all(topic.startswith("vpog_node/") for topic in topics)
    assert manager["Global Options"]["Fixed Frame"] == "frame_id_of_the_images"


@pytest.mark.parametrize(
    "path", sorted(p for p in (ROOT / "config").iterdir() if p.is_file()), ids=lambda path: path.name
)
def test_configuration_files_are_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)
