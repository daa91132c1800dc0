"""Measure training samples: visible fraction, overlap of boxes, resolution of images."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from vpog_core.geometry.boxes import overlap
from vpog_core.objects.template_set import template_camera
from vpog_core.synthetic.photometry import draw
from vpog_core.training.synthesis.query_layout import LayoutParams, lay_out
from vpog_core.training.synthesis.rendered_queries import draw_distance

VISIBLE = (0.3, 0.45, 0.6, 0.75, 0.9, 1.0)
OVERLAP = (0.0, 0.3, 0.5, 0.7, 0.85, 1.0)
SOURCE = (40, 60, 80, 100, 150, 250, 400)


def sample_statistics(dataset, count: int = 400, seed: int = 0) -> list[str]:
    """Return lines of text on `count` rendered queries of a training set; nothing is shaded for it.

    Args:
        dataset: its `objects`, `assets` and `size` are used.
    """
    rng = np.random.default_rng([seed, 2])
    visible, overlaps, size = [], [], dataset.size
    for _ in range(count):
        renderer = dataset.objects[rng.integers(len(dataset.objects))].renderer
        T = template_camera(renderer.mesh, rng.normal(size=3), size, distance=draw_distance(rng))[1]
        layout = lay_out(rng, renderer, T, dataset.assets, LayoutParams())
        visible.append(layout.visible)
        overlaps.append(overlap(layout.box.ravel(), layout.whole.ravel()))
    source = draw(rng, 10 * count, size).scale * size
    lines = [
        f"visible fraction         {_histogram(visible, VISIBLE)}",
        f"box against whole (IoU)  {_histogram(overlaps, OVERLAP)}",
    ]
    edges = [edge for edge in SOURCE if edge < size]
    return [*lines, f"side of the crop, px     {_histogram(source, (*edges, size))}, as seen by the camera"]


def _histogram(values, edges: tuple[float, ...]) -> str:
    """Return percentages of values between edges; those outside count for the first and the last."""
    inside = np.clip(values, edges[0], np.nextafter(edges[-1], edges[0]))
    parts = np.histogram(inside, edges)[0] / len(inside)
    names = [f"{low:g}-{high:g}" for low, high in pairwise(edges)]
    return ", ".join(f"{name}: {100 * part:.0f} %" for name, part in zip(names, parts, strict=True))
