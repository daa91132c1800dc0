"""List the node's interface, and make docs/interface.md from it: `python -m vpog_ros.interface`."""

from __future__ import annotations

from dataclasses import dataclass

from vpog_core.messages.detection_inputs import DETECTION_INPUTS
from vpog_ros.parameter_table import CONFIGURE, LIVE, START, TABLE

TF2, VISION, ACTION = "tf2_msgs", "vision_msgs", "rclpy.action"
BOND, MOVEIT = "bond", "moveit_msgs"


@dataclass(frozen=True)
class Row:
    """Holds one topic, service or action.

    Attributes:
        name: as the node has it, before remapping; `~` is the node's name.
        type: of its messages.
        description: a sentence or two.
        needs: the package without which it is off, or ""; this package is always there.
    """

    name: str
    type: str
    description: str
    needs: str = ""


INPUTS = (
    Row(
        "image",
        "sensor_msgs/msg/Image",
        "The camera's images. With `image_transport: compressed` the topic "
        "is `image/compressed`, sensor_msgs/msg/CompressedImage.",
    ),
    Row("camera_info", "sensor_msgs/msg/CameraInfo", "Their calibration."),
    *(
        Row(name, row.type, row.description, row.type.partition("/")[0])
        for name, row in DETECTION_INPUTS.items()
    ),
    Row(
        "label_map",
        "sensor_msgs/msg/Image",
        "2D detections as an image whose pixels are numbers of classes (mono8, mono16, 8UC1, 16UC1; 0: no "
        "object), of the size and with the header of its image; see `label_names` and `label_regions`.",
    ),
    Row(
        "label_info",
        "vision_msgs/msg/LabelInfo",
        "Names of those numbers, latched.",
        VISION,
    ),
)

OUTPUTS = (
    Row(
        "~/poses",
        "vpog_ros/msg/ObjectPoseArray",
        "All poses of an image with score, covariance and inliers; empty where nothing was found.",
    ),
    Row("~/pose", "geometry_msgs/msg/PoseStamped", "The best pose, of `target_object` where that is set."),
    Row(
        "~/objects/NAME/pose",
        "geometry_msgs/msg/PoseStamped",
        "The best pose of one object; the topic is made when the object is first seen. NAME is the object's "
        "name, with what ROS does not allow in names replaced.",
    ),
    Row(
        "~/objects/NAME/alternatives",
        "geometry_msgs/msg/PoseArray",
        "Its next best poses, where `alternatives` is not 0.",
    ),
    Row(
        "~/objects/NAME/samples",
        "geometry_msgs/msg/PoseArray",
        "Poses drawn from the distribution of the best one, where `samples` is not 0.",
    ),
    Row(
        "~/detections_3d",
        "vision_msgs/msg/Detection3DArray",
        "The same poses with the meshes' boxes.",
        VISION,
    ),
    Row("~/overlay_image", "sensor_msgs/msg/Image", "Outlines and axes; drawn while somebody subscribes."),
    Row(
        "~/flow_image",
        "sensor_msgs/msg/Image",
        "Crop, template and matches of each detection, of tracked objects once a second; drawn while "
        "somebody subscribes.",
    ),
    *(
        Row(
            f"~/{name}/compressed",
            "sensor_msgs/msg/CompressedImage",
            "The same as JPEG of `jpeg_quality`; image_transport's `compressed` reads it.",
        )
        for name in ("overlay_image", "flow_image")
    ),
    Row(
        "collision_object",
        "moveit_msgs/msg/CollisionObject",
        "The objects with their meshes, for MoveIt's planning scene, where `publish_collision_objects` is "
        "true: added, moved, and removed after `collision_object_lifetime` without a pose.",
        MOVEIT,
    ),
    Row(
        "~/markers",
        "visualization_msgs/msg/MarkerArray",
        "The meshes at their poses, for RViz; the surer, the more opaque.",
    ),
    Row(
        "/tf",
        "tf2_msgs/msg/TFMessage",
        "The frame `<class_id>_<instance>` of each object, where `publish_tf` is true.",
        TF2,
    ),
    Row(
        "/diagnostics",
        "diagnostic_msgs/msg/DiagnosticArray",
        "State, rates, latencies, drops, the last "
        "error, and what is wrong now; see [troubleshooting.md](troubleshooting.md).",
    ),
    Row(
        "bond",
        "bond/msg/Status",
        "Heartbeats while the node is active, for nav2's lifecycle manager; see "
        "[deployment.md](deployment.md) and the parameter `bond`.",
        BOND,
    ),
)

