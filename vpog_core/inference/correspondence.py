"""Turn the network's matches into 2D-3D correspondences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vpog_core.inference.options import DEFAULT_OPTIONS, Options
from vpog_core.models.config import PATCH
from vpog_core.models.vpog_model import Matches, VPOGModel

PIXEL_STEP = 4
"""Every fourth pixel of a patch becomes a correspondence: neighbours are nearly redundant."""
ONE_SURFACE = 4
"""Neighbouring pixels show one surface where their points are at most this many pixels' sides apart."""
MERGE_FRACTION = 0.02
"""Points of several templates are one when they are nearer than this fraction of the object's extent."""


@dataclass
class DenseMatch:
    """Holds the match of a crop with S templates, pixel by pixel; P is the crop's side.

    Attributes:
        in_template: [S, P, P, 2] float32, template pixel (x, y) each crop pixel is seen at; of no meaning
            where it is not seen.
        confidence: [S, P, P] float32, 0..1: that it is seen there, and to two pixels; 0 where it is not seen.
        seen: [S, P, P] bool: the patch is more likely seen than not.
    """

    in_template: np.ndarray
    confidence: np.ndarray
    seen: np.ndarray


@dataclass
class Correspondences:
    """Holds M pixels of the crop and the points of the object they show.

    Attributes:
        points_2d: [M, 2] crop pixels; points_3d: [M, 3] metres, object frame.
        weights: [M] positive, inverse variances up to a factor: confidences; of merged ones their sum.
        confidence: [M] 0..1; of merged ones the surest.
        template: [M] which template, the surest of those merged; points_template: [M, 2] where in it, pixels.
    """

    points_2d: np.ndarray
    points_3d: np.ndarray
    weights: np.ndarray
    confidence: np.ndarray
    template: np.ndarray
    points_template: np.ndarray


def dense_matches(model: VPOGModel, matches: Matches, match_patches: int = 1) -> list[DenseMatch]:
    """Match each of B crops with its S templates: the likeliest patch, then the flow inside it.

    Args:
        match_patches: patches whose places are averaged: the likeliest, and its likeliest neighbours.
    """
    images = [v.cpu().numpy() for v in dense_tensors(model, matches, match_patches)]
    return [DenseMatch(*(p[b] for p in images)) for b in range(len(images[0]))]


