"""Provide detections: from a detector's file in BOP's format, or from ground truth with seeded jitter."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from vpog_core.evaluation.benchmark import Benchmark, BenchmarkFrame, Truth
from vpog_core.evaluation.detection_file import DetectionFile
from vpog_core.geometry.boxes import jitter_box, overlap
from vpog_core.types import Detection

GROUND_TRUTH = "gt"
BOX_JITTER = 0.05
"""Each side of a true box errs by up to this fraction of the box's size."""
SAME_OBJECT = 0.5
"""A detection whose box overlaps a true one by this much (intersection over union) is that object."""


class Detections(Protocol):
    """Gives the detections of frames; `notes` are sentences on what is left out."""

    notes: list[str]

    def __call__(self, frame: BenchmarkFrame) -> list[tuple[int, Detection]]:
        """Return (obj_id, detection) of each object to estimate in a frame; the caller sets `class_id`."""
        ...


class TrueBoxes:
    """Provides ground truth boxes with seeded jitter, see `from_truth`."""

    notes: list[str] = []  # noqa: RUF012 (never changed)

    def __call__(self, frame: BenchmarkFrame) -> list[tuple[int, Detection]]:
        """Return the detections of a frame."""
        return from_truth(frame)


def describe_detections(source: str) -> str:
    """Describe a source of detections in a few words for titles."""
    if source == GROUND_TRUTH:
        return f"true boxes with {100 * BOX_JITTER:.0f} % seeded jitter"
    return f"detections of {Path(source).name}"


def open_detections(source: str, benchmark: Benchmark) -> Detections:
    """Open `gt`, or a JSON file by its path, for the frames of a benchmark.

    Raises:
        VPOGError: a file that cannot be read, without a usable entry, or of other images.
    """
    if source == GROUND_TRUTH:
        return TrueBoxes()
    return DetectionFile(source, benchmark.known_objects, benchmark.known_keys, benchmark.name)


def from_truth(frame: BenchmarkFrame) -> list[tuple[int, Detection]]:
    """Make detections of the targets' visible boxes, jittered by a seed of the frame's own; no masks."""
    rng = np.random.default_rng([frame.key[0], frame.key[1], 17])
    found = []
    for index, truth in enumerate(frame.truths):
        # Drawn for every instance, so that a box does not depend on which others are targets.
        box = jitter_box(rng, np.zeros(4) if truth.box is None else truth.box, BOX_JITTER)
        if index in _target_instances(frame) and truth.box is not None:
            found.append((truth.obj_id, Detection("", box, instance=index)))
    return found


def truth_of(frame: BenchmarkFrame, obj_id: int, detection: Detection) -> Truth | None:
    """Find the instance of a detection: the one of that object whose visible box overlaps it most."""
    mine = [t for t in frame.truths if t.obj_id == obj_id and t.box is not None]
    overlaps = [overlap(truth.box, detection.box) for truth in mine]
    if not overlaps or max(overlaps) < SAME_OBJECT:
        return None
    return mine[int(np.argmax(overlaps))]


def _target_instances(frame: BenchmarkFrame) -> set[int]:
    """Return the rows of the targets: the most visible instances of each object, as many as are targeted."""
    targeted_rows: set[int] = set()
    for obj_id, count in frame.targets.items():
        mine = [i for i, truth in enumerate(frame.truths) if truth.obj_id == obj_id]
        mine.sort(key=lambda i: -np.nan_to_num(frame.truths[i].visible_fraction, nan=1.0))
        targeted_rows.update(mine[:count])
    return targeted_rows
