"""Choose how estimates are drawn: colour by object, label, grey where the score is low."""

from __future__ import annotations

from collections.abc import Sequence

from vpog_core.types import PoseEstimate
from vpog_core.visualization.overlay import PALETTE, PoseDrawing

GREY = (150, 150, 150)
"""Colour of poses that are drawn but not published."""
MIN_OPACITY, MAX_OPACITY = 0.15, 0.85
"""Opacity of meshes in RViz, at scores of 0 and 1."""


def object_colour(object_ids: Sequence[str], class_id: str) -> tuple[int, int, int]:
    """Choose the RGB colour of one of a library's objects."""
    return PALETTE[list(object_ids).index(class_id) % len(PALETTE)]


def marker_colour(object_ids: Sequence[str], estimate: PoseEstimate) -> dict[str, float]:
    """Return the fields of the std_msgs/ColorRGBA of an estimate's mesh: the surer, the more opaque."""
    red, green, blue = (channel / 255.0 for channel in object_colour(object_ids, estimate.class_id))
    opacity = MIN_OPACITY + (MAX_OPACITY - MIN_OPACITY) * min(max(estimate.score, 0.0), 1.0)
    return {"r": red, "g": green, "b": blue, "a": float(opacity)}


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
