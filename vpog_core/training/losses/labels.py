"""Compute the ground truth of matching: where each query pixel lies in each template, and if it is seen.

A query pixel's 3D point is carried into the template's camera and projected. It is *unseen* there when
it is background or occluded in the query, falls outside the template, or differs in depth by more than 2 %
of the diameter from the surface the template shows there. It runs in torch, on the device of the input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vpog_core.models.config import PATCH
from vpog_core.training.data.batch import Batch

HIDDEN_FRACTION = 0.02
"""A point farther than this fraction of the diameter from the template's surface is hidden."""
SLANT_FRACTION = 0.12
"""Neighbouring pixels whose depths differ by less than this fraction of the diameter are one surface."""
MIN_SEEN_FRACTION = 0.25
"""A query patch with a smaller fraction of seen pixels counts as unseen."""
LABEL_STRIDE = 4
"""Training labels are computed at every fourth pixel along both axes."""


@dataclass
class PosedDepth:
    """Holds posed depth images; `...` is [B] for queries and [B, S] for templates.

    Attributes:
        depth: [..., H, W] metres along the optical axis, 0 where nothing (of the object) is seen.
        K: [..., 3, 3] pixels; T_view_obj: [..., 4, 4].
    """

    depth: Tensor
    K: Tensor
    T_view_obj: Tensor


