"""Implement the `vpog` command: poses from image files and a demonstration, without ROS."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from vpog_core import __version__
from vpog_core.cli.bench import add_command as add_bench
from vpog_core.cli.calibrate import add_command as add_calibrate
from vpog_core.cli.cluster import add_cluster, onboard_on_cluster
from vpog_core.cli.data import add_data
from vpog_core.cli.evaluate import add_command as add_evaluate
from vpog_core.cli.export import add_command as add_export
from vpog_core.cli.flags import add_flags, add_unit, values_of
from vpog_core.cli.from_dump import missing_inputs, run_from_dump
from vpog_core.cli.known_pose import add_known_pose, known_constraints
from vpog_core.cli.numbers import count, positive
from vpog_core.cli.publish import add_command as add_publish
from vpog_core.cli.record import add_command as add_record
from vpog_core.cli.replay import add_commands as add_replay
from vpog_core.cli.symmetry import add_command as add_symmetry
from vpog_core.cli.train import add_command as add_train
from vpog_core.inference.options import LoadSettings, Options
from vpog_core.threads import usable_cores, use_threads
from vpog_core.types import Detection, VPOGError

_ESTIMATE_HELP = """\
Estimate the pose of one object in one image, or the poses of a frame that the node dumped.

Say where the object is with --box or --mask, and what it is with --object: a mesh
file, or the name of an object in --objects-dir. Prints the pose in the camera frame
and draws overlay.png and match.png into --output."""

_ESTIMATE_EXAMPLE = """\
example:
  vpog estimate --image frame.png --camera camera.yaml --box 210 120 330 260 \\
      --object mug.obj --unit mm
  vpog estimate --from dumps/frame_1700000000.000000000

The camera file is a calibration of ROS, OpenCV's FileStorage or Kalibr (YAML, JSON
or XML), for the image as it is, or simply:
  {fx: 600, fy: 600, cx: 319.5, cy: 239.5, width: 640, height: 480}
Exit status: 0 a pose was found, 1 no pose, 2 unusable input."""

_ONBOARD_HELP = """\
Onboard an object, or all objects of a folder: render 162 template views, encode them, and
store both in the cache, so that the first estimate is fast. Prints the size of each mesh;
check it, as a wrong unit is the most common mistake. Meshes of a folder that cannot be
used are reported and left out."""

_ONBOARD_EXAMPLE = """\
example:
  vpog onboard mug.obj --unit mm --output mug_views
  vpog onboard meshes/