def dense_tensors(
    model: VPOGModel, matches: Matches, match_patches: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute what `dense_matches` gives on the device of the network.

    Returns:
        `in_template` [B, S, P, P, 2], `confidence` [B, S, P, P] and `seen` [B, S, P, P], see `DenseMatch`.
    """
    # Find the likeliest template patch of each crop patch, and the probability that the object is seen there.
    patches = matches.templates.shape[2]
    probability = matches.logits.float().softmax(dim=-1)
    seen = 1.0 - probability[..., patches:].sum(dim=-1)
    likely, index = _likeliest(probability[..., :patches], match_patches)
    is_seen = seen > 0.5
    # Average the flow inside the likeliest patches, weighted by their probabilities.
    side = round(patches**0.5)
    in_template, confidence = 0.0, 0.0
    for weight, one in zip(
        (likely / likely.sum(dim=-1, keepdim=True)).unbind(-1), index.unbind(-1), strict=True
    ):
        flow = model.flow_where(matches, one, is_seen)
        in_template = in_template + weight[..., None, None, None] * _places(one, flow.flow, side)
        confidence = confidence + weight[..., None, None] * flow.confidence
    # Multiply confidences: of the flow, that the patch is seen, and that it is seen in the chosen patches.
    chosen = likely.sum(dim=-1) / seen.clamp_min(1e-6)
    certain = torch.where(is_seen, seen * chosen.clamp(0.0, 1.0).sqrt(), 0.0)
    confidence = confidence * certain[..., None, None]
    is_seen = is_seen[..., None, None].expand_as(confidence)
    return tuple(_join_patches(v, side) for v in (in_template, confidence, is_seen))


def _likeliest(probability: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the likeliest patch and its likeliest neighbours: probabilities and indices [..., count].

    Patches that are not neighbours of the likeliest are different matches, so they are not averaged with it.
    """
    best = probability.argmax(dim=-1, keepdim=True)
    if count == 1:
        return probability.gather(-1, best), best
    side = round(probability.shape[-1] ** 0.5)
    place = torch.arange(probability.shape[-1], device=probability.device)
    near = ((place // side - best // side).abs() <= 1) & ((place % side - best % side).abs() <= 1)
    return (probability * near).topk(min(count, probability.shape[-1]), dim=-1)


def _places(index: Tensor, flow: Tensor, side: int) -> Tensor:
    """Compute the template pixels [..., 16, 16, 2] of a patch: centre of `index`, place inside, flow."""
    half = (PATCH - 1) / 2
    line = torch.arange(PATCH, device=index.device) - half
    inside = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)
    centre = torch.stack((index % side, index // side), dim=-1) * PATCH + half
    return centre[..., None, None, :] + inside + PATCH * flow


def correspondences(
    match: DenseMatch,
    coords: np.ndarray,
    mask: np.ndarray | None = None,
    options: Options = DEFAULT_OPTIONS,
) -> Correspondences:
    """Lift confident matches to 3D by the templates' object coordinates, and merge those that agree.

    Args:
        coords: [S, P, P, 3] metres, NaN in the background; mask: [P, P] bool, crop pixels that may be used.
    """
    pixels, in_template, confidence = _sampled(match, options.match_level)  # [N, 2], [S, N, 2], [S, N]
    x, y = np.round(pixels).astype(int).T
    use = (
        match.seen[:, y, x]
        & (confidence > options.match_min_confidence)
        & np.isfinite(in_template).all(axis=-1)
    )
    if mask is not None:
        use &= mask[y, x]
    # Lift the pixels to object points.
    extent = _extent(coords)
    points = np.full((*use.shape, 3), np.nan)
    template, place = np.nonzero(use)
    points[template, place] = lift(coords, template, in_template[template, place], extent)
    weights = np.where(np.isfinite(points).all(axis=-1), confidence, 0.0).astype(np.float64)
    if options.match_merge and len(coords) > 1:
        points, weights = merged(points, weights, MERGE_FRACTION * extent)
    template, place = np.nonzero(weights > 0)
    return Correspondences(
        points_2d=pixels[place].astype(np.float64),
        points_3d=points[template, place],
        weights=weights[template, place],
        confidence=confidence[template, place].astype(np.float64),
        template=template,
        points_template=in_template[template, place],
    )


def merged(points: np.ndarray, weights: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Merge what S templates say of N query pixels: points that agree become their weighted mean.

    For each pixel the surest point takes in all within the tolerance and their weights; the surest of the
    rest follows, and so on: points that disagree stay, for the solver to choose.

    Args:
        points: [S, N, 3], of any value where the weight is zero; weights: [S, N], zero without a point.
        tolerance: metres.

    Returns:
        points [S, N, 3] and weights [S, N], zero where a point was taken in by another.
    """
    points, left = np.where(weights[..., None] > 0, points, 0.0), weights.copy()
    out_points, out_weights = points.copy(), np.zeros_like(weights)
    every = np.arange(points.shape[1])
    for _ in range(len(points)):
        best = left.argmax(axis=0)
        near = np.linalg.norm(points - points[best, every], axis=-1) <= tolerance
        own = np.where(near, left, 0.0)
        total = own.sum(axis=0)
        there = total > 0
        if not there.any():
            break
        mean = (own[..., None] * points).sum(axis=0) / np.maximum(total, 1e-12)[:, None]
        out_points[best[there], every[there]] = mean[there]
        out_weights[best[there], every[there]] = total[there]
        left[near] = 0.0
    return out_points, out_weights


def _sampled(match: DenseMatch, match_level: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample a match: crop pixels [N, 2], their template pixels [S, N, 2], confidences [S, N]."""
    size = match.seen.shape[-1]
    if match_level == "pixel":
        line = np.arange(PIXEL_STEP // 2, size, PIXEL_STEP)
        in_template, confidence = (
            match.in_template[:, line][:, :, line],
            match.confidence[:, line][:, :, line],
        )
    else:
        line = np.arange((PATCH - 1) / 2, size, PATCH)
        in_template, confidence = _patch_means(match.in_template), _patch_means(match.confidence)
    x, y = np.meshgrid(line, line)
    pixels = np.stack([x.ravel(), y.ravel()], axis=-1)
    return pixels, in_template.reshape(len(match.seen), -1, 2), confidence.reshape(len(match.seen), -1)


def _patch_means(values: np.ndarray) -> np.ndarray:
    """Average over patches: [S, P, P, ...] -> [S, P / 16, P / 16, ...]."""
    s, size = values.shape[:2]
    side = size // PATCH
    return values.reshape(s, side, PATCH, side, PATCH, *values.shape[3:]).mean(axis=(2, 4))


def lift(
    coords: np.ndarray, template: np.ndarray, pixels: np.ndarray, extent: float | None = None
) -> np.ndarray:
    """Look up the object points [M, 3] at sub-pixel places [M, 2] of templates [M]; NaN off the object.

    Bilinear where all four pixels around lie on one piece of surface, else the nearest pixel.

    Args:
        coords: [S, P, P, 3] metres, NaN in the background; extent: of the object, metres, where known.
    """
    extent = _extent(coords) if extent is None else extent
    size = coords.shape[1]
    nearest = np.clip(np.round(pixels), 0, size - 1).astype(int)
    inside = ((pixels > -0.5) & (pixels < size - 0.5)).all(axis=-1)
    points = coords[template, nearest[:, 1], nearest[:, 0]]
    low = np.clip(np.floor(pixels), 0, size - 2).astype(int)
    part = np.clip(pixels - low, 0, 1)[:, :, None]
    corner = [[coords[template, low[:, 1] + dy, low[:, 0] + dx] for dx in (0, 1)] for dy in (0, 1)]
    top, bottom = (c[0] + part[:, 0] * (c[1] - c[0]) for c in corner)
    smooth = top + part[:, 1] * (bottom - top)
    return np.where(inside[:, None], interpolated_on_surface(smooth, points, extent / size), np.nan)


def interpolated_on_surface(smooth: np.ndarray, nearest: np.ndarray, pixel: float) -> np.ndarray:
    """Return object points [..., 3] by bilinear interpolation, and where that mixes surfaces the nearest.

    Args:
        smooth: interpolated, NaN where a pixel of the background was; nearest: those of the nearest pixels.
        pixel: side of a pixel on the object, metres.
    """
    # What the four pixels show is one surface if their mean lies near to the nearest of them.
    is_one = np.linalg.norm(smooth - nearest, axis=-1, keepdims=True) < ONE_SURFACE * pixel
    return np.where(is_one, smooth, nearest)


def _extent(coords: np.ndarray) -> float:
    """Measure the diagonal (metres) of the box around all points [S, P, P, 3]; 0 without any."""
    sparse = coords[:, ::4, ::4].reshape(-1, 3)
    sparse = sparse[np.isfinite(sparse).all(axis=-1)]
    return float(np.linalg.norm(np.ptp(sparse, axis=0))) if len(sparse) else 0.0


def _join_patches(values: Tensor, side: int) -> Tensor:
    """Join patches to images: [B, S, Nq, 16, 16(, 2)] -> [B, S, P, P(, 2)]."""
    values = values.unflatten(2, (side, side)).transpose(3, 4)
    return values.flatten(4, 5).flatten(2, 3)
