"""Make the objects of the demonstration, and a detector's output for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vpog_core.geometry.boxes import jitter_box
from vpog_core.objects.mesh import Mesh
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.scene import SceneFrame
from vpog_core.synthetic.seeds import DEMO
from vpog_core.types import Detection

OBJECT_SEEDS = {"bottle": DEMO[14], "carton": DEMO[9], "toy": DEMO[13]}
"""Seeds of the demonstration's objects, unseen in training, see `seeds`."""

MIN_VISIBLE = 0.2
"""Fraction of an object that must be visible for the detector to see it."""


def demo_objects() -> dict[str, Mesh]:
    """Make the three objects, by name."""
    return {name: make_object(seed) for name, seed in OBJECT_SEEDS.items()}


def seen_objects(frame: SceneFrame) -> list[int]:
    """Return which of the objects a detector sees."""
    return [i for i, fraction in enumerate(frame.visible_fraction) if fraction >= MIN_VISIBLE]


def demo_detections(
    frame: SceneFrame, seen: Sequence[int], jitter: float, rng: np.random.Generator
) -> list[Detection]:
    """Make the detections of a frame of `demo_objects`: boxes with a detector's small errors.

    Args:
        jitter: error of the boxes, fraction of their size.
    """
    names = list(OBJECT_SEEDS)
    boxes = {i: jitter_box(rng, frame.boxes_visible[i], jitter) for i in seen}
    return [Detection(names[i], box, score=0.9) for i, box in boxes.items()]
