"""Implement `vpog replay`: poses of ROS 2 bags without ROS."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vpog_core.cli.cluster import absolute_paths, add_cluster, run_each
from vpog_core.cli.flags import add_flag, add_flags, add_unit, values_of
from vpog_core.cli.known_pose import unused_flags
from vpog_core.cli.record_demo import add_storage
from vpog_core.inference.constraint_settings import ConstraintSettings
from vpog_core.inference.options import MORE_POSES, LoadSettings, Options
from vpog_core.replay.settings import ReplaySettings
from vpog_core.setting import settings_of
from vpog_core.types import VPOGError

HELP = """\
Estimate poses of a recorded bag (MCAP or SQLite), without ROS. Images, camera calibrations and 2D detections
are read and paired as the node does; no frame is dropped. Objects that were found are followed in images that
have no detections. Into --output go

  poses/       a bag with the results on the node's topics: ObjectPoseArray, PoseStamped, frames on /tf,
               meshes as markers, overlay and flow images; RViz, Foxglove and `ros2 bag play` open it
  meshes/      the meshes that the markers show
  overlay.mp4  the overlays as a video
  poses.csv    a row for each detection or followed object: metres, quaternion, score, why there is no pose

A replay that was stopped or killed is resumed by the same command."""

EXAMPLE = """\
examples:
  vpog record-demo demo_bag
  vpog replay demo_bag --objects-dir demo_bag_objects --output demo_poses
  vpog replay kitchen.mcap --objects-dir meshes --image /camera/color/image_raw --rerun
  vpog replay monday/*.mcap --objects-dir meshes --output monday_poses --cluster tcp://10.0.0.1:8786
Exit status: 0 poses were found, 1 none, 2 unusable input, 130 stopped."""


def add_command(add) -> None:
    """Register the subcommand; `add(name, summary, description, epilog, run)` gives its parser."""
    parser = add("replay", "find the poses of a recorded bag", HELP, EXAMPLE, run_replay)
    parser.add_argument(
        "bag",
        nargs="+",
        metavar="BAG",
        help="folder of a bag, or its .mcap or .db3 file; several go one by one",
    )
    parser.add_argument("--objects-dir", required=True, metavar="DIR", help="folder of meshes")
    add_unit(parser)
    parser.add_argument(
        "--output",
        default="vpog_replay",
        metavar="DIR",
        help="of several bags, with a folder for each (default: %(default)s)",
    )
    add_cluster(parser)
    parser.add_argument("--restart", action="store_true", help="start again from the first frame")
    for name, what in (("image", "images"), ("camera-info", "calibrations"), ("detections", "detections")):
        parser.add_argument(f"--{name}", metavar="TOPIC", help=f"topic of the {what}, where several fit")
    own = settings_of(ReplaySettings)
    add_flag(parser, "without_detections", own.pop("without_detections"), "--only-detected")
    add_flags(parser, ReplaySettings, *own)
    parser.add_argument(
        "--no-images", action="store_true", help="write no images to the bag, which keeps it small"
    )
    parser.add_argument("--rerun", action="store_true", help="also write poses.rrd for the Rerun viewer")
    add_storage(parser)
    known = "where objects stand upright or lie on a plane; plane_frame is found in the bag's transforms"
    add_flags(parser.add_argument_group("known poses", known), ConstraintSettings)
    group = parser.add_argument_group("estimator")
    add_flags(group, LoadSettings)
    add_flags(group, Options, without=MORE_POSES)


def run_replay(arguments: argparse.Namespace) -> int:
    """Run `vpog replay`; returns 0 with poses, 1 without."""
    from vpog_core.threads import usable_cores, use_threads

    use_threads(usable_cores())
    if len(arguments.bag) == 1 and arguments.cluster is None:
        return _replay(argparse.Namespace(**{**vars(arguments), "bag": arguments.bag[0]}))
    return _replay_several(arguments)


def _replay_several(arguments: argparse.Namespace) -> int:
    """Replay bags one by one, or on a cluster; returns the worst of their statuses."""
    paths = [Path(bag).resolve() for bag in arguments.bag]
    # The ending of a file tells its format; dots are part of a folder's name.
    names = [path.name if path.is_dir() else path.stem for path in paths]
    for name in names:
        if names.count(name) > 1:
            raise VPOGError(
                f"Several bags are called '{name}': give them one by one, each with its --output."
            )
    given = absolute_paths(arguments, "objects_dir", "weights", "refiner_weights", "cache_dir", "output")
    jobs = [
        argparse.Namespace(**{**given, "bag": str(path), "output": str(Path(given["output"], name))})
        for path, name in zip(paths, names, strict=True)
    ]
    return run_each(_replay, {job.bag: job for job in jobs}, arguments.cluster)


def _replay(arguments: argparse.Namespace) -> int:
    """Replay one bag; returns 0 with poses, 1 without."""
    from vpog_core.cli import files
    from vpog_core.inference.estimator import PoseEstimator
    from vpog_core.replay.bag_reader import open_bag
    from vpog_core.replay.journal import open_journal
    from vpog_core.replay.replay import Replay, plan_of
    from vpog_core.replay.results import check_places

    settings = _settings(arguments)
    files.check_output(settings.output)
    check_places(settings.output)
    if settings.rerun:
        from vpog_core.replay.rerun_log import check_rerun

        check_rerun()
    with open_bag(settings.bag) as bag:
        chosen = values_of(arguments, LoadSettings) | values_of(arguments, Options)
        estimator = PoseEstimator(arguments.objects_dir, unit=arguments.unit, **chosen)
        # Check the bag and the output before the objects are onboarded, which may take minutes.
        prepared = Replay.prepare(settings, bag, estimator.library)
        for sentence in prepared.left_out:
            print(f"vpog: {sentence}", file=sys.stderr, flush=True)
        plan = plan_of(settings, estimator, bag, prepared)
        with _writing(settings.output), open_journal(settings.output, plan, arguments.restart) as journal:
            for name, sentence in files.onboard_with_progress(estimator).items():
                print(f"vpog: '{name}' is left out. {sentence}", file=sys.stderr, flush=True)
            summary = _run(Replay(settings, estimator, bag, prepared, journal))
    _print_end(summary, settings)
    return 0 if summary.poses else 1


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    """Raise what the file system refuses as a VPOGError."""
    try:
        yield
    except OSError as error:
        raise VPOGError(
            f"The results cannot be written into '{output}' ({error.strerror or error}): choose another "
            "--output, on a disk with room."
        ) from error


def _run(replay):
    """Run a replay and return its summary; where it is stopped, print how many frames are done."""
    _print_start(replay)
    try:
        return replay.run()
    except KeyboardInterrupt:
        done = len(replay.journal.results)
        print(f"vpog: {done} frames are done: the same command resumes there.", file=sys.stderr)
        raise


def _settings(arguments: argparse.Namespace) -> ReplaySettings:
    if sentence := unused_flags(arguments):
        raise VPOGError(sentence)
    return ReplaySettings(
        bag=Path(arguments.bag),
        output=Path(arguments.output),
        image=arguments.image,
        camera_info=arguments.camera_info,
        detections=arguments.detections,
        constraints=ConstraintSettings(**values_of(arguments, ConstraintSettings)),
        images=not arguments.no_images,
        storage=arguments.storage,
        rerun=arguments.rerun,
        **values_of(arguments, ReplaySettings),
    )


def _print_start(replay) -> None:
    topics, pairs = replay.topics, replay.pairs
    print(f"images {topics.image}, calibration {topics.camera_info}, detections {topics.detections}")
    unpaired = f", {pairs.num_unpaired} of them without detections" if pairs.num_unpaired else ""
    print(
        f"{pairs.images} images, {pairs.detections} messages of detections: "
        f"{len(pairs.frames)} frames{unpaired}.",
        flush=True,
    )
    done = len(replay.journal.results)
    if done:
        print(f"{done} of {len(pairs.frames)} frames were done before: the rest is done now.", flush=True)


def _print_end(summary, settings) -> None:
    parts = [f"{summary.frames} frames: {summary.poses} poses"]
    for number, what in (
        (summary.unsure, "poses under --min-score"),
        (summary.none, "detections without a pose"),
        (summary.failed, "frames that could not be used"),
    ):
        if number:
            parts.append(f"{number} {what}")
    print(f"{', '.join(parts)}; {summary.seconds:.2f} s a frame.")
    print(f"results: {settings.output}")
