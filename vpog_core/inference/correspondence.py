"""From the network's answers to 2D-3D correspondences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vpog_core.models.config import PATCH
from vpog_core.models.vpog_model import Matches, VPOGModel

PIXEL_STEP = 4
"""Every fourth pixel of a patch becomes a correspondence: neighbours say nearly the same."""


@dataclass
class DenseMatch:
    """A crop against S templates, pixel by pixel; P is the crop's side.

    Attributes:
        in_template: [S, P, P, 2] float32, template pixel (x, y) each crop pixel is seen at.
        confidence: [S, P, P] float32, 0..1: that it is seen there, and to two pixels.
        seen: [S, P, P] bool: the patch is more likely seen than not.
    """

    in_template: np.ndarray
    confidence: np.ndarray
    seen: np.ndarray


@dataclass
class Correspondences:
    """M pixels of the crop and the points of the object they show.

    Attributes:
        points_2d: [M, 2] crop pixels; points_3d: [M, 3] metres, object frame.
        weights: [M] 0..1; template: [M] which template; points_template: [M, 2] where in it, pixels.
    """

    points_2d: np.ndarray
    points_3d: np.ndarray
    weights: np.ndarray
    template: np.ndarray
    points_template: np.ndarray


def dense_matches(model: VPOGModel, matches: Matches) -> list[DenseMatch]:
    """Each of B crops against its S templates: the likeliest patch, then the flow inside it."""
    patches = matches.templates.shape[2]
    probability = matches.logits.float().softmax(dim=-1)
    index = probability[..., :patches].argmax(dim=-1)
    seen = 1.0 - probability[..., patches:].sum(dim=-1)
    flow = model.flow(matches, index)
    side = round(patches**0.5)
    half = (PATCH - 1) / 2
    line = torch.arange(PATCH, device=index.device) - half
    inside = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)
    centre = torch.stack((index % side, index // side), dim=-1) * PATCH + half
    in_template = centre[..., None, None, :] + inside + PATCH * flow.flow
    chosen = probability.gather(-1, index[..., None]) / seen[..., None].clamp_min(1e-6)
    confidence = flow.confidence * (seen * chosen[..., 0].sqrt())[..., None, None]
    is_seen = (seen > 0.5)[..., None, None].expand_as(confidence)
    pictures = [_to_picture(v, side).cpu().numpy() for v in (in_template, confidence, is_seen)]
    return [DenseMatch(*(p[b] for p in pictures)) for b in range(index.shape[0])]


def correspondences(match: DenseMatch, coords: np.ndarray, mask: np.ndarray | None = None) -> Correspondences:
    """Confident matches lifted to 3D by the templates' object coordinates.

    Args:
        coords: [S, P, P, 3] metres, NaN in the background; mask: [P, P] bool, crop pixels that may be used.
    """
    size = match.seen.shape[-1]
    line = np.arange(PIXEL_STEP // 2, size, PIXEL_STEP)
    y, x = np.meshgrid(line, line, indexing="ij")
    use = match.seen[:, y, x] if mask is None else match.seen[:, y, x] & mask[y, x]
    s, row, column = np.nonzero(use)
    y, x = y[row, column], x[row, column]
    in_template = match.in_template[s, y, x]
    points = lift(coords, s, in_template)
    good = np.isfinite(points).all(axis=-1)
    return Correspondences(
        points_2d=np.stack([x, y], axis=-1)[good].astype(np.float64),
        points_3d=points[good].astype(np.float64),
        weights=match.confidence[s, y, x][good].astype(np.float64),
        template=s[good],
        points_template=in_template[good],
    )


def lift(coords: np.ndarray, template: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Object points [M, 3] at sub-pixel places [M, 2] of templates [M]; NaN off the object.

    Bilinear where all four pixels around lie on one piece of surface, else the nearest pixel.
    """
    size = coords.shape[1]
    nearest = np.clip(np.round(pixels), 0, size - 1).astype(int)
    inside = ((pixels > -0.5) & (pixels < size - 0.5)).all(axis=-1)
    points = coords[template, nearest[:, 1], nearest[:, 0]]
    low = np.clip(np.floor(pixels), 0, size - 2).astype(int)
    part = np.clip(pixels - low, 0, 1)[:, :, None]
    corner = [[coords[template, low[:, 1] + dy, low[:, 0] + dx] for dx in (0, 1)] for dy in (0, 1)]
    top, bottom = (c[0] + part[:, 0] * (c[1] - c[0]) for c in corner)
    smooth = top + part[:, 1] * (bottom - top)
    sparse = coords[:, ::4, ::4]
    step = np.linalg.norm(np.nanmax(sparse, axis=(1, 2)) - np.nanmin(sparse, axis=(1, 2)), axis=-1) / size
    one_surface = np.linalg.norm(smooth - points, axis=-1) < 4 * step[template]
    return np.where(inside[:, None], np.where(one_surface[:, None], smooth, points), np.nan)


def _to_picture(values: Tensor, side: int) -> Tensor:
    """[B, S, Nq, 16, 16(, 2)] -> [B, S, P, P(, 2)]."""
    values = values.unflatten(2, (side, side)).transpose(3, 4)
    return values.flatten(4, 5).flatten(2, 3)
