"""Draw training samples with their labels, so that errors are visible.

One row for a query: the query; the query with every matched patch in a colour of its own, what is unseen in
grey, and a cross on patches of the object that are not matched; each template with the same colours painted
where the labels say those pixels lie; how far and where to pixels move to the reference. Where the colours
do not cover the same parts of the object on both sides, a label is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import torch

from vpog_core.models.config import PATCH
from vpog_core.training.losses.labels import FlowComputer, Labels, PosedDepth
from vpog_core.visualization.drawing import draw_polylines, draw_text
from vpog_core.visualization.flow_image import colour_wheel, flow_range, legend_wheel

_BACKGROUND, _TEXT, _UNSEEN, _LINE = (28, 30, 34), (225, 228, 232), (255, 90, 80), (245, 245, 245)
_CORNERS = np.array([[[255, 60, 60], [255, 220, 40]], [[170, 60, 255], [40, 210, 255]]], np.float32)
"""Colours of the query's corners; patches between are mixed."""


def preview_row(sample: Mapping[str, np.ndarray], query: int, title: str, tile: int = 224) -> np.ndarray:
    """Draw one query of a sample, its templates and labels, [h, w, 3] uint8.

    Args:
        sample: an item of `VPOGTrainDataset`; query: which of its queries; tile: side of each image.
    """
    labels = sample_labels(sample, query)
    places = template_places(labels)
    colors = patch_colors(labels.patch_class.shape[-1])
    count = len(sample["template_depth"])
    images = [sample["query_rgb"][query], painted_query(sample["query_rgb"][query], labels, 0, colors)]
    images += [
        painted_template(sample["template_rgb"][s], places[s], as_image(labels.seen[0, s]), colors)
        for s in range(count)
    ]
    seen = as_image(labels.seen[0, 0])
    moved = places[0] - np.stack(np.meshgrid(*[np.arange(len(seen))] * 2), axis=-1)
    images.append(colour_wheel(moved, seen=seen))
    names = [
        "query",
        "matched patches",
        "reference",
        *(f"template {s}" for s in range(1, count)),
        "shift to reference",
    ]
    row = _tiles(images, names, title, tile)
    _draw_lines(row, labels, places[0], tile)
    _draw_crosses(row, labels, sample["query_depth"][query] > 0, tile)
    _draw_legend(row, flow_range(moved, seen), len(images) - 1, tile)
    return row


def sample_labels(sample: Mapping[str, np.ndarray], query: int) -> Labels:
    """Compute the labels of one query [1] against its cluster [S], at every pixel."""
    size = len(sample["template_depth"])

    def tensor(value: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.asarray(value, np.float32))[None]

    one = PosedDepth(*(tensor(sample[f"query_{key}"][query]) for key in ("depth", "K", "T")))
    templates = PosedDepth(*(tensor(sample[f"template_{key}"][:size]) for key in ("depth", "K", "T")))
    return FlowComputer()(one, templates, tensor(sample["diameter"]))


def as_image(values: torch.Tensor) -> np.ndarray:
    """Rearrange patches [Nq, 16, 16, ...] as an image [P, P, ...]."""
    side = round(len(values) ** 0.5)
    image = values.unflatten(0, (side, side)).transpose(1, 2)
    return image.flatten(2, 3).flatten(0, 1).numpy()


