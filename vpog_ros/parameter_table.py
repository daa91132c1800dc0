"""Declare the node's parameters, and when a change of each takes effect.

What `vpog_core` declares already is taken from there; only the node's own parameters are declared here. The
parameters of ROS, docs/interface.md, config/vpog.yaml and the launch arguments are made from this table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vpog_core.inference.constraint_settings import ConstraintSettings
from vpog_core.inference.options import LoadSettings, Options, TrackerSettings
from vpog_core.messages.stream_settings import StreamSettings
from vpog_core.setting import Setting, settings_of

LIVE = "live"
"""Takes effect at once."""
CONFIGURE = "configure"
"""Read when the node is configured; a change is refused while it is configured."""
START = "start"
"""Read once, when the process starts; a change is refused afterwards."""

CONTINUOUS, ON_DEMAND = "continuous", "on_demand"
"""Values of `trigger`, which sets when the node works."""

ONBOARD_IN_CONFIGURE, IN_BACKGROUND, WHEN_ASKED = "configure", "background", "when_asked"
"""Values of `onboarding`: when objects are made ready for matching."""

AUTO, ALWAYS, NEVER = "auto", "always", "never"
"""Values of `bond`; true and false, on and off would be read as booleans."""

RENAMED = {
    "second_look": "retry_views",
    "second_look_below": "retry_below_score",
    "onboard_when_asked": "onboarding",
}
"""Parameters that work under their old name, the key, for one version."""
OLD_VALUES = {"onboard_when_asked": {True: WHEN_ASKED, False: ONBOARD_IN_CONFIGURE}}
"""New values of renamed parameters whose values changed as well, by the old values."""


@dataclass(frozen=True)
class Spec(Setting):
    """Holds the declaration of one parameter."""

    when: str = CONFIGURE


def _shared(declared: Setting, when: str = CONFIGURE) -> Spec:
    """Return the parameter for a setting that is declared elsewhere."""
    return Spec(**vars(declared), when=when)


def _group(settings_class: type, when: str = CONFIGURE, prefix: str = "") -> dict[str, Spec]:
    """Return parameters for all settings of a dataclass."""
    return {f"{prefix}{name}": _shared(each, when) for name, each in settings_of(settings_class).items()}


_STREAM = settings_of(StreamSettings)
_CONSTRAINTS = _group(ConstraintSettings, LIVE)

TABLE: dict[str, Spec] = {
    "objects_dir": Spec("", "Folder of meshes, <class_id>.obj|ply|glb|stl, and optionally objects.yaml."),
    **_group(LoadSettings),
    **_group(Options),
    "num_threads": Spec(
        0,
        "Threads that share the detections of an image, and that OpenCV uses for one operation; 0 takes all "
        "cores of this process but one. OMP_NUM_THREADS in the environment takes precedence.",
        unit="threads",
        minimum=0,
        maximum=1024,
    ),
    "strict_objects": Spec(
        False, "Refuse to configure where one object cannot be used; false leaves only that object out."
    ),
    "onboarding": Spec(
        IN_BACKGROUND,
        "When objects are onboarded: background opens the cached ones at configure, for two seconds at most, "
        "and onboards the others while the node runs; configure waits for all of them, as strict_objects "
        "makes background do, too; when_asked onboards an object when its pose is first requested.",
        choices=(ONBOARD_IN_CONFIGURE, IN_BACKGROUND, WHEN_ASKED),
    ),
    "bond": Spec(
        AUTO,
        "Heartbeats on the topic bond while the node is active, which nav2's lifecycle manager waits for: "
        "auto sends them where the package bond is installed, always refuses to activate without it.",
        choices=(AUTO, ALWAYS, NEVER),
    ),
    "image_transport": Spec(
        "raw",
        "Transport of the images; compressed takes JPEG or PNG from the topic <image>/compressed.",
        choices=("raw", "compressed"),
    ),
    "image_bits": Spec(
        0,
        "Bits that the camera uses of the 16 of mono16, bayer_*16 and the like, 8 to 16; 0 finds them from "
        "the images.",
        unit="bits",
        minimum=0,
        maximum=16,
    ),
    "rectified": _shared(_STREAM["rectified"]),
    "label_names": Spec(
        "",
        "Classes of the labels on label_map, such as '1: mug, 2: drill'; a label without a name is a class "
        "of its own number, as an alias in objects.yaml may be.",
    ),
    "label_regions": Spec(
        "connected",
        "Extent of an instance on label_map: connected takes each connected region of a label, value takes "
        "all pixels of a label.",
        choices=("connected", "value"),
    ),
    "image_buffer_size": Spec(
        30, "Images kept to wait for their detections.", unit="images", minimum=1, maximum=300
    ),
    "stamp_tolerance": Spec(
        0.0,
        "Difference allowed between the stamps of detections and of their image, for detectors that "
        "change stamps: detections are paired with the nearest image that has come; 0 wants equal stamps.",
        unit="s",
        minimum=0.0,
        maximum=10.0,
    ),
    "target_frame": Spec(
        "",
        "Frame in which poses are published, found by tf2 at the image's time; empty: the camera's.",
    ),
    "transform_timeout": Spec(
        0.1,
        "Time to wait for a transform at an image's time, of target_frame or plane_frame; requests wait as "
        "long as their own timeout.",
        when=LIVE,
        unit="s",
        minimum=0.0,
        maximum=5.0,
    ),
    **_CONSTRAINTS,
    "plane_frame": replace(_CONSTRAINTS["plane_frame"], when=CONFIGURE),
    "tracking": _shared(_STREAM["tracking"], LIVE),
    **_group(TrackerSettings, LIVE, "tracking_"),
    "tracking_detector_timeout": _shared(_STREAM["detector_timeout"], LIVE),
    "pose_filter": Spec(
        False,
        "Filter each object's pose at constant velocity, weighted by the covariances; a jump is published "
        "once a second image confirms it.",
        when=LIVE,
    ),
    "publish_at_newest": Spec(
        False,
        "Track the objects from the image that was worked on to the newest one, and publish their poses "
        "there, with its stamp; for slow machines, needs tracking.",
        when=LIVE,
    ),
    "max_age": Spec(
        0.0,
        "A frame whose image is older than this when its turn comes is dropped and counted; 0 drops none.",
        when=LIVE,
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    ),
    "max_rate": Spec(
        0.0,
        "Frames begun a second, at most, to leave the processor to others; the newest are taken, the others "
        "are counted as dropped; 0 sets no limit.",
        when=LIVE,
        unit="Hz",
        minimum=0.0,
        maximum=1000.0,
    ),
    "max_detections": _shared(_STREAM["max_detections"], LIVE),
    "frame_budget": Spec(
        0.0,
        "Time for the detections of one frame, by what one took on average lately: as many as it suffices "
        "for are used, one at least, best scores first; those left out come first in the next frame. 0 sets "
        "no limit but max_detections.",
        when=LIVE,
        unit="s",
        minimum=0.0,
        maximum=60.0,
    ),
    "min_score": _shared(_STREAM["min_score"], LIVE),
    "trigger": Spec(
        CONTINUOUS,
        "When the node works: continuous on images that have detections and on requests, on_demand only on "
        "requests, by ~/estimate or ~/estimate_once.",
        when=LIVE,
        choices=(CONTINUOUS, ON_DEMAND),
    ),
    "request_timeout": Spec(
        10.0,
        "Time that ~/estimate and ~/estimate_once wait for what they need, where the request does not say.",
        when=LIVE,
        unit="s",
        minimum=0.1,
        maximum=3600.0,
    ),
    "max_detection_age": Spec(
        5.0,
        "Largest age of detections of another image that ~/estimate and ~/estimate_once use, where none of "
        "the image itself come; 0: only the image's own are used.",
        when=LIVE,
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    ),
    "target_object": Spec(
        "", "Object whose best pose goes to ~/pose; empty: the best of all objects.", when=LIVE
    ),
    "jpeg_quality": Spec(
        80,
        "Quality of the JPEG images on ~/overlay_image/compressed and ~/flow_image/compressed.",
        when=LIVE,
        minimum=1,
        maximum=100,
    ),
    "publish_collision_objects": Spec(
        False,
        "Publish the objects' meshes on collision_object, for MoveIt's planning scene; needs moveit_msgs. "
        "Turned off, the scene stays as it is.",
        when=LIVE,
    ),
    "held_objects": Spec(
        "",
        "Objects that the robot holds, with commas between them: their classes, or their names in the "
        "planning scene, such as mug_0. Their collision objects are neither added, moved nor removed.",
        when=LIVE,
    ),
    "collision_object_lifetime": Spec(
        2.0,
        "Time without a pose after which an object is removed from MoveIt's planning scene.",
        when=LIVE,
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    ),
    "publish_tf": Spec(True, "Broadcast each object's frame on /tf.", when=LIVE),
    "tf_prefix": Spec(
        "",
        "Prefix of the name <class_id>_<instance> of an object's frame, and of its collision object.",
        when=LIVE,
    ),
    "marker_lifetime": Spec(
        0.0,
        "Time for which RViz shows a mesh after its last message; 0 shows it until the node deletes it.",
        when=LIVE,
        unit="s",
        minimum=0.0,
        maximum=3600.0,
    ),
    "marker_triangles": Spec(
        2000,
        "Triangles of a mesh in its marker, at most, of 72 bytes each in every message; meshes of more are "
        "simplified.",
        when=LIVE,
        unit="triangles",
        minimum=12,
        maximum=50000,
    ),
    "dump_dir": Spec(
        "",
        "Folder in which the service ~/dump writes the inputs and results of the last frame; empty: the "
        "service refuses.",
        when=START,
    ),
    "diagnostics_period": Spec(
        1.0, "Time between two messages on /diagnostics.", when=START, unit="s", minimum=0.1, maximum=60.0
    ),
    "autostart": Spec(True, "Configure and activate at start, without a lifecycle manager.", when=START),
}
