"""Declare the settings of an estimator and of a tracker.

Free of torch, which takes seconds to import: launch files and the command line's help read this.
"""

from __future__ import annotations

from dataclasses import dataclass

from vpog_core.setting import check, setting

MORE_POSES = ("alternatives", "samples")
"""Settings of `Options` for poses beside the best: of use only where they are printed or returned."""
MAX_AGE_S = 86400.0
"""A day: longer than a tracker follows any object without a detection."""


@dataclass(frozen=True)
class LoadSettings:
    """Declares which networks an estimator loads, and where they run; arguments of `PoseEstimator`."""

    weights: str = setting(
        "", "Network weights, a .safetensors file; empty: the ones that come with the package."
    )
    refiner_weights: str = setting(
        "", "Weights of the refiner network, a .safetensors file; empty: the ones that come with the package."
    )
    device: str = setting(
        "auto",
        "Device that the networks run on; auto takes cuda where there is one.",
        choices=("auto", "cpu", "cuda"),
    )
    precision: str = setting(
        "auto",
        "Numbers that the networks compute with; auto takes bfloat16 where the processor has instructions "
        "for it.",
        choices=("auto", "float32", "bfloat16"),
    )
    engine: str = setting(
        "torch",
        "What runs the networks; onnxruntime is faster on most CPUs, and needs the packages onnx, "
        "onnxruntime and onnxscript.",
        choices=("torch", "onnxruntime"),
    )
    cache_dir: str = setting(
        "", "Folder for the objects' rendered templates; empty: the user's cache folder."
    )


@dataclass(frozen=True)
class Options:
    """Declares how an estimator works.

    Raises:
        VPOGError: a value that cannot be used.
    """

    mode: str = setting(
        "cluster",
        "Templates that are tried: cluster tries the four around each view that retrieval finds, global "
        "tries all 162, which is slower.",
        choices=("cluster", "global"),
    )
    hypotheses: int = setting(
        2, "Views tried for each detection in cluster mode.", unit="views", minimum=1, maximum=16
    )
    retry_views: int = setting(
        16,
        "Further views tried, in cluster mode, where the best pose's score is lower than retry_below_score.",
        unit="views",
        minimum=0,
        maximum=16,
    )
    retry_below_score: float = setting(
        0.7, "Score of the best pose below which retry_views more views are tried.", minimum=0.0, maximum=1.0
    )
    rolls: int = setting(
        2,
        "In-plane turns each group of views is tried at in global mode.",
        unit="turns",
        minimum=1,
        maximum=12,
    )
    refinements: int = setting(
        1, "Times, at most, a pose is rendered and matched again.", unit="times", minimum=0, maximum=10
    )
    refiner_rounds: int = setting(
        2,
        "Rounds of the refiner network, which compares a render at the pose with the image; 0 turns the "
        "refiner and tracking off.",
        unit="rounds",
        minimum=0,
        maximum=10,
    )
    alignments: int = setting(
        2,
        "Rounds, at most, of aligning the rendered object with the full image; where the refiner corrects "
        "poses, it takes the place of the first. 0 turns off alignment, also by the refiner and by outlines, "
        "and leaves the similarity of render and image out of the score.",
        unit="rounds",
        minimum=0,
        maximum=10,
    )
    alternatives: int = setting(
        0,
        "Next best poses, of different views, returned beside the best; a tracked pose has none.",
        unit="poses",
        minimum=0,
        maximum=15,
    )
    samples: int = setting(
        0, "Poses drawn from the distribution of each pose.", unit="poses", minimum=0, maximum=1000
    )
    match_level: str = setting(
        "pixel",
        "Density of the matches: pixel takes every fourth pixel, patch takes one place for each patch, "
        "which is sixteen times fewer.",
        choices=("pixel", "patch"),
    )
    match_patches: int = setting(
        1,
        "Template patches that the place of a match is averaged over: the likeliest and its likeliest "
        "neighbours.",
        unit="patches",
        minimum=1,
        maximum=9,
    )
    match_min_confidence: float = setting(
        0.02, "Matches of a lower confidence are left out.", minimum=0.0, maximum=0.99
    )
    match_merge: bool = setting(
        True,
        "Merge points of several templates that agree on one pixel of the image.",
        off="Keep points of several templates apart that agree on one pixel of the image.",
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class TrackerSettings:
    """Declares when a track is trusted.

    In synthetic images 92 % of the correct tracked poses score 0.4 or more, 5 % of those that are off by 30 %
    of the diameter or more, and 2 % of those of wholly hidden objects. The objects of the last result are
    remembered however long ago that was, as results may come once in ten seconds.

    Raises:
        VPOGError: a value that cannot be used.
    """

    min_score: float = setting(
        0.4,
        "A tracked object of a lower score is searched for among all views if it is detected, and lost "
        "where it is not.",
        minimum=0.0,
        maximum=1.0,
    )
    retrieve_every: int = setting(
        30,
        "Frames after which a tracked object is searched for among all views again; 0: never.",
        unit="frames",
        minimum=0,
        maximum=10000,
    )
    max_gap: float = setting(
        1.0,
        "Time for which an object that has no pose is remembered; at least until the next result.",
        unit="s",
        minimum=0.05,
        maximum=60.0,
    )
    without_detections: bool = setting(
        True,
        "Track an object also in images where no detection shows it; ObjectPose.detected tells such poses "
        "from others.",
        off="Track objects only in images where a detection shows them.",
    )
    max_age: float = setting(
        5.0,
        "Time after its last detection for which an object is tracked.",
        unit="s",
        minimum=0.05,
        maximum=MAX_AGE_S,
    )

    def __post_init__(self) -> None:
        check(self)


DEFAULT_OPTIONS = Options()
DEFAULT_TRACKER_SETTINGS = TrackerSettings()
