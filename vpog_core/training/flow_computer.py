"""Ground truth for matching: where does each query pixel lie in each template, and is it seen there?

A query pixel's 3D point is carried into the template's camera and projected. It is *unseen* there when
it is background or occluded in the query, falls outside the template, or is hidden behind something
by more than 2 % of the diameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vpog_core.models.config import PATCH

HIDDEN_SHARE = 0.02
"""A point this share of the diameter behind the template's surface is hidden."""
MIN_SEEN_SHARE = 0.25
"""A query patch with a smaller share of seen pixels counts as unseen."""


@dataclass
class Views:
    """Posed depth images; `...` is [B] for queries and [B, S] for templates.

    Attributes:
        depth: [..., H, W] metres along the optical axis, 0 where nothing (of the object) is seen.
        K: [..., 3, 3] pixels; T_view_obj: [..., 4, 4].
    """

    depth: Tensor
    K: Tensor
    T_view_obj: Tensor


@dataclass
class Labels:
    """Ground truth of matches. n = 16 / stride samples along a patch's side.

    Attributes:
        patch_class: [B, S, Nq] long: template patch 0..Nt-1, or Nt for 'unseen'.
        flow: [B, S, Nq, n, n, 2] (x, y) patch units, towards the target patch; zero where unseen.
        seen: [B, S, Nq, n, n] bool.
    """

    patch_class: Tensor
    flow: Tensor
    seen: Tensor


class FlowComputer:
    """Makes `Labels` from posed depth images.

    Args:
        stride, offset: pixels offset, offset + stride, ... along each side are used (16 % stride == 0).
    """

    def __init__(self, stride: int = 1, offset: int = 0) -> None:
        if PATCH % stride or not 0 <= offset < stride:
            raise ValueError(
                f"stride {stride} must divide {PATCH} and offset {offset} lie in 0..{stride - 1}."
            )
        self.stride, self.offset = stride, offset

    def __call__(self, query: Views, templates: Views, diameter: Tensor) -> Labels:
        """Labels of queries [B] against templates [B, S] of objects with `diameter` [B] (metres)."""
        pixels, points, on_object = self._query_points(query)
        in_template, seen = self._visible(points, on_object, query, templates, diameter)
        side = query.depth.shape[-1] // PATCH
        in_template, seen = (_to_patches(v, side) for v in (in_template, seen))  # [B, S, Nq, n * n(, 2)]
        count = seen.sum(dim=-1)
        mean = (in_template * seen[..., None]).sum(dim=-2) / count.clamp_min(1)[..., None]
        target = ((mean + 0.5) / PATCH).floor().long().clamp(0, side - 1)
        is_seen = count >= MIN_SEEN_SHARE * seen.shape[-1]
        patch_class = torch.where(is_seen, target[..., 1] * side + target[..., 0], side * side)
        seen = seen & is_seen[..., None]
        flow = self._flow(in_template, _to_patches(pixels, side), target, side)
        n = PATCH // self.stride
        return Labels(patch_class, (flow * seen[..., None]).unflatten(-2, (n, n)), seen.unflatten(-1, (n, n)))

    def _query_points(self, query: Views) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels [h, w, 2], their object points [B, h, w, 3] and which lie on the object [B, h, w]."""
        line = torch.arange(self.offset, query.depth.shape[-1], self.stride, device=query.depth.device)
        depth = query.depth[:, line][:, :, line]
        v, u = torch.meshgrid(line, line, indexing="ij")
        pixels = torch.stack((u, v), dim=-1).to(depth.dtype)
        rays = torch.cat((pixels, torch.ones_like(pixels[..., :1])), dim=-1)
        in_camera = torch.einsum("bij,hwj->bhwi", torch.linalg.inv(query.K), rays) * depth[..., None]
        T_obj_view = torch.linalg.inv(query.T_view_obj)
        points = (
            torch.einsum("bij,bhwj->bhwi", T_obj_view[:, :3, :3], in_camera)
            + T_obj_view[:, None, None, :3, 3]
        )
        return pixels, points, depth > 0

    def _visible(
        self, points: Tensor, on_object: Tensor, query: Views, templates: Views, diameter: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Template pixels [B, S, h, w, 2] of the points, and whether each is seen there [B, S, h, w]."""
        R, t = templates.T_view_obj[..., :3, :3], templates.T_view_obj[..., :3, 3]
        in_camera = torch.einsum("bsij,bhwj->bshwi", R, points) + t[:, :, None, None]
        z = in_camera[..., 2].clamp_min(1e-6)
        projected = torch.einsum("bsij,bshwj->bshwi", templates.K, in_camera)[..., :2] / z[..., None]
        height, width = templates.depth.shape[-2:]
        inside = ((projected >= -0.5) & (projected < projected.new_tensor((width, height)) - 0.5)).all(-1)
        hidden = _depth_gap(templates.depth, projected, z) > HIDDEN_SHARE * diameter[:, None, None, None]
        return projected, inside & ~hidden & on_object[:, None]

    @staticmethod
    def _flow(in_template: Tensor, pixels: Tensor, target: Tensor, side: int) -> Tensor:
        """(x_t - centre(j)) - (u - centre(i)), patch units."""
        half = (PATCH - 1) / 2
        of_template = in_template - (target[..., None, :] * PATCH + half)
        index = torch.arange(side * side, device=pixels.device)
        patch = torch.stack((index % side, index // side), dim=-1)
        of_query = pixels - (patch[:, None] * PATCH + half)
        return (of_template - of_query) / PATCH


def _depth_gap(depth: Tensor, pixels: Tensor, z: Tensor) -> Tensor:
    """|z - surface| [B, S, h, w] at pixels [B, S, h, w, 2], the least of the four pixels around.

    Slanted surfaces differ by more than the tolerance from one pixel to the next.
    """
    height, width = depth.shape[-2:]
    low = pixels.floor().long()
    gap = torch.full_like(z, torch.inf)
    for dx in (0, 1):
        for dy in (0, 1):
            flat = (low[..., 1] + dy).clamp(0, height - 1) * width + (low[..., 0] + dx).clamp(0, width - 1)
            surface = depth.flatten(2).gather(2, flat.flatten(2)).view_as(z)
            gap = torch.where(surface > 0, torch.minimum(gap, (z - surface).abs()), gap)
    return gap


def _to_patches(values: Tensor, side: int) -> Tensor:
    """[..., h, w(, 2)] -> [..., side * side, n * n(, 2)], row-major; a last axis of 2 is a pixel vector."""
    if values.shape[-1] == 2 and values.dtype.is_floating_point:
        return torch.stack([_to_patches(v, side) for v in values.unbind(-1)], dim=-1)
    n = values.shape[-1] // side
    values = values.unflatten(-2, (side, n)).unflatten(-1, (side, n)).transpose(-3, -2)
    return values.flatten(-4, -3).flatten(-2)
