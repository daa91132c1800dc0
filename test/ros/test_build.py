"""Build the package with colcon in a folder of its own, as in a user's workspace."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .workspace import in_workspace

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("colcon") is None, reason="colcon is not installed")


def test_messages_import_and_serialize(install):
    code = (
        "from rclpy.serialization import deserialize_message, serialize_message\n"
        "from vpog_ros.msg import Instance2D, Instance2DArray, ObjectPose, ObjectPoseArray\n"
        "sent = ObjectPoseArray(poses=[ObjectPose(class_id='mug', instance=3, score=0.5)])\n"
        "sent.poses[0].pose.pose.position.z = 0.7\n"
        "assert deserialize_message(serialize_message(sent), ObjectPoseArray) == sent\n"
        "boxes = Instance2DArray(instances=[Instance2D(class_id='mug')])\n"
        "assert deserialize_message(serialize_message(boxes), Instance2DArray) == boxes\n"
        "from vpog_ros.action import Estimate\n"
        "from vpog_ros.srv import AddObject, EstimateOnce, ListObjects\n"
        "goal = Estimate.Goal(objects=['mug'], instances=boxes.instances)\n"
        "assert deserialize_message(serialize_message(goal), Estimate.Goal) == goal\n"
        "print('same')\n"
    )
    assert in_workspace(install, f'python -c "{code}"').strip() == "same"


def test_modules_lie_beside_the_messages(install):
    code = "import vpog_core, vpog_ros.vpog_node as node; print(node.__file__); print(vpog_core.__file__)"
    for line in in_workspace(install, f'python -c "{code}"').split():
        assert Path(line).is_relative_to(install)


def test_executables_are_where_launch_looks(install):
    for name in ("vpog_node", "demo_camera", "demo_monitor", "vpog"):
        assert os.access(install / "vpog_ros" / "lib" / "vpog_ros" / name, os.X_OK)
    path = install / "vpog_ros" / "lib" / "vpog_ros" / "demo_camera"
    assert "--write-only" in in_workspace(install, f'"{path}" --help')


def test_launch_files_configuration_and_weights_are_installed(install):
    share = install / "vpog_ros" / "share" / "vpog_ros"
    for name in ("launch/vpog.launch.py", "launch/demo.launch.py", "config/vpog.yaml", "config/vpog.rviz"):
        assert (share / name).is_file()
    shipped = {path.name for path in (ROOT / "vpog_core" / "weights").iterdir()}
    (installed,) = install.glob("**/site-packages/vpog_core/weights")
    assert {path.name for path in installed.iterdir()} == shipped
    assert any(name.endswith(".safetensors") for name in shipped)


def test_messages_alone_need_nothing_of_the_node(tmp_path):
    """The package is configured, and not built: what would be installed is written down then."""
    command = [
        "cmake",
        "-S",
        str(ROOT),
        "-B",
        str(tmp_path),
        "-DVPOG_MESSAGES_ONLY=ON",
        "-DBUILD_TESTING=OFF",
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    installed = (tmp_path / "cmake_install.cmake").read_text()
    assert all(name in installed for name in ("ObjectPose.msg", "ListObjects.srv", "Estimate.action"))
    assert not any(name in installed for name in ("vpog_core", "vpog_node", "vpog.launch.py"))
