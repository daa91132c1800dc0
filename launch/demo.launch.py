"""Start camera, node and monitor of the demo: ros2 launch vpog_ros demo.launch.py rviz:=true"""

import os
from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node

from launch import LaunchDescription
from vpog_ros.dds_profile import profile_environment
from vpog_ros.demo.run import FRAME_ID, MIN_FRACTION
from vpog_ros.parameter_table import ONBOARD_IN_CONFIGURE, TABLE

HERE = Path(__file__).resolve().parent
ARGUMENTS = {
    "frames": ("300", "Camera frames to evaluate."),
    "seed": ("1", "Seed of the scene and of the boxes' errors."),
    "device": ("auto", TABLE["device"].help),
    "weights": ("", TABLE["weights"].help),
    "output": ("demo_output", "Folder for meshes and images."),
    "min_fraction": (str(MIN_FRACTION), "Fraction of correct poses below which the monitor fails."),
    "rviz": ("false", "Start RViz: true or false."),
}


def generate_launch_description() -> LaunchDescription:
    value = {name: LaunchConfiguration(name) for name in ARGUMENTS}
    objects = PathJoinSubstitution([value["output"], "objects"])
    camera = ["--objects-dir", objects, "--seed", value["seed"]]
    write_meshes = Node(
        package="vpog_ros",
        executable="demo_camera",
        name="write_meshes",
        arguments=[*camera, "--write-only"],
        output="screen",
    )
    vpog = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(HERE / "vpog.launch.py")),
        launch_arguments={
            "objects_dir": objects,
            "device": value["device"],
            "weights": value["weights"],
            "rviz": value["rviz"],
            # The node is active only once all objects are onboarded: the monitor counts every frame.
            "onboarding": ONBOARD_IN_CONFIGURE,
            "fixed_frame": FRAME_ID,
            **{name: f"/demo_camera/{name}" for name in ("image", "camera_info", "instances")},
        }.items(),
    )
    demo_camera = Node(
        package="vpog_ros",
        executable="demo_camera",
        arguments=camera,
        output="screen",
        additional_env=profile_environment(HERE.parent / "config", os.environ),
    )
    monitor = Node(
        package="vpog_ros",
        executable="demo_monitor",
        arguments=[
            *("--objects-dir", objects, "--output", value["output"]),
            *("--frames", value["frames"], "--min-fraction", value["min_fraction"]),
        ],
        output="screen",
    )
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in ARGUMENTS.items()
            ),
            write_meshes,
            # Write the meshes before the node starts, which onboards what it finds in the folder.
            RegisterEventHandler(
                OnProcessExit(target_action=write_meshes, on_exit=[vpog, demo_camera, monitor])
            ),
            RegisterEventHandler(
                OnProcessExit(target_action=monitor, on_exit=[EmitEvent(event=Shutdown(reason="demo done"))])
            ),
        ]
    )
