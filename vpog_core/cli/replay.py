"""`vpog replay` and `vpog record-demo`: bags of ROS 2, without ROS."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vpog_core.cli.cluster import absolute_paths, add_cluster, run_each
from vpog_core.cli.export import add_engine
from vpog_core.cli.numbers import count, fraction, positive, seconds
from vpog_core.types import VPOGError

REPLAY_HELP = """\
Poses of a recorded bag (MCAP or SQLite), without ROS. Images, camera calibrations and 2D detections are
read and paired as the node does; no frame is dropped. Objects that were found are followed in images that
have no detections. Into --output go

  poses/       a bag with the results on the node's topics: ObjectPoseArray, PoseStamped, frames on /tf,
               meshes as markers, overlay and flow images; RViz, Foxglove and `ros2 bag play` open it
  meshes/      the meshes that the markers show
  overlay.mp4  the overlays as a video
  poses.csv    a row for each detection or followed object: metres, quaternion, score, why there is no pose

A replay that was stopped or killed goes on where it was when the same command is given again."""

REPLAY_EXAMPLE = """\
examples:
  vpog record-demo demo_bag
  vpog replay demo_bag --objects-dir demo_bag_objects --output demo_poses
  vpog replay kitchen.mcap --objects-dir meshes --image /camera/color/image_raw --rerun
  vpog replay monday/*.mcap --objects-dir meshes --output monday_poses --cluster tcp://10.0.0.1:8786
Exit status: 0 poses were found, 1 none, 2 unusable input, 130 stopped."""

RECORD_HELP = """\
Write a bag of the demo camera, which looks at a moving scene of three textured objects: images, calibration,
boxes with a detector's small errors, and the true poses. The meshes go into the folder beside it."""

RECORD_EXAMPLE = """\
example:
  vpog record-demo demo_bag --frames 30
Exit status: 0 done, 2 the bag cannot be written."""


def add_commands(add) -> None:
    """Register both subcommands; `add(name, summary, description, epilog, run)` gives a parser."""
    _add_replay(add("replay", "find the poses of a recorded bag", REPLAY_HELP, REPLAY_EXAMPLE, run_replay))
    _add_record(add("record-demo", "write a bag to try replay with", RECORD_HELP, RECORD_EXAMPLE, run_record))


def _add_replay(parser) -> None:
    parser.add_argument(
        "bag",
        nargs="+",
        metavar="BAG",
        help="folder of a bag, or its .mcap or .db3 file; several go one by one",
    )
    parser.add_argument("--objects-dir", required=True, metavar="DIR", help="folder of meshes")
    parser.add_argument(
        "--output",
        default="vpog_replay",
        metavar="DIR",
        help="of several bags, with a folder for each (default: %(default)s)",
    )
    add_cluster(parser)
    parser.add_argument("--restart", action="store_true", help="begin anew, whatever was done before")
    for name, what in (("image", "images"), ("camera-info", "calibrations"), ("detections", "detections")):
        parser.add_argument(f"--{name}", metavar="TOPIC", help=f"topic of the {what}, where several fit")
    parser.add_argument("--rectified", action="store_true", help="the images are rectified: use P")
    parser.add_argument(
        "--max-detections", type=positive, default=16, metavar="N", help="of one frame (default: %(default)s)"
    )
    parser.add_argument(
        "--min-score",
        type=fraction,
        default=0.05,
        metavar="S",
        help="poses under it are not published, and drawn grey (default: %(default)s)",
    )
    parser.add_argument("--no-tracking", action="store_true", help="look at each frame by itself")
    parser.add_argument(
        "--only-detected",
        action="store_true",
        help="answer no image, and follow no object, without detections",
    )
    parser.add_argument(
        "--detector-timeout",
        type=seconds,
        default=0.5,
        metavar="S",
        help="images wait so long for detections before they are answered without (default: %(default)s)",
    )
    parser.add_argument(
        "--max-age",
        type=seconds,
        default=5.0,
        metavar="S",
        help="an object is followed so long after its last detection (default: %(default)s)",
    )
    parser.add_argument("--no-images", action="store_true", help="no images in the bag, which keeps it small")
    parser.add_argument("--rerun", action="store_true", help="also write poses.rrd for the Rerun viewer")
    _add_storage(parser)
    parser.add_argument("--weights", metavar="FILE", help="a .safetensors file (default: the one shipped)")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: %(default)s)"
    )
    add_engine(parser)


def _add_record(parser) -> None:
    parser.add_argument("output", metavar="OUTPUT", help="folder of the bag, made anew")
    parser.add_argument("--frames", type=positive, default=60, metavar="N", help="(default: %(default)s)")
    parser.add_argument(
        "--rate", type=positive, default=10, metavar="HZ", help="frames a second (default: %(default)s)"
    )
    parser.add_argument("--seed", type=count, default=1, help="another scene (default: %(default)s)")
    parser.add_argument(
        "--jitter",
        type=fraction,
        default=0.05,
        metavar="F",
        help="error of the boxes, fraction of their size (default: %(default)s)",
    )
    _add_storage(parser)


def _add_storage(parser) -> None:
    parser.add_argument(
        "--storage", choices=("mcap", "sqlite3"), default="mcap", help="of the bag (default: %(default)s)"
    )


def run_replay(arguments: argparse.Namespace) -> int:
    """`vpog replay`: 0 with poses, 1 without."""
    from vpog_core.threads import usable_cores, use_threads

    use_threads(usable_cores())
    if len(arguments.bag) == 1 and arguments.cluster is None:
        return _replay(argparse.Namespace(**{**vars(arguments), "bag": arguments.bag[0]}))
    return _replay_several(arguments)


def _replay_several(arguments: argparse.Namespace) -> int:
    """Replay bags one by one, or on a cluster; returns the worst of their statuses."""
    names = [Path(bag).resolve().stem for bag in arguments.bag]
    for name in names:
        if names.count(name) > 1:
            raise VPOGError(
                f"Several bags are called '{name}': give them one by one, each with its --output."
            )
    paths = absolute_paths(arguments, "objects_dir", "weights", "output")
    jobs = [
        argparse.Namespace(
            **{**paths, "bag": str(Path(bag).resolve()), "output": str(Path(paths["output"], name))}
        )
        for bag, name in zip(arguments.bag, names, strict=True)
    ]
    return run_each(_replay, {job.bag: job for job in jobs}, arguments.cluster)


def _replay(arguments: argparse.Namespace) -> int:
    """Replay one bag: 0 with poses, 1 without."""
    from vpog_core.cli import files
    from vpog_core.inference.estimator import PoseEstimator
    from vpog_core.replay.bag_reader import open_bag
    from vpog_core.replay.journal import start_anew
    from vpog_core.replay.replay import Replay

    settings = _settings(arguments)
    files.check_output(settings.output)
    if settings.rerun:
        from vpog_core.replay.rerun_log import check_rerun

        check_rerun()
    with open_bag(settings.bag) as bag:
        how = {"device": arguments.device, "engine": arguments.engine}
        estimator = PoseEstimator(arguments.objects_dir, arguments.weights, **how)
        # Before minutes of onboarding: what is wrong with the bag.
        prepared = Replay.prepare(settings, bag)
        for name, sentence in files.onboard_with_progress(estimator).items():
            print(f"vpog: '{name}' is left out. {sentence}", file=sys.stderr, flush=True)
        if arguments.restart:
            start_anew(settings.output)
        replay = Replay(settings, estimator, bag, prepared)
        _tell_start(replay)
        try:
            summary = replay.run()
        except KeyboardInterrupt:
            done = len(replay.journal.results)
            print(f"vpog: {done} frames are done: the same command goes on from there.", file=sys.stderr)
            raise
    _tell_end(summary, settings)
    return 0 if summary.poses else 1


def _settings(arguments: argparse.Namespace):
    from vpog_core.replay.settings import ReplaySettings

    return ReplaySettings(
        bag=Path(arguments.bag),
        output=Path(arguments.output),
        image=arguments.image,
        camera_info=arguments.camera_info,
        detections=arguments.detections,
        rectified=arguments.rectified,
        max_detections=arguments.max_detections,
        tracking=not arguments.no_tracking,
        without_detections=not arguments.only_detected,
        detector_timeout=arguments.detector_timeout,
        max_age=arguments.max_age,
        min_score=arguments.min_score,
        images=not arguments.no_images,
        storage=arguments.storage,
        rerun=arguments.rerun,
    )


def _tell_start(replay) -> None:
    topics, pairs = replay.topics, replay.pairs
    print(f"images {topics.image}, calibration {topics.camera_info}, detections {topics.detections}")
    alone = f", {pairs.alone} of them without detections" if pairs.alone else ""
    print(
        f"{pairs.images} images, {pairs.detections} messages of detections: "
        f"{len(pairs.frames)} frames{alone}.",
        flush=True,
    )
    done = len(replay.journal.results)
    if done:
        print(f"{done} of {len(pairs.frames)} frames were done before: the rest is done now.", flush=True)


def _tell_end(summary, settings) -> None:
    told = [f"{summary.frames} frames: {summary.poses} poses"]
    for number, what in (
        (summary.unsure, "poses under --min-score"),
        (summary.none, "detections without a pose"),
        (summary.failed, "frames that could not be used"),
    ):
        if number:
            told.append(f"{number} {what}")
    print(f"{', '.join(told)}; {summary.seconds:.2f} s a frame.")
    print(f"results: {settings.output}")


def run_record(arguments: argparse.Namespace) -> int:
    """`vpog record-demo`."""
    from vpog_core.replay.record_demo import record_demo
    from vpog_core.synthetic.demo_objects import demo_objects, write_objects

    path = Path(arguments.output)
    objects = path.with_name(f"{path.name}_objects")
    for place in (path, objects):
        if place.exists():
            raise VPOGError(f"'{place}' is there already: choose another OUTPUT.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        record_demo(
            path, arguments.frames, arguments.rate, arguments.seed, arguments.jitter, arguments.storage
        )
        write_objects(objects, demo_objects())
    except OSError as error:
        raise VPOGError(f"'{path}' cannot be written ({error.strerror}): choose another OUTPUT.") from error
    print(f"bag: {path}, meshes: {objects}. To find the poses:")
    print(f"  vpog replay {path} --objects-dir {objects}")
    return 0
