"""Draw a refiner's flow and visibility beside the truth, and its scores of hypotheses beside their errors."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from vpog_core.models.refiner import RefinerNet
from vpog_core.training.data.batch import HypothesisBatch, RefinerBatch
from vpog_core.training.losses.refiner import RefinerLabels, refiner_labels
from vpog_core.visualization.drawing import draw_text
from vpog_core.visualization.flow_image import colour_wheel

TILE, BAR, GAP = 224, 20, 6
BACKGROUND, TEXT = (28, 30, 34), (225, 228, 232)


@torch.no_grad()
def draw_refiner_batch(network: RefinerNet, batch: RefinerBatch, count: int) -> list[np.ndarray]:
    """Draw a row [h, w, 3] uint8 for each of the first pairs with the network's output."""
    found = network(*(v[:count] for v in batch.inputs()))
    flow, visibility = found.flow.permute(0, 2, 3, 1), torch.sigmoid(found.visibility)
    labels = refiner_labels(batch)
    rows = []
    for n in range(min(count, len(batch))):
        predicted = [
            ("flow found", _flow(flow[n], labels.on_object[n])),
            ("visibility found", _grey(visibility[n] * labels.on_object[n])),
        ]
        rows.append(_tiles(pair_images(batch, labels, n) + predicted))
    return rows


@torch.no_grad()
def draw_hypotheses(network: RefinerNet, batch: HypothesisBatch, count: int) -> list[np.ndarray]:
    """Draw a row [h, w, 3] uint8 for each of the first hypotheses: image, render, score and error."""
    scores = network(*(v[:count] for v in batch.inputs())).score.sigmoid().tolist()
    images, renders = batch.image_rgb.cpu().numpy(), batch.render_rgb.cpu().numpy()
    return [
        _tiles([(f"image, score {score:.2f}", image), (f"render, error {error:.2f}", render)])
        for score, image, render, error in zip(scores, images, renders, batch.error.tolist(), strict=False)
    ]


def pair_images(batch: RefinerBatch, labels: RefinerLabels, n: int) -> list[tuple[str, np.ndarray]]:
    """Return names and images of a pair and its labels.

    The last but one paints the same colours on render and image where the labels say they belong together.
    """
    image, render = (v[n].cpu().numpy() for v in (batch.image_rgb, batch.render_rgb))
    on_render, on_image = _painted(image, render, labels, n)
    return [
        ("image", image), ("render at the start", render),
        ("labels on the render", on_render), ("labels on the image", on_image),
        ("true flow", _flow(labels.flow[n], labels.visible[n])),
        ("truly visible", _grey(labels.visible[n])),
    ]  # fmt: skip


def label_row(batch: RefinerBatch, n: int, title: str = "") -> np.ndarray:
    """Draw one pair with its labels, [h, w, 3] uint8; the title goes before the first image's name."""
    (name, image), *others = pair_images(batch, refiner_labels(batch), n)
    return _tiles([(f"{title} {name}".strip(), image), *others])


def _painted(image: np.ndarray, render: np.ndarray, labels: RefinerLabels, n: int) -> list[np.ndarray]:
    size = len(image)
    visible = labels.visible[n].cpu().numpy()
    start = labels.pixels.cpu().numpy()[visible]
    end = start + labels.flow[n].cpu().numpy()[visible]
    colors = np.stack([start[:, 0] / size, start[:, 1] / size, 1 - start.sum(axis=1) / (2 * size)], axis=1)
    out = []
    for shown, places in ((render, start), (image, end)):
        canvas = cv2.resize(shown // 2, (TILE, TILE), interpolation=cv2.INTER_AREA)
        for place, color in zip(((places + 0.5) * TILE / size).astype(int), colors, strict=True):
            cv2.circle(canvas, tuple(int(v) for v in place), 3, tuple(float(255 * c) for c in color), -1)
        out.append(canvas)
    return out


def _flow(flow: torch.Tensor, seen: torch.Tensor) -> np.ndarray:
    return colour_wheel(flow.cpu().numpy(), seen=seen.cpu().numpy())


def _grey(values: torch.Tensor) -> np.ndarray:
    grey = (values.float().cpu().numpy() * 255).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _tiles(images: list[tuple[str, np.ndarray]]) -> np.ndarray:
    row = np.empty((TILE + BAR + GAP, len(images) * (TILE + GAP) + GAP, 3), np.uint8)
    row[:] = BACKGROUND
    for k, (name, image) in enumerate(images):
        x = GAP + k * (TILE + GAP)
        row[BAR : BAR + TILE, x : x + TILE] = cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_NEAREST)
        draw_text(row, name, (x + 2, 2), 13, TEXT)
    return row
