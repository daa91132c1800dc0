"""Implement `vpog estimate`: find the pose of one object in one image."""

from __future__ import annotations

import argparse
import json

import numpy as np

from vpog_core.cli.estimate_results import draw_results, print_end
from vpog_core.cli.estimators import add_model, estimator_for, is_mesh_file
from vpog_core.cli.flags import Once, add_unit
from vpog_core.cli.from_dump import missing_inputs, run_from_dump
from vpog_core.cli.known_pose import add_known_pose, known_constraints, known_settings
from vpog_core.types import Detection

HELP = """\
Estimate the pose of one object in one image, or the poses of a frame that the node dumped.

Say where the object is with --box or --mask, and what it is with --object: a mesh
file, or the name of an object in --objects-dir. Prints the pose in the camera frame
and draws overlay.png and match.png into --output; without a pose the overlay shows the
box. A score is the probability that the pose is right."""

EXAMPLE = """\
example:
  vpog estimate --image frame.png --camera camera.yaml --box 210 120 330 260 \\
      --object mug.obj --unit mm
  vpog estimate --from dumps/frame_1700000000.000000000

The camera file is a calibration of ROS, OpenCV's FileStorage or Kalibr (YAML, JSON
or XML), for the image as it is, or simply:
  {fx: 600, fy: 600, cx: 319.5, cy: 239.5, width: 640, height: 480}
Exit status: 0 a pose was found, 1 no pose, 2 unusable input."""


def add_command(add) -> None:
    """Register the subcommand; `add(name, summary, description, epilog, run)` gives its parser."""
    parser = add("estimate", "find an object's pose in an image", HELP, EXAMPLE, run_estimate)
    parser.add_argument(
        "--from", dest="dump", metavar="DUMP", help="find the poses of a frame again that ~/dump has written"
    )
    parser.add_argument(
        "--image", metavar="FILE", help="the image, PNG or JPEG, as stored: EXIF turns nothing"
    )
    parser.add_argument("--camera", metavar="FILE", help="its calibration, of ROS, OpenCV or Kalibr")
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--box",
        nargs=4,
        type=float,
        action=Once,
        metavar=("X0", "Y0", "X1", "Y1"),
        help="pixels of the object's corners",
    )
    place.add_argument(
        "--mask", action=Once, metavar="FILE", help="image of the same size, black or transparent around it"
    )
    parser.add_argument("--object", metavar="MESH_OR_ID", help="mesh file, or name in DIR")
    parser.add_argument("--objects-dir", metavar="DIR", help="folder of meshes (and objects.yaml)")
    add_unit(parser)
    add_known_pose(parser)
    add_model(parser)
    parser.set_defaults(refuse=parser.error)
    parser.add_argument("--json", action="store_true", help="print the pose as JSON (metres, radians)")
    parser.add_argument(
        "--output", default="vpog_output", metavar="DIR", help="where the images go (default: %(default)s)"
    )


def run_estimate(arguments: argparse.Namespace) -> int:
    """Run `vpog estimate`; returns 0 with a pose, 1 without."""
    if missing := missing_inputs(arguments):
        arguments.refuse(missing)
    if arguments.dump is not None:
        return run_from_dump(arguments)
    from vpog_core.cli import files
    from vpog_core.geometry.boxes import box_of_mask, usable_box
    from vpog_core.io.camera_file import read_camera
    from vpog_core.io.image_file import read_image
    from vpog_core.io.mask_file import read_mask

    # Read and check all inputs.
    known = known_settings(arguments)
    image = read_image(arguments.image)
    camera = read_camera(arguments.camera, image.shape[:2])
    mask = None if arguments.mask is None else read_mask(arguments.mask, image.shape[:2])
    box = np.array(arguments.box, dtype=np.float64) if mask is None else box_of_mask(mask)
    usable_box(box, camera)
    files.check_output(arguments.output)
    # Onboard the object, and estimate its pose.
    with estimator_for(arguments) as (estimator, object_id):
        alone = is_mesh_file(arguments.object, arguments.objects_dir)
        constraints = known_constraints(known, estimator.library, alone)
        files.onboard_with_progress(estimator, object_id, arguments.object if alone else None)
        detection = Detection(class_id=object_id, box=box, mask=mask)
        estimate = estimator.estimate(image, camera, [detection], constraints=constraints)[0]
        results = [detection], [estimate], estimator.library
        images = draw_results(arguments.output, image, camera, *results)
    # Print the pose, and where its images are.
    print(json.dumps(files.pose_dict(estimate), indent=2) if arguments.json else files.pose_text(estimate))
    print_end(arguments, [estimate], images)
    return 0 if estimate.T_cam_obj is not None else 1
