"""Draw and print the poses that `vpog estimate` has found in an image."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vpog_core.types import Camera, Detection, PoseEstimate

UNLIKELY = 0.5
"""Score, the probability that a pose is correct, under which it is said to be unlikely."""


def draw_results(
    output: str | Path,
    image: np.ndarray,
    camera: Camera,
    detections: Sequence[Detection],
    estimates: Sequence[PoseEstimate],
    library,
) -> list[Path]:
    """Write overlay.png, where detections without a pose are drawn as boxes, and match.png of a single one.

    A match.png of an earlier run is removed where there is none now.

    Returns:
        the paths of the images.
    """
    from vpog_core.cli import files
    from vpog_core.visualization.estimate_drawing import estimate_drawings
    from vpog_core.visualization.flow_image import draw_match
    from vpog_core.visualization.overlay import draw_box, draw_poses

    folder = files.output_folder(output)
    overlay = draw_poses(image, camera, estimate_drawings(estimates, library, min_score=0.0))
    for detection, estimate in zip(detections, estimates, strict=True):
        if estimate.T_cam_obj is None:
            overlay = draw_box(overlay, detection.box, f"{estimate.class_id}: no pose")
    images = {"overlay.png": overlay}
    match = estimates[0].match if len(estimates) == 1 else None
    if match is not None:
        images["match.png"] = draw_match(match)
    else:
        (folder / "match.png").unlink(missing_ok=True)
    for name, drawn in images.items():
        files.write_png(folder / name, drawn)
    return [folder / name for name in images]


def print_end(arguments: argparse.Namespace, estimates: Sequence[PoseEstimate], images: list[Path]) -> None:
    """Print which poses are unlikely to be right, on stderr, and where the images are."""
    for estimate in estimates:
        if estimate.T_cam_obj is not None and estimate.score < UNLIKELY:
            print(
                f"vpog: The pose of '{estimate.class_id}' with a score of {estimate.score:.2f} is unlikely "
                "to be right: look at overlay.png.",
                file=sys.stderr,
            )
    # With --json nothing but the poses goes to stdout.
    print(f"images: {', '.join(map(str, images))}", file=sys.stderr if arguments.json else sys.stdout)