Exit status: 0 every object can be used, 1 some of a folder cannot, 2 none can."""

_DEMO_HELP = """\
Estimate poses of objects unseen in training, which move through a cluttered scene, and
compare them with the true ones. Prints a line for each object and one over all; draws
overlays and matches into --output."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except VPOGError as error:
        print(f"vpog: {error}", file=sys.stderr)
        return 2


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of `vpog` and its subcommands; each sets `run`."""
    parser = argparse.ArgumentParser(
        prog="vpog",
        description="6D pose of objects known by their mesh alone, from one RGB image.",
        epilog="`vpog COMMAND --help` tells more about each command.",
    )
    parser.add_argument("--version", action="version", version=f"vpog {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add = partial(_add_command, commands)
    _add_estimate(add)
    _add_onboard(add)
    _add_demo(add)
    add_train(add)
    add_calibrate(add)
    add_evaluate(add)
    add_publish(add)
    add_record(add)
    add_symmetry(add)
    add_bench(add)
    add_export(add)
    add_data(commands)
    add_replay(add)
    parser.set_defaults(parse=parser.parse_args)  # for commands that run other ones
    return parser


def _add_command(commands, name: str, summary: str, description: str, epilog: str, run):
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_estimate(add) -> None:
    parser = add(
        "estimate", "find an object's pose in an image", _ESTIMATE_HELP, _ESTIMATE_EXAMPLE, run_estimate
    )
    parser.add_argument(
        "--from", dest="dump", metavar="DUMP", help="find the poses of a frame again that ~/dump has written"
    )
    parser.add_argument(
        "--image", metavar="FILE", help="the image, PNG or JPEG, as stored: EXIF turns nothing"
    )
    parser.add_argument("--camera", metavar="FILE", help="its calibration, of ROS, OpenCV or Kalibr")
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--box", nargs=4, type=float, metavar=("X0", "Y0", "X1", "Y1"), help="pixels of the object's corners"
    )
    place.add_argument(
        "--mask", metavar="FILE", help="image of the same size, black or transparent around it"
    )
    parser.add_argument("--object", metavar="MESH_OR_ID", help="mesh file, or name in DIR")
    parser.add_argument("--objects-dir", metavar="DIR", help="folder of meshes (and objects.yaml)")
    add_unit(parser)
    add_known_pose(parser)
    _add_model(parser)
    parser.set_defaults(refuse=parser.error)
    parser.add_argument("--json", action="store_true", help="print the pose as JSON (metres, radians)")
    parser.add_argument(
        "--output", default="vpog_output", metavar="DIR", help="where the images go (default: %(default)s)"
    )


def _add_onboard(add) -> None:
    parser = add("onboard", "prepare objects from their meshes", _ONBOARD_HELP, _ONBOARD_EXAMPLE, run_onboard)
    parser.add_argument(
        "mesh",
        metavar="MESH",
        help="mesh file, .ply, .obj, .glb, .gltf or .stl, or a folder of them (and objects.yaml)",
    )
    add_unit(parser)
    add_flags(parser, LoadSettings)
    parser.add_argument("--output", metavar="DIR", help="also draw the template views into DIR")
    workers = "processes that onboard the objects of a folder (default: one for each core)"
    parser.add_argument("--workers", type=positive, default=usable_cores(), metavar="N", help=workers)
    add_cluster(parser)


def _add_demo(add) -> None:
    parser = add(
        "demo",
        "estimate poses in a made-up scene and compare with the truth",
        _DEMO_HELP,
        "example:\n  vpog demo --frames 20 --output demo_output",
        run_demo,
    )
    parser.add_argument("--frames", type=positive, default=20, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--objects", type=positive, default=3, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seed", type=count, default=0, help="another scene (default: %(default)s)")
    _add_model(parser)
    parser.add_argument(
        "--output", default="demo_output", metavar="DIR", help="where the images go (default: %(default)s)"
    )


def _add_model(parser) -> None:
    """Add flags for all settings of an estimator, as a group of their own in the help."""
    group = parser.add_argument_group("estimator")
    add_flags(group, LoadSettings)
    add_flags(group, Options)


def run_estimate(arguments: argparse.Namespace) -> int:
    """Run `vpog estimate`; returns 0 with a pose, 1 without."""
    if missing := missing_inputs(arguments):
        arguments.refuse(missing)
    if arguments.dump is not None:
        return run_from_dump(arguments)
    from vpog_core.cli import files
    from vpog_core.geometry.boxes import outer_box, usable_box
    from vpog_core.io.camera_file import read_camera
    from vpog_core.io.image_file import read_image
    from vpog_core.io.mask_file import read_mask

    # Read and check all inputs.
    image = read_image(arguments.image)
    camera = read_camera(arguments.camera, image.shape[:2])
    mask = None if arguments.mask is None else read_mask(arguments.mask, image.shape[:2])
    box = np.array(arguments.box, dtype=np.float64) if mask is None else outer_box(mask)
    usable_box(box, camera)
    files.check_output(arguments.output)
    # Onboard the object, and estimate its pose.
    with _estimator_for(arguments) as (estimator, object_id):
        constraints = known_constraints(arguments, estimator.library)
        alone = _is_mesh_file(arguments.object, arguments.objects_dir)
        files.onboard_with_progress(estimator, object_id, arguments.object if alone else None)
        detection = Detection(class_id=object_id, box=box, mask=mask)
        estimate = estimator.estimate(image, camera, [detection], constraints=constraints)[0]
        _draw_estimate(arguments.output, image, camera, estimate, estimator.library.mesh(object_id))
    # Print the pose.
    print(json.dumps(files.pose_dict(estimate), indent=2) if arguments.json else files.pose_text(estimate))
    return 0 if estimate.T_cam_obj is not None else 1


def run_onboard(arguments: argparse.Namespace) -> int:
    """Run `vpog onboard`; returns 0 if every object can be used, 1 if some are left out."""
    from vpog_core.cli import files
    from vpog_core.cli.sheet import mesh_description, template_sheet

    if arguments.output:
        files.check_output(arguments.output)
    with _estimator_to_onboard(arguments) as estimator:
        library = estimator.library
        broken = library.broken()
        usable = [object_id for object_id in library.ids if object_id not in broken]
        _print_left_out(broken if usable else {})
        for object_id in usable:
            print(mesh_description(object_id, library.mesh(object_id)), flush=True)
        alone = None if Path(arguments.mesh).is_dir() else arguments.mesh
        if arguments.cluster is not None:
            onboard_on_cluster(arguments, usable)
        left_out = files.onboard_with_progress(estimator, mesh=alone, workers=arguments.workers)
        _print_left_out({name: left_out[name] for name in left_out if name not in broken})
        for object_id in usable if arguments.output else ():
            # A name from a settings file may hold any characters.
            safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in object_id)
            name = "templates.png" if len(library.ids) == 1 else f"templates_{safe}.png"
            sheet = template_sheet(library.mesh(object_id))
            files.write_png(files.output_folder(arguments.output) / name, sheet)
    return 1 if left_out else 0


@contextmanager
def _estimator_to_onboard(arguments):
    """Make the estimator of the mesh or folder of meshes that `vpog onboard` is given."""
    if not Path(arguments.mesh).is_dir():
        arguments.object, arguments.objects_dir = arguments.mesh, None
        with _estimator_for(arguments) as (estimator, _):
            yield estimator
        return
    if arguments.unit != "auto":
        raise VPOGError("--unit is for one mesh: set the units of a folder's objects in objects.yaml there.")
    yield _estimator(arguments, arguments.mesh)


def _print_left_out(left_out: dict[str, str]) -> None:
    for object_id, sentence in left_out.items():
        print(f"vpog: '{object_id}' is left out. {sentence}", file=sys.stderr, flush=True)


def run_demo(arguments: argparse.Namespace) -> int:
    """Run `vpog demo`."""
    from vpog_core.cli.demo import demo

    return demo(
        frames=arguments.frames,
        objects=arguments.objects,
        seed=arguments.seed,
        output=arguments.output,
        **_estimator_arguments(arguments),
    )


@contextmanager
def _estimator_for(arguments):
    """Return (estimator, object id) for --object, --objects-dir and --unit; a mesh file is a library."""
    from vpog_core.cli import files

    if _is_mesh_file(arguments.object, arguments.objects_dir):
        with tempfile.TemporaryDirectory(prefix="vpog_") as folder:
            object_id = files.stage_mesh(arguments.object, arguments.unit, Path(folder))
            yield _estimator(arguments, folder), object_id
        return
    if arguments.objects_dir is None:
        raise VPOGError(
            f"'{arguments.object}' is not a mesh file: give one, or a folder of meshes with --objects-dir."
        )
    if arguments.unit != "auto":
        raise VPOGError(
            "--unit is for a mesh file: set the unit of an object in --objects-dir in objects.yaml there."
        )
    estimator = _estimator(arguments, arguments.objects_dir)
    object_id = estimator.library.resolve(arguments.object)
    files.print_notes(estimator.library.mesh(object_id))
    yield estimator, object_id


def _estimator(arguments, objects_dir: str):
    """Make the estimator that the flags ask for, on all cores this process may use."""
    from vpog_core.inference.estimator import PoseEstimator

    use_threads(usable_cores())
    return PoseEstimator(objects_dir, **_estimator_arguments(arguments))


def _estimator_arguments(arguments) -> dict:
    return values_of(arguments, LoadSettings) | values_of(arguments, Options)


def _is_mesh_file(name: str, objects_dir: str | None) -> bool:
    from vpog_core.objects.mesh import MESH_SUFFIXES

    if objects_dir is not None and not Path(name).is_file():
        return False
    return Path(name).suffix.lower() in MESH_SUFFIXES or Path(name).is_file()


def _draw_estimate(output, image, camera, estimate, mesh) -> None:
    """Write overlay.png and match.png of one estimate; without a pose there is no overlay."""
    from vpog_core.cli import files
    from vpog_core.visualization.flow_image import draw_match
    from vpog_core.visualization.overlay import draw_pose

    folder = files.output_folder(output)
    if estimate.T_cam_obj is not None:
        label = f"{estimate.class_id}  {estimate.score:.2f}"
        overlay = draw_pose(image, camera, estimate.T_cam_obj, mesh.vertices, mesh.faces, label=label)
        files.write_png(folder / "overlay.png", overlay)
    if estimate.match is not None:
        files.write_png(folder / "match.png", draw_match(estimate.match))
