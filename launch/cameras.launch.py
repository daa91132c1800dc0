"""A node for each camera: ros2 launch vpog_ros cameras.launch.py cameras:=front,wrist objects_dir:=MESHES"""

import re
from pathlib import Path

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import PushRosNamespace

from launch import LaunchDescription

HERE = Path(__file__).resolve().parent

CAMERAS = (
    "Names of the cameras with commas between them; each is the namespace of its topics, and of its node and "
    "what that publishes."
)
SHARED = {
    "objects_dir": ("", "Folder of meshes, for all cameras."),
    "cache_dir": (
        "",
        "Folder for rendered templates, which all nodes share; empty: the user's cache folder.",
    ),
    "weights": ("", "Network weights; empty: the ones that come with the package."),
    "device": ("", "Where the networks run: auto, cpu or cuda. Not given: as in params_file."),
    "target_frame": ("", "Frame in which all poses are published, found by tf2; empty: each camera's own."),
    "params_file": (str(HERE.parent / "config" / "vpog.yaml"), "Parameters of all nodes."),
}
TOPICS = {
    "image": ("image_raw", "Camera image, within the camera's namespace."),
    "camera_info": ("camera_info", "Calibration of that image, within the camera's namespace."),
    "detections": ("detections", "2D boxes, vision_msgs/Detection2DArray, within the camera's namespace."),
    "yolo_detections": ("yolo_detections", "yolo_msgs/DetectionArray, within the camera's namespace."),
    "instances": (
        "instances",
        "2D boxes and masks, vpog_ros/Instance2DArray, within the camera's namespace.",
    ),
}


def names_of(cameras: str) -> list[str]:
    """The cameras' names; none twice, and all such as ROS takes for a namespace."""
    names = [name.strip() for name in cameras.split(",")]
    for name in names:
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or names.count(name) > 1:
            raise ValueError(
                f"cameras is '{cameras}': give different names with commas between them, of letters, digits "
                "and underscores, such as cameras:=front,wrist."
            )
    return names


def nodes(context) -> list:
    """A group for each camera: vpog.launch.py in its namespace."""
    groups = []
    for name in names_of(LaunchConfiguration("cameras").perform(context)):
        given = {argument: LaunchConfiguration(argument) for argument in (*SHARED, *TOPICS)}
        # Frames of objects are without a namespace: the same object seen by two cameras has two.
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