@dataclass
class Labels:
    """Holds the ground truth of matches; n = 16 / stride samples along a patch's side.

    Attributes:
        patch_class: [B, S, Nq] long: template patch 0..Nt-1, or Nt for 'unseen'.
        flow: [B, S, Nq, n, n, 2] (x, y) patch units, towards the target patch; zero where unseen.
        seen: [B, S, Nq, n, n] bool.
    """

    patch_class: Tensor
    flow: Tensor
    seen: Tensor

    @property
    def unseen(self) -> Tensor:
        """Return [B, S, Nq] bool: query patches without a match."""
        return self.patch_class == self.patch_class.shape[-1]

    @property
    def confidence(self) -> Tensor:
        """Return the ideal confidence [B, S, Nq, n, n], 0 or 1."""
        return self.seen.to(self.flow.dtype)

    def all_pairs(self) -> Tensor:
        """Return the flow [B, S, Nq, Nt, n, n, 2] towards every template patch; zero where unseen.

        From patch j to the target is a whole number of patches: that much more flow leads to the same place.
        """
        count = self.patch_class.shape[-1]
        side = math.isqrt(count)
        index = torch.arange(count, device=self.flow.device)
        place = torch.stack((index % side, index // side), dim=-1)
        shift = place[self.patch_class.clamp(max=count - 1)][..., None, :] - place
        flow = self.flow[:, :, :, None] + shift[:, :, :, :, None, None]
        return flow * self.seen[:, :, :, None, ..., None]


class FlowComputer:
    """Makes `Labels` from posed depth images.

    Args:
        stride: 16 % stride == 0; offset: (row, column) of the first pixel. Every `stride`-th row and column
            from there is used.
    """

    def __init__(self, stride: int = 1, offset: tuple[int, int] = (0, 0)) -> None:
        if PATCH % stride or not all(0 <= o < stride for o in offset):
            raise ValueError(
                f"stride {stride} must divide {PATCH} and offset {offset} lie in 0..{stride - 1}."
            )
        self.stride, self.offset = stride, offset

    def __call__(self, query: PosedDepth, templates: PosedDepth, diameter: Tensor) -> Labels:
        """Compute labels of queries [B] against templates [B, S] of objects with `diameter` [B] (metres)."""
        pixels, points, on_object = self.query_points(query)
        in_template, seen = self.visible(points, on_object, query, templates, diameter)
        side = query.depth.shape[-1] // PATCH
        in_template, seen = (_to_patches(v, side) for v in (in_template, seen))  # [B, S, Nq, n * n(, 2)]
        count = seen.sum(dim=-1)
        mean = (in_template * seen[..., None]).sum(dim=-2) / count.clamp_min(1)[..., None]
        target = ((mean + 0.5) / PATCH).floor().long().clamp(0, side - 1)
        is_seen = count >= MIN_SEEN_FRACTION * seen.shape[-1]
        patch_class = torch.where(is_seen, target[..., 1] * side + target[..., 0], side * side)
        seen = seen & is_seen[..., None]
        flow = self._flow(in_template, _to_patches(pixels, side), target, side)
        n = PATCH // self.stride
        return Labels(patch_class, (flow * seen[..., None]).unflatten(-2, (n, n)), seen.unflatten(-1, (n, n)))

    def query_points(self, query: PosedDepth) -> tuple[Tensor, Tensor, Tensor]:
        """Return pixels [h, w, 2], their object points [B, h, w, 3] and which lie on the object [B, h, w]."""
        side, device = query.depth.shape[-1], query.depth.device
        rows, columns = (torch.arange(o, side, self.stride, device=device) for o in self.offset)
        depth = query.depth[:, rows][:, :, columns]
        v, u = torch.meshgrid(rows, columns, indexing="ij")
        pixels = torch.stack((u, v), dim=-1).to(depth.dtype)
        fx, fy, cx, cy = (v[:, None, None] for v in _intrinsics(query.K))
        in_camera = torch.stack(
            ((pixels[..., 0] - cx) / fx, (pixels[..., 1] - cy) / fy, 0 * depth + 1), dim=-1
        )
        R, t = query.T_view_obj[:, :3, :3], query.T_view_obj[:, :3, 3]
        points = torch.einsum("bji,bhwj->bhwi", R, in_camera * depth[..., None] - t[:, None, None])
        return pixels, points, depth > 0

    def visible(
        self, points: Tensor, on_object: Tensor, query: PosedDepth, templates: PosedDepth, diameter: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Project the points: template pixels [B, S, h, w, 2], and which are seen there [B, S, h, w]."""
        R, t = templates.T_view_obj[..., :3, :3], templates.T_view_obj[..., :3, 3]
        in_camera = torch.einsum("bsij,bhwj->bshwi", R, points) + t[:, :, None, None]
        z = in_camera[..., 2].clamp_min(1e-6)
        fx, fy, cx, cy = (v[:, :, None, None] for v in _intrinsics(templates.K))
        projected = torch.stack((in_camera[..., 0] / z * fx + cx, in_camera[..., 1] / z * fy + cy), dim=-1)
        height, width = templates.depth.shape[-2:]
        inside = ((projected >= -0.5) & (projected < projected.new_tensor((width, height)) - 0.5)).all(-1)
        limit = diameter[:, None, None, None]
        gap = _depth_gap(templates.depth, projected, z, SLANT_FRACTION * limit)
        hidden = gap > HIDDEN_FRACTION * limit
        return projected, inside & ~hidden & on_object[:, None]

    @staticmethod
    def _flow(in_template: Tensor, pixels: Tensor, target: Tensor, side: int) -> Tensor:
        """Compute (x_t - centre(j)) - (u - centre(i)), patch units."""
        half = (PATCH - 1) / 2
        of_template = in_template - (target[..., None, :] * PATCH + half)
        index = torch.arange(side * side, device=pixels.device)
        patch = torch.stack((index % side, index // side), dim=-1)
        of_query = pixels - (patch[:, None] * PATCH + half)
        return (of_template - of_query) / PATCH


def matching_labels(batch: Batch, offset: tuple[int, int]) -> Labels:
    """Compute the labels of every query [B * Q] against its cluster [S], at every fourth pixel.

    Args:
        offset: (row, column), 0..3 each, of the first pixel that is labelled.
    """
    query = PosedDepth(*(v.flatten(0, 1) for v in (batch.query_depth, batch.query_K, batch.query_T)))
    diameter = batch.per_query(batch.diameter)
    return FlowComputer(LABEL_STRIDE, offset)(query, cluster_depth(batch), diameter)


def cluster_depth(batch: Batch) -> PosedDepth:
    """Return the posed depth images [B * Q, S] that every query is matched against."""
    of = batch.cluster_size
    posed = (batch.template_depth, batch.template_K[:, :of], batch.template_T[:, :of])
    return PosedDepth(*(batch.per_query(v) for v in posed))


def _intrinsics(K: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return fx, fy, cx, cy of K [..., 3, 3] without skew."""
    return K[..., 0, 0], K[..., 1, 1], K[..., 0, 2], K[..., 1, 2]


def _depth_gap(depth: Tensor, pixels: Tensor, z: Tensor, slant: Tensor) -> Tensor:
    """Compute how far depths z [B, S, h, w] are from the template's surface at `pixels` [B, S, h, w, 2].

    The nearest pixel decides; infinity where it is background. A slanted surface differs from one pixel to
    the next, though: where the four pixels around differ by less than `slant`, they are one surface, and what
    lies between the nearest and the farthest of them lies on it.
    """
    height, width = depth.shape[-2:]

    def at(x: Tensor, y: Tensor) -> Tensor:
        flat = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
        return depth.flatten(2).gather(2, flat.flatten(2)).view_as(z)

    nearest = at(*(pixels + 0.5).floor().long().unbind(-1))
    x, y = pixels.floor().long().unbind(-1)
    around = torch.stack([at(x + dx, y + dy) for dx in (0, 1) for dy in (0, 1)])
    front, back = around.amin(dim=0), around.amax(dim=0)
    beside = (z - nearest).abs()
    between = torch.maximum(front - z, z - back).clamp_min(0)
    gap = torch.where(back - front < slant, between, beside)
    return torch.where(nearest > 0, gap, torch.inf)


def _to_patches(values: Tensor, side: int) -> Tensor:
    """Regroup [..., h, w(, 2)] as [..., side * side, n * n(, 2)], row-major; a last axis of 2 is a vector."""
    if values.shape[-1] == 2 and values.dtype.is_floating_point:
        return torch.stack([_to_patches(v, side) for v in values.unbind(-1)], dim=-1)
    n = values.shape[-1] // side
    values = values.unflatten(-2, (side, n)).unflatten(-1, (side, n)).transpose(-3, -2)
    return values.flatten(-4, -3).flatten(-2)
