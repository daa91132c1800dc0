"""Write the poses of a replay as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from vpog_core.geometry.se3 import quaternion_xyzw
from vpog_core.replay.journal import FrameResult

COLUMNS = (
    "frame", "stamp", "class_id", "instance", "x", "y", "z", "qx", "qy", "qz", "qw",
    "score", "inliers", "reprojection_error", "tracked", "detected", "published", "reason",
)  # fmt: skip


def pose_table(results: Iterable[FrameResult], stamps_ns: list[int], min_score: float) -> str:
    """Write a row for each detection and each followed object as CSV: metres, quaternions, stamps in seconds.

    Cells of what has no pose are empty.

    Args:
        stamps_ns: of the frames, by their number.
        min_score: poses under it are not published.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        sec, nanosec = divmod(stamps_ns[result.number], 1_000_000_000)
        for row in _rows(result, min_score):
            writer.writerow([result.number, f"{sec}.{nanosec:09d}", *row])
    return text.getvalue()


def _rows(result: FrameResult, min_score: float) -> Iterator[list]:
    if result.failure:
        yield [""] * (len(COLUMNS) - 3) + [result.failure]
    for sentence in result.refused:
        yield [""] * (len(COLUMNS) - 3) + [sentence]
    for estimate in result.estimates:
        T = estimate.T_cam_obj
        pose = [""] * 7
        if T is not None:
            pose = [f"{value:.9g}" for value in (*T[:3, 3], *quaternion_xyzw(T[:3, :3]))]
        published = T is not None and estimate.score >= min_score
        yield [
            *(estimate.class_id, estimate.instance, *pose),
            *(f"{estimate.score:.4f}", estimate.inliers, f"{estimate.reprojection_error:.3f}"),
            *(int(estimate.tracked), int(estimate.detected), int(published), estimate.reason),
        ]
