"""Build a colcon workspace in a folder of its own: this package, and the messages of bonds."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

BOND = {
    "package.xml": """<?xml version="1.0"?>
<package format="3">
  <name>bond</name>
  <version>0.0.0</version>
  <description>The messages of bond_core, where that is not installed.</description>
  <maintainer email="maintainers@example.org">vpog_ros maintainers</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>std_msgs</depend>
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
""",
    "CMakeLists.txt": """cmake_minimum_required(VERSION 3.16)
project(bond)
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
find_package(std_msgs REQUIRED)
rosidl_generate_interfaces(${PROJECT_NAME} msg/Status.msg DEPENDENCIES std_msgs)
ament_package()
""",
    "msg/Status.msg": """std_msgs/Header header
string id
string instance_id
bool active
float32 heartbeat_timeout
float32 heartbeat_period
""",
}
"""Files of the package; the message has the fields of bond_core's."""


def build(folder: Path) -> Path:
    """Build plainly, without symlinks; returns the install folder."""
    for name, text in BOND.items():
        path = folder / "bond" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    command = ["colcon", "--log-base", str(folder / "log"), "build"]
    command += ["--base-paths", str(ROOT), str(folder / "bond")]
    command += ["--build-base", str(folder / "build"), "--install-base", str(folder / "install")]
    command += ["--cmake-args", "-DBUILD_TESTING=OFF"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "install"


def in_workspace(install: Path, command: str) -> str:
    """Run a bash command with the workspace sourced, outside of the sources, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = f'source "{install}/local_setup.bash" && {command}'
    result = subprocess.run(
        ["bash", "-c", script], cwd=install, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