SERVICES = (
    Row(
        "~/dump",
        "std_srvs/srv/Trigger",
        "Writes the inputs and results of the last processed frame into "
        "a new folder below `dump_dir`; `vpog estimate --from` finds its poses again.",
    ),
    Row(
        "~/reset_tracking",
        "std_srvs/srv/Trigger",
        "Drops all tracks: each object is searched for among all views when it is detected.",
    ),
    Row(
        "~/estimate_once",
        "vpog_ros/srv/EstimateOnce",
        "Poses of objects in one image, as `~/estimate` gives them, for callers that only want the result.",
    ),
    Row(
        "~/list_objects",
        "vpog_ros/srv/ListObjects",
        "The objects, each with its state (ready, onboarding, cached, not_onboarded, left_out), diameter, "
        "box and symmetry.",
    ),
    Row(
        "~/add_object",
        "vpog_ros/srv/AddObject",
        "Adds an object, by a mesh in `objects_dir` or the bytes of one, and onboards it in the background.",
    ),
    Row(
        "~/reload_objects",
        "std_srvs/srv/Trigger",
        "Reads `objects_dir` again and onboards what is new or has changed, in the background.",
    ),
)

ACTIONS = (
    Row(
        "~/estimate",
        "vpog_ros/action/Estimate",
        "Poses of objects in one image, the next that comes or one in the goal; see "
        "[on_demand.md](on_demand.md).",
        ACTION,
    ),
)

LIFECYCLE = "lifecycle_msgs"
"""Package of the services and topics that every lifecycle node has."""

WHEN = {
    LIVE: "Effective at once",
    CONFIGURE: "Read at configure; to change one, clean the node up first",
    START: "Read when the process starts",
}

HEAD = """\
# Interface of vpog_node

Made from the code by `python -m vpog_ros.interface`; do not edit. Names are those before remapping; `~` is
the node's name. Stamp and `frame_id` of what is published about an image are the image's. Poses map points of
the object into the camera's optical frame (x right, y down, z forward), in metres. With `target_frame` poses
are given in that frame; with `publish_at_newest` they are of the newest image.
"""

READING = """\
## Reading a pose

`ros2 interface show vpog_ros/msg/ObjectPose` explains each field.

- `pose.pose` maps points of the mesh, in metres, into the frame of `header`: it is the pose of the mesh's own
  origin and axes.
- `pose.covariance` is [6, 6], row-major: x, y, z in metres, then rotation about x, y, z in radians, about the
  axes of that frame and at the mesh's origin. All zeros: not known. It describes the errors of correct poses;
  whether a pose is correct at all, `score` says. Other views and equivalent poses are in neither: ask for
  `alternatives`.
- `score` is an estimate of the probability that the pose is correct: points of the object are off by less
  than 10 % of its diameter on average. See [how accurate it is](../README.md#how-accurate-it-is-today).
- `detected` is false for a tracked object that no detection of this image shows; `detection_age` says for how
  long.
"""

TAIL = """\
Beside these there is for each subscribed topic `qos_overrides.<topic>.subscription.<policy>` with the
policies `reliability`, `durability`, `history` and `depth`, read when the process starts; `auto` takes the
best that all publishers offer. Publishers take ROS's own `qos_overrides.<topic>.publisher.<policy>`,
of the same policies.
"""


def interface_page() -> str:
    """Make docs/interface.md."""
    parts = [HEAD]
    for title, rows in (
        ("Subscribed topics", INPUTS),
        ("Published topics", OUTPUTS),
        ("Services", SERVICES),
        ("Actions", ACTIONS),
    ):
        parts.append(f"## {title}\n\n{_rows(rows)}")
    parts.append(
        "The node is a lifecycle node: `~/change_state`, `~/get_state` and the other services of "
        "lifecycle_msgs are\nthere, and the topic `~/transition_event`.\n"
    )
    parts.append(READING)
    parts.append("## Parameters\n")
    for when, title in WHEN.items():
        parts.append(f"### {title}\n\n{_parameters(when)}")
    return "\n".join([*parts, TAIL])


def _rows(rows: tuple[Row, ...]) -> str:
    lines = ["| name | type | |", "| --- | --- | --- |"]
    for row in rows:
        needs = f" Off where {row.needs} is not installed." if row.needs not in ("", "vpog_ros") else ""
        lines.append(f"| `{row.name}` | `{row.type}` | {row.description}{needs} |")
    return "\n".join(lines) + "\n"


def _parameters(when: str) -> str:
    lines = ["| name | default | range | unit | |", "| --- | --- | --- | --- | --- |"]
    for name, spec in TABLE.items():
        if spec.when == when:
            description = spec.help.replace("|", "\\|").replace("<", "&lt;")
            cells = (f"`{name}`", f"`{_value(spec.default)}`", spec.range, spec.unit, description)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _value(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


if __name__ == "__main__":
    print(interface_page(), end="")
