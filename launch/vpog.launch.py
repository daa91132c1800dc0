"""Start the pose node.

ros2 launch vpog_ros vpog.launch.py objects_dir:=/path/to/meshes image:=/camera/image_raw
"""

import os
from collections.abc import Callable
from pathlib import Path

from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription
from vpog_ros.dds_profile import profile_environment
from vpog_ros.launch_arguments import NODE_OPTIONS, PARAMETERS, TOPICS
from vpog_ros.parameter_table import ONBOARD_IN_CONFIGURE, TABLE

SHARE = Path(__file__).resolve().parent.parent

NO_FRAME = (
    "fixed_frame is not given: RViz shows no meshes until its Fixed Frame is set to the images' frame_id."
)
OTHERS = {
    "params_file": (
        str(SHARE / "config" / "vpog.yaml"),
        "File of the node's parameters; launch arguments that are given take precedence over it.",
    ),
    "namespace": ("", "Namespace of the nodes, and of topics that do not begin with a slash."),
    **NODE_OPTIONS,
    "click": (
        "false",
        "Start vpog_click, to draw a box around an object in place of a detector: true or false. "
        "tracking_max_age is then an hour, and onboarding configure, where they are not given.",
    ),
    "rviz": ("false", "Start RViz: true or false."),
    "fixed_frame": ("", "Frame RViz shows everything in: the images' frame_id, or one tf joins with it."),
}
WITH_CLICK = {
    # Each object has one box, and no detector detects it again.
    "tracking_max_age": 3600.0,
    # vpog_click keeps a box until the node subscribes, and drops it if no pose comes then.
    "onboarding": ONBOARD_IN_CONFIGURE,
}
"""Defaults of the node's parameters with `click`."""


def given_parameters(value: Callable[[str], str], outer_namespace: str) -> dict:
    """Return the parameters that the arguments set, which take precedence over those of the file.

    Args:
        value: returns the value of an argument.
        outer_namespace: what a launch file that includes this one has pushed, or "".
    """
    # Give the type explicitly: a class called "3" stays a string.
    given = {
        name: ParameterValue(value(name), value_type=type(TABLE[name].default))
        for name in PARAMETERS
        if value(name)
    }
    if value("use_sim_time"):
        given["use_sim_time"] = ParameterValue(value("use_sim_time"), value_type=bool)
    if value("reliability"):
        topic = f"qos_overrides.{image_topic(value, outer_namespace)}.subscription.reliability"
        given[topic] = ParameterValue(value("reliability"), value_type=str)
    return given


def image_topic(value: Callable[[str], str], outer_namespace: str) -> str:
    """Return the full name of the topic that images come on; arguments as of `given_parameters`."""
    topic = value("image")
    # A name that begins with a slash needs no namespace around it.
    for namespace in (value("namespace"), outer_namespace, "/"):
        if not topic.startswith("/"):
            topic = f"{namespace.rstrip('/')}/{topic}" if namespace else topic
    compressed = value("image_transport") == "compressed" and not topic.endswith("/compressed")
    return f"{topic}/compressed" if compressed else topic


def nodes(context) -> list:
    """Return the pose node and, if enabled, the click node, each with the file's parameters first."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    outer_namespace = context.launch_configurations.get("ros_namespace", "")
    given, click = given_parameters(value, outer_namespace), is_true(value("click"))
    more = WITH_CLICK if click else {}
    return [
        Node(
            package="vpog_ros",
            executable=executable,
            name=executable,
            namespace=value("namespace"),
            output="screen",
            parameters=[value("params_file"), parameters],
            remappings=[(name, value(name)) for name in TOPICS],
            ros_arguments=["--log-level", value("log_level")],
            additional_env=profile_environment(SHARE / "config", os.environ),
        )
        for executable, parameters in [
            ("vpog_node", more | given),
            *([("vpog_click", given)] if click else []),
        ]
    ]


def is_true(text: str) -> bool:
    """Read an argument that is true or false."""
    if text.lower() not in ("true", "false"):
        raise ValueError(f"click is '{text}': it must be true or false.")
    return text.lower() == "true"


def rviz(context) -> list:
    """Return RViz with the frame that the arguments name."""
    frame = LaunchConfiguration("fixed_frame").perform(context)
    simulated = LaunchConfiguration("use_sim_time").perform(context)
    # The topics of the file are relative: RViz resolves them in the namespace of the node.
    started = Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", str(SHARE / "config" / "vpog.rviz"), *(["-f", frame] if frame else [])],
        parameters=[{"use_sim_time": ParameterValue(simulated, value_type=bool)}] if simulated else [],
    )
    return [started] if frame else [LogInfo(msg=NO_FRAME), started]


def generate_launch_description() -> LaunchDescription:
    arguments = {**TOPICS, **PARAMETERS, **OTHERS}
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=text)
                for name, (default, text) in arguments.items()
            ),
            OpaqueFunction(function=nodes),
            OpaqueFunction(function=rviz, condition=IfCondition(LaunchConfiguration("rviz"))),
        ]
    )
