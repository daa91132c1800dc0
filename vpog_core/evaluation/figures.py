"""Draw the best and the worst poses of an evaluation: the estimate over the truth."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vpog_core.evaluation.benchmark import Benchmark, BenchmarkFrame, FrameKey
from vpog_core.evaluation.errors import TargetErrors
from vpog_core.types import Camera
from vpog_core.visualization.overlay import PoseDrawing, draw_poses

TRUTH, ESTIMATE = (90, 230, 130), (255, 170, 40)
SIDE = 224
"""Side of an image in the report, pixels."""
PER_OBJECT = 2
"""Images of one object in a row, so that one hard object does not fill it."""


@dataclass(frozen=True)
class FigureEntry:
    """Names one estimate to draw; `estimate` is its row among the frame's of that object, best score first.

    mssd is over the diameter, mspd in pixels at a width of 640.
    """

    key: FrameKey
    obj_id: int
    instance: int
    estimate: int
    score: float
    mssd: float
    mspd: float


def best_and_worst(
    targets: Sequence[TargetErrors], count: int
) -> tuple[list[FigureEntry], list[FigureEntry]]:
    """Choose `count` estimates with the smallest MSPD to the nearest instance, and as many with the largest.

    The worst are of the worse half.
    """
    entries = []
    for target in targets:
        for index, row in enumerate(target.mspd):
            if len(row) and np.isfinite(row).any():
                instance = int(np.argmin(row))
                score, error = float(target.scores[index]), float(target.mssd[index, instance])
                entries.append(
                    FigureEntry(
                        target.key, target.obj_id, instance, index, score, error, float(row[instance])
                    )
                )
    entries.sort(key=lambda each: each.mspd)
    return _varied(entries, count), _varied(entries[len(entries) // 2 :][::-1], count)


def draw_figure(entry: FigureEntry, benchmark: Benchmark, record: dict, method: str) -> str:
    """Draw an overlay as a data URI: the truth in green, the estimate in orange, cropped around the truth."""
    frame = benchmark.frame(entry.key)
    truths = [t for t in frame.truths if t.obj_id == entry.obj_id]
    estimates = [e for e in record["methods"][method]["estimates"] if e["obj_id"] == entry.obj_id]
    estimates.sort(key=lambda e: -e["score"])
    truth = truths[entry.instance].T_cam_obj
    estimate = np.array(estimates[entry.estimate]["T_cam_obj"])
    mesh = benchmark.object(entry.obj_id).mesh
    image, camera = _cut_out(frame, truth, mesh.hull_points)
    drawings = [
        PoseDrawing(truth, mesh.vertices, mesh.faces, TRUTH),
        PoseDrawing(estimate, mesh.vertices, mesh.faces, ESTIMATE),
    ]
    return data_uri(draw_poses(image, camera, drawings))


def data_uri(image: np.ndarray) -> str:
    """Encode an RGB image as a JPEG in a data URI."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _cut_out(frame: BenchmarkFrame, truth: np.ndarray, hull: np.ndarray) -> tuple[np.ndarray, Camera]:
    """Crop the square around the true object, and make its camera."""
    p = hull @ truth[:3, :3].T + truth[:3, 3]
    pixels = (p / np.maximum(p[:, 2:], 1e-6)) @ frame.camera.K.T
    low, high = pixels[:, :2].min(axis=0), pixels[:, :2].max(axis=0)
    side = 1.5 * (high - low).max()
    corner, scale = (low + high - side) / 2, SIDE / side
    shift = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.warpAffine(frame.image, shift, (SIDE, SIDE), flags=smooth, borderValue=(40, 40, 40))
    K = np.vstack([shift, [0, 0, 1]]) @ frame.camera.K
    return image, Camera(K, SIDE, SIDE)


def _varied(entries: Sequence[FigureEntry], count: int) -> list[FigureEntry]:
    taken: Counter[int] = Counter()
    chosen = []
    for each in entries:
        if taken[each.obj_id] < PER_OBJECT and len(chosen) < count:
            taken[each.obj_id] += 1
            chosen.append(each)
    return chosen
