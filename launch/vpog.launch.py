"""The pose node: ros2 launch vpog_ros vpog.launch.py objects_dir:=/path/to/meshes image:=/camera/image_raw"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription
from vpog_ros.parameters import TABLE

SHARE = Path(__file__).resolve().parent.parent

TOPICS = {
    "image": (
        "image",
        "Camera image, sensor_msgs/Image; with image_transport compressed, <image>/compressed is used.",
    ),
    "camera_info": ("camera_info", "Calibration of that image, sensor_msgs/CameraInfo."),
    "detections": ("detections", "2D boxes, vision_msgs/Detection2DArray, stamped like their image."),
    "yolo_detections": (
        "yolo_detections",
        "Boxes and masks of yolo_ros, yolo_msgs/DetectionArray, stamped like their image.",
    ),
    "label_map": (
        "label_map",
        "Label map, sensor_msgs/Image, stamped like its image; see label_names and label_regions.",
    ),
    "instances": ("instances", "2D boxes and masks, vpog_ros/Instance2DArray, stamped like their image."),
}

NO_FRAME = (
    "fixed_frame is not given: RViz shows no meshes until its Fixed Frame is set to the images' frame_id."
)
PARAMETERS = ("objects_dir", "weights", "device", "mode", "target_object", "image_transport")


def text_of(name: str) -> str:
    """What an argument means that is a parameter of the node: the node's own words."""
    spec = TABLE[name]
    choices = f" One of: {', '.join(spec.choices)}." if spec.choices else ""
    return f"{spec.description}{choices} Not given: as in params_file."


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


def rviz(context) -> list:
    """RViz with the frame that the arguments name."""
    frame = LaunchConfiguration("fixed_frame").perform(context)
    arguments = ["-d", str(SHARE / "config" / "vpog.rviz"), *(["-f", frame] if frame else [])]
    # The topics of the file are relative: RViz looks for them in the namespace it shares with the node.
    started = Node(package="rviz2", executable="rviz2", arguments=arguments)
    return [started] if frame else [LogInfo(msg=NO_FRAME), started]


def generate_launch_description() -> LaunchDescription:
    topics = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in TOPICS.items()
    ]
    parameters = [
        DeclareLaunchArgument(name, default_value="", description=text_of(name)) for name in PARAMETERS
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
            DeclareLaunchArgument(
                "fixed_frame",
                default_value="",
                description="Frame RViz shows everything in: the images' frame_id, or one tf joins with it.",
            ),
            OpaqueFunction(function=node),
            OpaqueFunction(function=rviz, condition=IfCondition(LaunchConfiguration("rviz"))),
        ]
    )