def template_places(labels: Labels) -> np.ndarray:
    """Return [S, P, P, 2] template pixel of every query pixel; meaningless where unseen."""
    count = labels.patch_class.shape[-1]
    side = round(count**0.5)
    target = labels.patch_class[0].clamp(max=count - 1)
    patch = torch.stack((target % side, target // side), dim=-1) * PATCH  # upper left corner
    inside = torch.stack(torch.meshgrid(*[torch.arange(PATCH)] * 2, indexing="xy"), dim=-1)
    place = patch[:, :, None, None] + inside + PATCH * labels.flow[0]
    return np.stack([as_image(p) for p in place])


def patch_colors(count: int) -> np.ndarray:
    """Return [count, 3] uint8, one for each patch of a square grid, row-major."""
    side = round(count**0.5)
    ends = np.stack([np.linspace(1, 0, side), np.linspace(0, 1, side)])
    grid = np.einsum("ar,bc,abk->rck", ends, ends, _CORNERS).reshape(-1, 3)
    checker = 0.78 + 0.22 * (np.add(*np.divmod(np.arange(count), side)) % 2)
    return (grid * checker[:, None]).astype(np.uint8)


def painted_query(rgb: np.ndarray, labels: Labels, template: int, colors: np.ndarray) -> np.ndarray:
    """Draw the query with its matched pixels coloured, all else grey and dim."""
    seen = as_image(labels.seen[0, template])
    color = as_image(torch.from_numpy(colors)[:, None, None].expand(-1, PATCH, PATCH, -1))
    grey = np.repeat(0.45 * rgb.mean(axis=-1, keepdims=True), 3, axis=-1)
    return np.where(seen[..., None], 0.5 * rgb + 0.5 * color, grey).astype(np.uint8)


def painted_template(rgb: np.ndarray, places: np.ndarray, seen: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Draw a template with the seen query pixels' colours where they lie in it."""
    side = round(len(colors) ** 0.5)
    rows, columns = np.nonzero(seen)
    x, y = np.round(places[rows, columns]).astype(int).T.clip(0, len(rgb) - 1)
    paint = np.zeros((*rgb.shape[:2], 4), np.uint8)
    paint[y, x, :3] = colors[rows // PATCH * side + columns // PATCH]
    paint[y, x, 3] = 255
    # If the template is larger than the query, pixels are apart: fill the gaps with a neighbour's colour.
    grown = cv2.dilate(paint, np.ones((3, 3), np.uint8))
    closed = cv2.morphologyEx(paint[..., 3], cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0
    color = np.where(paint[..., 3:] > 0, paint[..., :3], grown[..., :3])
    return np.where(closed[..., None], 0.5 * rgb + 0.5 * color, 0.6 * rgb).astype(np.uint8)


def _tiles(images, names, title: str, tile: int) -> np.ndarray:
    gap, bar = 6, 20
    row = np.empty((tile + bar + gap, len(images) * (tile + gap) + gap, 3), np.uint8)
    row[:] = _BACKGROUND
    for k, (image, name) in enumerate(zip(images, names, strict=True)):
        x = gap + k * (tile + gap)
        method = cv2.INTER_NEAREST if image.shape[0] <= tile else cv2.INTER_AREA
        row[bar : bar + tile, x : x + tile] = cv2.resize(image, (tile, tile), interpolation=method)
        draw_text(row, title if k == 0 else name, (x + 2, 2), 13, _TEXT)
    return row


def _draw_lines(row: np.ndarray, labels: Labels, places: np.ndarray, tile: int, count: int = 10) -> None:
    """Draw lines from the middle of some matched patches to their places in the reference."""
    matched = np.flatnonzero(~labels.unseen[0, 0].numpy())
    side = round(labels.patch_class.shape[-1] ** 0.5)
    zoom, left = tile / (side * PATCH), np.array([2 * 6 + tile, 20])
    right = left + np.array([6 + tile, 0])
    seen = as_image(labels.seen[0, 0])
    for i in matched[:: max(1, len(matched) // count)]:
        top, first = i // side * PATCH, i % side * PATCH
        rows, columns = np.nonzero(seen[top : top + PATCH, first : first + PATCH])
        k = len(rows) // 2
        u = np.array([first + columns[k], top + rows[k]])
        ends = (np.stack([u, places[u[1], u[0]]]) + 0.5) * zoom + np.stack([left, right])
        draw_polylines(row, [ends], 1.0, _LINE, closed=False)
        for end in ends:
            draw_polylines(row, [np.stack([end, end + 1e-3])], 4.0, _LINE)


def _draw_crosses(row: np.ndarray, labels: Labels, shown: np.ndarray, tile: int) -> None:
    """Draw crosses on patches that show the object [P, P] and have no match in the reference."""
    side = round(labels.patch_class.shape[-1] ** 0.5)
    of_object = shown.reshape(side, PATCH, side, PATCH).any(axis=(1, 3)).ravel()
    zoom, left = tile / (side * PATCH), np.array([2 * 6 + tile, 20])
    for i in np.flatnonzero(labels.unseen[0, 0].numpy() & of_object):
        middle = (np.array([i % side, i // side]) + 0.5) * PATCH * zoom + left
        arm = 0.18 * PATCH * zoom
        for sign in (-1, 1):
            ends = middle + arm * np.array([[-1, -sign], [1, sign]])
            draw_polylines(row, [ends], 1.2, _UNSEEN, closed=False)


def _draw_legend(row: np.ndarray, limit: float, column: int, tile: int) -> None:
    size = tile // 6
    wheel = legend_wheel(size)
    x, y = 6 + column * (tile + 6) + 4, 20 + tile - size - 4
    region, alpha = row[y : y + size, x : x + size], wheel[..., 3:] / 255.0
    region[:] = np.rint(region * (1 - alpha) + wheel[..., :3] * alpha)
    draw_text(row, f"rim {limit:.0f} px", (x + size + 4, y + size - 16), 12, (15, 15, 15))
