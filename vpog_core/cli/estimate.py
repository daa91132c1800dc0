"""Implement `vpog estimate`: find the poses of objects in one image."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import numpy as np

from vpog_core.cli.estimate_results import draw_results, print_end
from vpog_core.cli.estimators import add_model, estimator_for, is_mesh_file
from vpog_core.cli.flags import Once, add_unit
from vpog_core.cli.from_dump import missing_inputs, run_from_dump
from vpog_core.cli.known_pose import add_known_pose, known_constraints, known_settings
from vpog_core.types import Detection

HELP = """\
Estimate the poses of objects in one image, or those of a frame that the node dumped.

Say where the object is with --box or --mask, and what it is with --object: a mesh
file, or the name of an object in --objects-dir. Or name several objects of --objects-dir
in a file, with --detections. Prints the poses in the camera frame and draws overlay.png
(and match.png of a single object) into --output; without a pose the overlay shows the
box. A score is the probability that the pose is right."""

EXAMPLE = """\
example:
  vpog estimate --image frame.png --camera camera.yaml --box 210 120 330 260 \\
      --object mug.obj --unit mm
  vpog estimate --image frame.png --camera camera.yaml --objects-dir meshes \
      --detections detections.json
  vpog estimate --from dumps/frame_1700000000.000000000

The camera file is a calibration of ROS, OpenCV's FileStorage or Kalibr (YAML, JSON
or XML), for the image as it is, or simply:
  {fx: 600, fy: 600, cx: 319.5, cy: 239.5, width: 640, height: 480}
A file of detections is a list, JSON or YAML; masks lie beside it:
  [{object: mug, box: [210, 120, 330, 260]}, {object: drill, mask: drill.png, score: 0.9}]
Exit status: 0 a pose was found, 1 no pose, 2 unusable input."""


def add_command(add) -> None:
    """Register the subcommand; `add(name, summary, description, epilog, run)` gives its parser."""
    parser = add("estimate", "find the poses of objects in an image", HELP, EXAMPLE, run_estimate)
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
    place.add_argument(
        "--detections",
        action=Once,
        metavar="FILE",
        help="objects of --objects-dir, and where they are",
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
    """Run `vpog estimate`; returns 0 where a pose was found, 1 where none was."""
    if missing := missing_inputs(arguments):
        arguments.refuse(missing)
    if arguments.dump is not None:
        return run_from_dump(arguments)
    from vpog_core.cli import files
    from vpog_core.geometry.boxes import usable_box
    from vpog_core.io.camera_file import read_camera
    from vpog_core.io.image_file import read_image

    # Read and check all inputs.
    known = known_settings(arguments)
    image = read_image(arguments.image)
    camera = read_camera(arguments.camera, image.shape[:2])
    detections = _detections(arguments, image.shape[:2])
    for detection in detections:
        usable_box(detection.box, camera)
    files.check_output(arguments.output)
    # Onboard the objects, and estimate their poses.
    with estimator_for(arguments) as (estimator, object_id):
        alone = object_id is not None and is_mesh_file(arguments.object, arguments.objects_dir)
        constraints = known_constraints(known, estimator.library, alone)
        resolve = estimator.library.resolve
        detections = [replace(d, class_id=object_id or resolve(d.class_id)) for d in detections]
        for name in dict.fromkeys(d.class_id for d in detections):
            if not alone:
                files.print_notes(estimator.library.mesh(name))
            files.onboard_with_progress(estimator, name, arguments.object if alone else None)
        estimates = estimator.estimate(image, camera, detections, constraints=constraints)
        images = draw_results(arguments.output, image, camera, detections, estimates, estimator.library)
    # Print the poses, and where their images are.
    if arguments.json:
        values = [files.pose_dict(estimate) for estimate in estimates]
        print(json.dumps(values if arguments.detections else values[0], indent=2))
    else:
        print("\n".join(files.pose_text(estimate) for estimate in estimates))
    print_end(arguments, estimates, images)
    return 0 if any(e.T_cam_obj is not None for e in estimates) else 1


def _detections(arguments: argparse.Namespace, size: tuple[int, int]) -> list[Detection]:
    """Return what the flags say of where objects are in an image of a size (height, width)."""
    from vpog_core.geometry.boxes import box_of_mask
    from vpog_core.io.detections_file import read_detections_file
    from vpog_core.io.mask_file import read_mask

    if arguments.detections is not None:
        return read_detections_file(arguments.detections, size)
    if arguments.mask is None:
        return [Detection(arguments.object, np.array(arguments.box, dtype=np.float64))]
    mask = read_mask(arguments.mask, size)
    return [Detection(arguments.object, box_of_mask(mask), mask=mask)]
