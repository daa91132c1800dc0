"""Measure how often retrieval finds a view near the truth, and make a table of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vpog_core.evaluation.scores import scene_parts, visibility_parts

MATCHABLE_ANGLE = 25.0
"""Degrees from the truth up to which a retrieved view can be matched."""
VIEWS = (1, 2, 6)
"""Numbers of best views whose recall is reported; six are matched at first."""
TITLE = "How often one of the best retrieved views lies within 25 degrees of the truth, in percent:"


def retrieval_recall(records: Sequence[dict], splits: Mapping[int, str]) -> dict[str, dict[str, float]]:
    """Compute how often a retrieved view is near the truth, in percent.

    Args:
        splits: names of the benchmark's splits by scene.

    Returns:
        for all detections, those of each split, and those of which so much is visible, where there are any:
        `detections`, their number, and for each of `VIEWS` how often one of the best so many views lies
        within `MATCHABLE_ANGLE` of the truth.
    """
    found = [
        (record["key"][0], visible, angles)
        for record in records
        for visible, angles in zip(record["stages"]["visible"], record["stages"]["angles"], strict=True)
    ]
    if not found:
        return {}
    scene = np.array([scene for scene, _, _ in found])
    visible = np.array([visible for _, visible, _ in found], dtype=np.float64)
    near = np.array([[_has_near_view(angles[:count]) for count in VIEWS] for _, _, angles in found])
    everything = ("all", np.ones(len(found), dtype=bool))
    return {
        label: {"detections": int(part.sum())}
        | {str(count): 100.0 * float(near[part, n].mean()) for n, count in enumerate(VIEWS)}
        for label, part in [everything, *scene_parts(scene, splits), *visibility_parts(visible)]
        if part.any()
    }


def _has_near_view(angles: Sequence[float]) -> bool:
    return min(angles, default=np.inf) < MATCHABLE_ANGLE


def retrieval_table(recall: Mapping[str, Mapping]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of a table of what `retrieval_recall` measured; no rows for nothing."""
    rows = [
        [label, *(f"{part[str(count)]:.1f}" for count in VIEWS), str(part["detections"])]
        for label, part in recall.items()
    ]
    return ["visible", *(f"best of {count}" for count in VIEWS), "detections"], rows
