"""The pose node: ros2 launch vpog_ros vpog.launch.py objects_dir:=/path/to/meshes image:=/camera/image_raw"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

SHARE = Path(__file__).resolve().parent.parent

TOPICS = {
    "image": (
        "image",
        "Camera image, sensor_msgs/Image (CompressedImage where image_transport is compressed).",
    ),
    "camera_info": ("camera_info", "Calibration of that image, sensor_msgs/CameraInfo."),
    "detections": ("detections", "2D boxes, vision_msgs/Detection2DArray, stamped like their image."),
    "instances": ("instances", "2D boxes and masks, vpog_ros/Instance2DArray, stamped like their image."),
}

PARAMETERS = {
    "objects_dir": "Folder of meshes, <class_id>.obj|ply|glb|stl, and optionally objects.yaml.",
    "weights": "Network weights, a .safetensors file.",
    "device": "Where the network runs: auto, cpu or cuda.",
    "mode": "How templates are used: cluster.",
    "target_object": "Object whose best pose goes to ~/pose.",
}


def node(context) -> list:
    """The node, with the parameters file first and the arguments that are given over it."""
    given = {name: LaunchConfiguration(name).perform(context) for name in PARAMETERS}
    # As strings: a class called "3" stays one.
    overrides = {name: ParameterValue(value, value_type=str) for name, value in given.items() if value}
    return [
        Node(
            package="vpog_ros",
            executable="vpog_node",
            name="vpog_node",
            output="screen",
            parameters=[LaunchConfiguration("params_file"), overrides],
            remappings=[(name, LaunchConfiguration(name)) for name in TOPICS],
        )
    ]


def generate_launch_description() -> LaunchDescription:
    topics = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in TOPICS.items()
    ]
    parameters = [
        DeclareLaunchArgument(name, default_value="", description=f"{text} Empty: as in params_file.")
        for name, text in PARAMETERS.items()
    ]
    return LaunchDescription(
        [
            *topics,
            *parameters,
            DeclareLaunchArgument(
                "params_file",
                default_value=str(SHARE / "config" / "vpog.yaml"),
                description="Parameters of the node; the arguments above go over it.",
            ),
            DeclareLaunchArgument("rviz", default_value="false", description="Start RViz: true or false."),
            OpaqueFunction(function=node),
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", str(SHARE / "config" / "vpog.rviz")],
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
        ]
    )
