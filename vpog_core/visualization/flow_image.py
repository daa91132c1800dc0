"""Draw flow as colours, and matches: crop, template, flow and correspondences side by side."""

from __future__ import annotations

import cv2
import numpy as np

from vpog_core.types import MatchView
from vpog_core.visualization.drawing import draw_polylines, draw_text, text_size

UNSEEN_GREY = 128
_BACKGROUND = (28, 30, 34)
_DARK = (15, 15, 15)
_INLIER = (110, 235, 120)
_OUTLIER = (255, 95, 85)


def colour_wheel(
    flow: np.ndarray,
    max_px: float | None = None,
    seen: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
) -> np.ndarray:
    """Draw flow [H, W, 2] (x, y) in pixels as an RGB image [H, W, 3] uint8.

    Hue is the direction (right red, down yellow-green, left cyan, up violet), saturation the length: white is
    no motion, full colour is `max_px` and more.

    Args:
        max_px: length of full saturation; None takes `flow_range(flow, seen)`.
        seen: [H, W] bool; grey (128) where False.
        confidence: [H, W] 0..1; colours fade to the same grey as it falls to zero.
    """
    limit = flow_range(flow, seen) if max_px is None else max(float(max_px), 1e-6)
    flow = np.nan_to_num(np.asarray(flow, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    hue = np.rad2deg(np.mod(np.arctan2(flow[..., 1], flow[..., 0]), 2 * np.pi))
    saturation = np.clip(np.linalg.norm(flow, axis=-1) / limit, 0.0, 1.0)
    hsv = np.stack([hue, saturation, np.ones_like(saturation)], axis=-1).astype(np.float32)
    image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255.0
    if confidence is not None:
        strength = np.clip(np.nan_to_num(np.asarray(confidence, np.float32)), 0.0, 1.0)[..., None]
        image = UNSEEN_GREY + strength * (image - UNSEEN_GREY)
    image = np.rint(image).astype(np.uint8)
    if seen is not None:
        image[~np.asarray(seen, bool)] = UNSEEN_GREY
    return image


def flow_range(flow: np.ndarray, seen: np.ndarray | None = None) -> float:
    """Compute the length in pixels that colours are scaled to: 95 % of the seen flow [H, W, 2] is shorter."""
    length = np.linalg.norm(np.asarray(flow, np.float32), axis=-1)
    keep = np.isfinite(length) if seen is None else np.isfinite(length) & np.asarray(seen, bool)
    return max(1.0, float(np.percentile(length[keep], 95))) if keep.any() else 1.0


def legend_wheel(size: int) -> np.ndarray:
    """Draw the colours of all directions and lengths as a disc, RGBA uint8 [size, size, 4]."""
    fine = 4 * size
    axis = (np.arange(fine, dtype=np.float32) + 0.5) / fine * 2.0 - 1.0
    flow = np.stack(np.meshgrid(axis, axis), axis=-1)
    inside = (np.linalg.norm(flow, axis=-1) <= 1.0).astype(np.uint8) * 255
    wheel = np.dstack([colour_wheel(flow, max_px=1.0), inside])
    return cv2.resize(wheel, (size, size), interpolation=cv2.INTER_AREA)


def draw_match(match: MatchView, tile: int = 336, max_lines: int = 60) -> np.ndarray:
    """Draw what the network saw and matched, as one RGB image uint8.

    Three tiles side by side, each titled: crop and template (lines join correspondences, green where they
    agree with the pose, red where not), flow with its legend.

    Args:
        tile: side of a tile, pixels.
        max_lines: correspondences drawn at most, spread evenly over the crop.
    """
    # Lay out three tiles with room for titles.
    gap, font = max(6, tile // 40), max(12, tile // 21)
    bar = text_size("x", font)[1] + gap
    panel = np.empty((tile + bar + gap, 3 * tile + 4 * gap, 3), np.uint8)
    panel[:] = _BACKGROUND
    lefts = [gap + k * (tile + gap) for k in range(3)]
    # Draw crop, template and flow.
    limit = flow_range(match.flow, match.seen)
    flow = colour_wheel(match.flow, limit, match.seen, match.confidence)
    for left, image in zip(lefts, (match.crop, match.template, flow), strict=True):
        panel[bar : bar + tile, left : left + tile] = _scaled(image, tile)
    # Join the correspondences, and draw the legend.
    _draw_lines(panel, match, (lefts[0], bar), (lefts[1], bar), tile, max_lines)
    _draw_legend(panel, limit, (lefts[2], bar), tile, font)
    # Write titles and numbers.
    notes = ("", _matches_note(match), f"seen {100.0 * float(np.mean(match.seen)):.0f} %")
    for left, title, note in zip(lefts, ("crop", "template", "flow"), notes, strict=True):
        draw_text(panel, title, (left + 2, gap // 2), font)
        x = left + tile - text_size(note, font)[0] - 2
        draw_text(panel, note, (x, gap // 2), font, (170, 175, 182))
    return panel


def _matches_note(match: MatchView) -> str:
    total = len(match.inlier)
    return f"{int(np.sum(match.inlier))} of {total} matches agree" if total else "no matches"


def _scaled(image: np.ndarray, tile: int) -> np.ndarray:
    method = cv2.INTER_CUBIC if tile >= image.shape[0] else cv2.INTER_AREA
    return cv2.resize(np.ascontiguousarray(image), (tile, tile), interpolation=method)


def _draw_lines(panel, match, crop_at, template_at, tile, max_lines) -> None:
    chosen = _spread(match, max_lines)
    a = _place(match.points_2d[chosen], match.crop.shape[0], tile) + crop_at
    b = _place(match.points_template[chosen], match.template.shape[0], tile) + template_at
    inlier = np.asarray(match.inlier, bool)[chosen]
    lines = panel.copy()
    for agrees, colour in ((False, _OUTLIER), (True, _INLIER)):
        pairs = [np.stack([a[k], b[k]]) for k in np.flatnonzero(inlier == agrees)]
        if pairs:
            draw_polylines(lines, pairs, 1.2, colour, closed=False)
    cv2.addWeighted(lines, 0.5, panel, 0.5, 0.0, dst=panel)
    for agrees, colour in ((False, _OUTLIER), (True, _INLIER)):
        dots = [np.stack([point, point + 1e-3]) for points in (a, b) for point in points[inlier == agrees]]
        if dots:
            draw_polylines(panel, dots, 6.0, _DARK)
            draw_polylines(panel, dots, 4.2, colour)


def _place(points, size, tile) -> np.ndarray:
    """Convert pixels of an image of `size` to its tile: pixel centres at integers in both."""
    return (np.asarray(points, np.float64) + 0.5) * (tile / size) - 0.5


def _spread(match: MatchView, count: int) -> np.ndarray:
    """Choose at most `count` correspondences inside both images, one per cell of a grid first."""
    size = match.crop.shape[0]
    points = np.asarray(match.points_2d, np.float64).reshape(-1, 2)
    inside = _inside(points, size) & _inside(match.points_template, match.template.shape[0])
    kept = np.flatnonzero(inside)
    if len(kept) <= count:
        return kept
    cells = int(np.ceil(np.sqrt(count)))
    cell = np.clip(np.floor(points[kept] / size * cells), 0, cells - 1) @ [1, cells]
    shuffled = np.random.default_rng(0).permutation(len(kept))
    order = shuffled[np.argsort(cell[shuffled], kind="stable")]
    starts = np.r_[0, np.flatnonzero(np.diff(cell[order])) + 1]
    turn = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return kept[order[np.argsort(turn, kind="stable")[:count]]]


def _inside(points, size) -> np.ndarray:
    points = np.asarray(points, np.float64).reshape(-1, 2)
    with np.errstate(invalid="ignore"):
        return ((points >= -0.5) & (points <= size - 0.5)).all(axis=1)


def _draw_legend(panel, limit, flow_at, tile, font) -> None:
    size, inset = tile // 6, tile // 40
    wheel = legend_wheel(size)
    x, y = flow_at[0] + inset, flow_at[1] + tile - size - inset
    cv2.circle(panel, (x + size // 2, y + size // 2), size // 2 + 2, _DARK, -1, cv2.LINE_AA)
    region = panel[y : y + size, x : x + size]
    alpha = wheel[..., 3:].astype(np.float32) / 255.0
    region[:] = np.rint(region * (1 - alpha) + wheel[..., :3] * alpha).astype(np.uint8)
    at = (x + size + inset, y + size - text_size("x", font)[1])
    draw_text(panel, f"rim: {limit:.1f} px", at, font, _DARK)
