"""Where the objects are said to be: a detector's file in BOP's format, or the truth with seeded jitter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from vpog_core.bop.files import read_json
from vpog_core.bop.rle import decode_rle
from vpog_core.evaluation.benchmark import BenchmarkFrame, FrameKey, Truth
from vpog_core.types import Detection, VPOGError

GROUND_TRUTH = "gt"
BOX_JITTER = 0.05
"""Each side of a true box errs by up to this share of the box's size."""
SAME_OBJECT = 0.5
"""A detection whose box overlaps a true one by this much (intersection over union) is that object."""

Detections = Callable[[BenchmarkFrame], list[tuple[int, Detection]]]
"""(obj_id, detection) of every object looked for in a frame; `class_id` is left to the caller."""


def describe(source: str) -> str:
    """A few words for titles."""
    if source == GROUND_TRUTH:
        return f"true boxes with {100 * BOX_JITTER:.0f} % seeded jitter"
    return f"detections of {Path(source).name}"


def open_detections(source: str) -> Detections:
    """`gt`, or the path of a JSON file.

    Raises:
        VPOGError: a file that cannot be read or is not of the format.
    """
    return from_truth if source == GROUND_TRUTH else DetectionFile(source)


def from_truth(frame: BenchmarkFrame) -> list[tuple[int, Detection]]:
    """The visible boxes of the instances asked for, jittered by a seed of the frame's own; no masks."""
    rng = np.random.default_rng([frame.key[0], frame.key[1], 17])
    found = []
    for index, truth in enumerate(frame.truths):
        noise = rng.uniform(-BOX_JITTER, BOX_JITTER, 4)
        if index in _asked(frame) and truth.box is not None:
            box = truth.box + noise * np.tile(truth.box[2:] - truth.box[:2], 2)
            found.append((truth.obj_id, Detection("", box, instance=index)))
    return found


class DetectionFile:
    """BOP's detections: a list of {scene_id, image_id, category_id, bbox [x, y, w, h], score, segmentation}.

    Of each object the best-scored are taken, as many as are asked for. A segmentation is a COCO run-length
    mask, or missing.
    https://github.com/thodan/bop_toolkit/blob/master/docs/bop_challenge_2022.md
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        entries = read_json(self.path)
        self._by_frame: dict[FrameKey, list[dict]] = {}
        for number, entry in enumerate(entries if isinstance(entries, list) else [None]):
            self._check(entry, number)
            key = (int(entry["scene_id"]), int(entry["image_id"]))
            self._by_frame.setdefault(key, []).append(entry)

    def __call__(self, frame: BenchmarkFrame) -> list[tuple[int, Detection]]:
        entries = self._by_frame.get(frame.key, [])
        found = []
        for obj_id, count in frame.targets.items():
            mine = [entry for entry in entries if int(entry["category_id"]) == obj_id]
            best = sorted(mine, key=lambda entry: -float(entry["score"]))[:count]
            found += [(obj_id, self._detection(entry)) for entry in best]
        return [(obj_id, replace(d, instance=n)) for n, (obj_id, d) in enumerate(found)]

    def _detection(self, entry: dict) -> Detection:
        x, y, w, h = (float(value) for value in entry["bbox"])
        rle = entry.get("segmentation")
        mask = decode_rle(rle, str(self.path)) if rle else None
        return Detection("", np.array([x, y, x + w, y + h]) - 0.5, float(entry["score"]), mask)

    def _check(self, entry, number: int) -> None:
        keys = ("scene_id", "image_id", "category_id")
        try:
            numbers = [int(entry[key]) for key in keys] + [float(entry["score"])]
            box = np.array(entry["bbox"], dtype=np.float64)
            good = box.shape == (4,) and np.isfinite([*numbers, *box]).all() and (box[2:] > 0).all()
            good = good and isinstance(entry.get("segmentation") or {}, dict)
        except (KeyError, TypeError, ValueError):
            good = False
        if not good:
            raise VPOGError(
                f"'{self.path}', detection {number}, is not {{{', '.join(keys)}, bbox [x, y, w, h], score, "
                "segmentation (run-length) or none}: write it in BOP's format."
            )


def truth_of(frame: BenchmarkFrame, obj_id: int, detection: Detection) -> Truth | None:
    """The instance a detection is of: the one of that object whose visible box overlaps it most."""
    mine = [t for t in frame.truths if t.obj_id == obj_id and t.box is not None]
    overlaps = [overlap(truth.box, detection.box) for truth in mine]
    if not overlaps or max(overlaps) < SAME_OBJECT:
        return None
    return mine[int(np.argmax(overlaps))]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes [4] (x0, y0, x1, y1)."""
    inner = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    return float(inner / max((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner, 1e-12))


def _asked(frame: BenchmarkFrame) -> set[int]:
    """Places of the instances asked for: of each object the most visible, as many as its target says."""
    asked: set[int] = set()
    for obj_id, count in frame.targets.items():
        mine = [i for i, truth in enumerate(frame.truths) if truth.obj_id == obj_id]
        mine.sort(key=lambda i: -np.nan_to_num(frame.truths[i].visible_fraction, nan=1.0))
        asked.update(mine[:count])
    return asked
