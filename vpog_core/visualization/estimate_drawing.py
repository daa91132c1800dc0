"""Choose how estimates are drawn: colour by object, label, grey where the score is low."""

from __future__ import annotations

from collections.abc import Sequence

from vpog_core.types import PoseEstimate
from vpog_core.visualization.overlay import PALETTE, PoseDrawing

GREY = (150, 150, 150)
"""Colour of poses that are drawn but not published."""


def object_colour(object_ids: Sequence[str], class_id: str) -> tuple[int, int, int]:
    """Choose the RGB colour of one of a library's objects."""
    return PALETTE[list(object_ids).index(class_id) % len(PALETTE)]


def estimate_drawings(estimates: Sequence[PoseEstimate], library, min_score: float) -> list[PoseDrawing]:
    """Make what `draw_poses` draws of the estimates that have a pose.

    Args:
        library: an ObjectLibrary, for meshes.
        min_score: poses under it are grey.
    """
    drawings = []
    for estimate in estimates:
        if estimate.T_cam_obj is None:
            continue
        mesh = library.mesh(estimate.class_id)
        seen = "" if estimate.detected else "  not detected"
        label = f"{estimate.class_id} {estimate.instance}  {estimate.score:.2f}{seen}"
        colour = object_colour(library.ids, estimate.class_id) if estimate.score >= min_score else GREY
        drawings.append(PoseDrawing(estimate.T_cam_obj, mesh.vertices, mesh.faces, colour, label))
    return drawings
