"""Implement `vpog estimate --from DUMP`: estimate a frame that the node dumped again, and compare."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from vpog_core.cli.estimate_results import draw_results, print_end
from vpog_core.cli.estimators import check_weights
from vpog_core.cli.flags import given_flags
from vpog_core.cli.known_pose import lacks_plane, unused_flags
from vpog_core.frame_dump.place import check_dump
from vpog_core.inference.constraint_settings import ConstraintSettings
from vpog_core.inference.options import Options

NEEDED = ("image", "camera", "object")


def missing_inputs(arguments: argparse.Namespace) -> str:
    """Return which inputs `vpog estimate` lacks, or which options are of no use; "" if none."""
    places = ("box", "mask", "detections")
    given = [n for n in (*NEEDED, *places, "objects_dir") if getattr(arguments, n) is not None]
    if arguments.dump is not None:
        given += ["unit"] if arguments.unit != "auto" else []
        given += ["precision"] if arguments.precision != "auto" else []
        given += ["engine"] if arguments.engine != "torch" else []
        flags = [f"--{name.replace('_', '-')}" for name in given]
        more = given_flags(arguments, Options) | given_flags(arguments, ConstraintSettings)
        options = ", ".join([*flags, *more])
        return f"not allowed with --from, which has its own: {options}" if options else ""
    several = "detections" in given
    if several and "object" in given:
        return "--object and --detections exclude each other: the file names its objects"
    needed = ("image", "camera", "objects_dir") if several else NEEDED
    missing = [f"--{name.replace('_', '-')}" for name in needed if name not in given]
    if not set(given) & set(places):
        missing.append("--box, --mask or --detections")
    if lacks_plane(arguments):
        missing.append("--plane-normal")
    if missing:
        return f"the following arguments are required: {', '.join(missing)}"
    return unused_flags(arguments)


def run_from_dump(arguments: argparse.Namespace) -> int:
    """Find the poses of a dump: 0 where one was found, 1 where none was."""
    # Torch takes seconds to import: what can be refused without it is refused first.
    check_dump(Path(arguments.dump))
    check_weights(arguments)
    from vpog_core.cli import files
    from vpog_core.frame_dump.read import make_estimator, read_dump
    from vpog_core.threads import usable_cores, use_threads

    # Read the dump, and make the estimator that it describes.
    files.check_output(arguments.output)
    dump = read_dump(arguments.dump, arguments.cache_dir)
    use_threads(usable_cores())
    estimator = make_estimator(dump, arguments.weights, arguments.refiner_weights, arguments.device)
    files.onboard_with_progress(estimator)
    # Estimate again, and draw the poses.
    estimates = estimator.estimate(dump.image, dump.camera, dump.detections, dump.priors, dump.constraints)
    results = dump.detections, estimates, dump.library
    images = draw_results(arguments.output, dump.image, dump.camera, *results)
    # Compare with the poses in the dump.
    differences = [difference(e.T_cam_obj, T) for e, T in zip(estimates, dump.poses, strict=True)]
    if arguments.json:
        found = [files.pose_dict(e) | {"from_dump": d} for e, d in zip(estimates, differences, strict=True)]
        print(json.dumps(found, indent=2))
    else:
        for estimate, from_dump in zip(estimates, differences, strict=True):
            print(files.pose_text(estimate))
            print(f"  {_in_words(from_dump)}")
    print_end(arguments, estimates, images)
    return 0 if any(e.T_cam_obj is not None for e in estimates) else 1


def difference(found: np.ndarray | None, dumped: np.ndarray | None) -> dict | None:
    """Return how far a pose is from the dumped one, metres and radians; None where one of them is none."""
    from vpog_core.geometry.se3 import rotation_angle

    if found is None or dumped is None:
        return None
    return {
        "metres": float(np.linalg.norm(found[:3, 3] - dumped[:3, 3])),
        "radians": float(rotation_angle(found[:3, :3], dumped[:3, :3])),
    }


def _in_words(from_dump: dict | None) -> str:
    if from_dump is None:
        return "there is no dumped pose to compare with, or none was found now"
    millimetres, degrees = 1e3 * from_dump["metres"], np.rad2deg(from_dump["radians"])
    return f"{millimetres:.3f} mm and {degrees:.3f} degrees from the dumped pose"
