"""The table of the node's parameters: type, default, range, meaning, and when a change takes effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LIVE = "live"
"""Takes effect at once."""
CONFIGURE = "configure"
"""Read when the node is configured; a change is refused while it is configured."""
START = "start"
"""Read once, when the process starts; a change is refused afterwards."""

CONTINUOUS, ON_DEMAND = "continuous", "on_demand"
"""When the node works."""


@dataclass(frozen=True)
class Spec:
    """One row of the table. The type of a parameter is the type of its default."""

    default: Any
    description: str
    when: str = CONFIGURE
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


TABLE: dict[str, Spec] = {
    "objects_dir": Spec("", "Folder of meshes, <class_id>.obj|ply|glb|stl, and optionally objects.yaml."),
    "weights": Spec("", "Network weights, a .safetensors file; empty: the ones that come with the package."),
    "refiner_weights": Spec(
        "", "Weights of the refiner network, a .safetensors file; empty: the ones that come with the package."
    ),
    "device": Spec(
        "auto", "Where the network runs; auto: cuda where there is one.", choices=("auto", "cpu", "cuda")
    ),
    "precision": Spec(
        "auto",
        "What the networks compute in; auto: bfloat16 where the processor has instructions for it.",
        choices=("auto", "float32", "bfloat16"),
    ),
    "mode": Spec(
        "cluster",
        "Which templates are tried; cluster: those around the best views, global: all, which is slower.",
        choices=("cluster", "global"),
    ),
    "hypotheses": Spec(
        2, "Views tried for each detection in cluster mode.", unit="views", minimum=1, maximum=16
    ),
    "second_look": Spec(
        4,
        "Further views tried, in cluster mode, where the best answer's score is under second_look_below.",
        unit="views",
        minimum=0,
        maximum=16,
    ),
    "second_look_below": Spec(
        0.5, "A detection of a lower score is looked at a second time.", minimum=0.0, maximum=1.0
    ),
    "rolls": Spec(
        2, "In-plane turns each view is tried at in global mode.", unit="turns", minimum=1, maximum=12
    ),
    "refinements": Spec(
        1, "Times, at most, a pose is rendered and matched again.", unit="times", minimum=0, maximum=10
    ),
    "refiner_rounds": Spec(
        2,
        "Rounds of the refiner network, which compares a render at the pose with the image; 0: none.",
        unit="rounds",
        minimum=0,
        maximum=10,
    ),
    "alignments": Spec(
        2,
        "Rounds, at most, a rendered object is aligned with the picture; 0: not at all.",
        unit="rounds",
        minimum=0,
        maximum=10,
    ),
    "num_threads": Spec(
        0,
        "Threads torch and OpenCV use for one operation; 0: all cores this process may use but one, which is "
        "left to everything else. OMP_NUM_THREADS in the environment goes before it.",
        unit="threads",
        minimum=0,
        maximum=1024,
    ),
    "strict_objects": Spec(
        False, "Refuse to configure where one object cannot be used; false: it alone is left out."
    ),
    "onboard_when_asked": Spec(
        False,
        "Onboard an object when its pose is first asked for, in the background; false: all at configure.",
    ),
    "cache_dir": Spec("", "Folder for the objects' rendered templates; empty: the user's cache folder."),
    "image_transport": Spec(
        "raw",
        "How images come; compressed: JPEG or PNG on the topic <image>/compressed.",
        choices=("raw", "compressed"),
    ),
    "image_bits": Spec(
        0,
        "Bits that the camera uses of the 16 of mono16, bayer_*16 and the like, 8 to 16; 0: found from the "
        "images.",
        unit="bits",
        minimum=0,
        maximum=16,
    ),
    "rectified": Spec(False, "The image is rectified: use P of CameraInfo and no distortion."),
    "image_buffer_size": Spec(
        30, "Images kept to wait for their detections.", unit="images", minimum=1, maximum=300
    ),
    "stamp_tolerance": Spec(
        0.0,
        "How far the stamps of detections may be from their image's, for detectors that stamp anew: they "
        "meet the nearest image that has come; 0: stamps must be equal.",
        unit="s",
        minimum=0.0,
        maximum=10.0,
    ),
    "max_age": Spec(
        0.0,
        "A frame whose image is older than this when its turn comes is dropped and counted; 0: none is.",
        LIVE,
        "s",
        minimum=0.0,
        maximum=3600.0,
    ),
    "publish_at_newest": Spec(
        False,
        "Follow the objects from the image that was worked on to the newest one, and publish their poses "
        "there, with its stamp: for slow machines; needs tracking.",
        LIVE,
    ),
    "trigger": Spec(
        CONTINUOUS,
        "When the node works; continuous: on images that have detections, and when asked, on_demand: only "
        "when asked, by ~/estimate or ~/estimate_once.",
        LIVE,
        choices=(CONTINUOUS, ON_DEMAND),
    ),
    "request_timeout": Spec(
        10.0,
        "How long ~/estimate and ~/estimate_once wait for what they need, where the request does not say.",
        LIVE,
        "s",
        minimum=0.1,
        maximum=3600.0,
    ),
    "label_names": Spec(
        "",
        "Classes of the labels on label_map, such as '1: mug, 2: drill'; a label without a name is a class "
        "of its own number, as an alias in objects.yaml may be.",
    ),
    "label_regions": Spec(
        "connected",
        "What an instance on label_map is; connected: each connected region of a label, value: all pixels of "
        "a label.",
        choices=("connected", "value"),
    ),
    "max_detections": Spec(
        16,
        "Detections used of one frame, best scores first; those left out come first in the next frame.",
        LIVE,
        "detections",
        minimum=1,
        maximum=256,
    ),
    "max_rate": Spec(
        0.0,
        "Frames begun a second at most, to leave the processor to others; the newest are taken, the others "
        "are counted as dropped; 0: as many as can be.",
        LIVE,
        "Hz",
        minimum=0.0,
        maximum=1000.0,
    ),
    "tracking": Spec(
        True,
        "Follow objects from where they were in the last frame; needs refiner_rounds of 1 or more.",
        LIVE,
    ),
    "tracking_without_detections": Spec(
        True,
        "Go on following an object in images where the detector does not see it, for tracking_max_age at "
        "most; ObjectPose.detected tells such poses from others.",
        LIVE,
    ),
    "tracking_max_age": Spec(
        5.0,
        "How long an object that is not detected any more is followed.",
        LIVE,
        "s",
        minimum=0.05,
        maximum=3600.0,
    ),
    "tracking_detector_timeout": Spec(
        0.5,
        "Once images have waited so long for detections, they are answered without: with the objects that "
        "are being followed.",
        LIVE,
        "s",
        minimum=0.05,
        maximum=60.0,
    ),
    "tracking_min_score": Spec(
        0.4,
        "An object that is followed with a lower score is looked for among all views where it is detected, "
        "and lost where it is not.",
        minimum=0.0,
        maximum=1.0,
    ),
    "tracking_retrieve_every": Spec(
        5,
        "Frames after which a tracked instance is looked for among all views again; 0: never.",
        unit="frames",
        minimum=0,
        maximum=10000,
    ),
    "tracking_max_gap": Spec(
        1.0,
        "How long an instance that has no pose is remembered; over one answer, however slow, at least.",
        unit="s",
        minimum=0.05,
        maximum=60.0,
    ),
    "pose_filter": Spec(
        False,
        "Filter each object's pose at constant velocity, weighed by the covariances; a jump is published "
        "once a second image confirms it; false: poses are as they were found.",
        LIVE,
    ),
    "alternatives": Spec(
        0,
        "Next best poses, of different views, published of each object on ~/objects/NAME/alternatives, where "
        "it was looked for among all views; a pose that is followed has none.",
        unit="poses",
        minimum=0,
        maximum=15,
    ),
    "samples": Spec(
        0,
        "Poses drawn from the distribution of each pose, published on ~/objects/NAME/samples.",
        unit="poses",
        minimum=0,
        maximum=1000,
    ),
    "target_frame": Spec(
        "",
        "Frame in which poses are published, found by tf2 at the image's time; empty: the camera's.",
    ),
    "min_score": Spec(
        0.05,
        "Poses of a lower score are not published, and drawn grey; 0: all are published.",
        LIVE,
        minimum=0.0,
        maximum=1.0,
    ),
    "target_object": Spec("", "Object whose best pose goes to ~/pose; empty: the best of all objects.", LIVE),
    "publish_tf": Spec(True, "Broadcast each object's frame on /tf.", LIVE),
    "tf_prefix": Spec("", "Goes before the name <class_id>_<instance> of an object's frame.", LIVE),
    "marker_lifetime": Spec(
        0.0,
        "How long RViz shows a mesh of which no more is heard; 0: until the node says that it is gone.",
        LIVE,
        "s",
        minimum=0.0,
        maximum=3600.0,
    ),
    "marker_triangles": Spec(
        2000,
        "Triangles of a mesh in its marker, at most; meshes of more are simplified.",
        LIVE,
        "triangles",
        minimum=12,
        maximum=50000,
    ),
    "dump_dir": Spec(
        "",
        "Folder in which the service ~/dump writes the last frame's inputs and answers; empty: it refuses.",
        START,
    ),
    "diagnostics_period": Spec(
        1.0, "Time between two messages on /diagnostics.", START, "s", minimum=0.1, maximum=60.0
    ),
    "autostart": Spec(True, "Configure and activate by itself at start.", START),
}
