"""Start a pose node for each camera.

ros2 launch vpog_ros cameras.launch.py cameras:=front,wrist objects_dir:=MESHES
"""

import re
from pathlib import Path

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import PushRosNamespace

from launch import LaunchDescription
from vpog_ros.launch_arguments import NODE_OPTIONS, PARAMETERS
from vpog_ros.launch_arguments import TOPICS as TOPICS_OF_ONE

HERE = Path(__file__).resolve().parent

CAMERAS = (
    "Names of the cameras with commas between them; each is the namespace of its topics, and of its node and "
    "what that publishes."
)
SHARED = {
    **{name: text for name, text in PARAMETERS.items() if name != "tf_prefix"},
    "params_file": (str(HERE.parent / "config" / "vpog.yaml"), "File of the parameters of all nodes."),
    **NODE_OPTIONS,
}
# MoveIt has one topic for all cameras.
DEFAULTS = {"image": "image_raw", "collision_object": "/collision_object"}
TOPICS = {
    name: (
        DEFAULTS.get(name, default),
        f"{text} Within the camera's namespace, unless it begins with a slash.",
    )
    for name, (default, text) in TOPICS_OF_ONE.items()
}


def names_of(cameras: str) -> list[str]:
    """Return the cameras' names: none twice, and all such as ROS takes for a namespace."""
    names = [name.strip() for name in cameras.split(",")]
    for name in names:
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or names.count(name) > 1:
            raise ValueError(
                f"cameras is '{cameras}': give different names with commas between them, of letters, digits "
                "and underscores, such as cameras:=front,wrist."
            )
    return names


def nodes(context) -> list:
    """Return a group for each camera: vpog.launch.py in its namespace."""
    groups = []
    for name in names_of(LaunchConfiguration("cameras").perform(context)):
        given = {argument: LaunchConfiguration(argument) for argument in (*SHARED, *TOPICS)}
        # Neither TF frames nor collision objects have a namespace: what two cameras see needs two names.
        given["tf_prefix"] = f"{name}_"
        source = PythonLaunchDescriptionSource(str(HERE / "vpog.launch.py"))
        vpog = IncludeLaunchDescription(source, launch_arguments=given.items())
        groups.append(GroupAction([PushRosNamespace(name), vpog]))
    return groups


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in {**SHARED, **TOPICS}.items()
    ]
    cameras = DeclareLaunchArgument("cameras", description=CAMERAS)
    return LaunchDescription([cameras, *arguments, OpaqueFunction(function=nodes)])
