"""Sample 2D-3D correspondences of a training batch, differentiable in the network's output.

The same as `inference.correspondence` makes: a query pixel, the object point its flow leads to in the
likeliest template patch, and a confidence; but of a fixed number of pixels, so that queries form a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vpog_core.models.config import PATCH
from vpog_core.models.vpog_model import Matches, VPOGModel
from vpog_core.training.losses.classification import merge_unseen
from vpog_core.training.losses.labels import PosedDepth

PIXEL_STRIDE = 8
"""Distance of the used pixels of a patch: neighbours carry nearly the same information."""


@dataclass
class PoseCorrespondences:
    """Holds M correspondences of each of B queries.

    Attributes:
        points_2d: [B, M, 2] query pixels.
        points_3d: [B, M, 3] metres, object frame, with gradients to the flow.
        confidence: [B, M] 0..1, with gradients to logits and confidence; zero where the flow leads off
            the object.
    """

    points_2d: Tensor
    points_3d: Tensor
    confidence: Tensor


def pose_correspondences(
    model: VPOGModel,
    matches: Matches,
    templates: PosedDepth,
    diameter: Tensor,
    patches: int,
    offset: tuple[int, int],
) -> PoseCorrespondences:
    """Sample correspondences of queries [B] with their templates [B, S].

    `patches` pairs of a query patch and a template are drawn for each query, likely ones more often; four
    pixels of each make M = 4 * patches.

    Args:
        templates: their depth, K and T; diameter: [B] metres.
        offset: (row, column) of the first pixel used in a patch.
    """
    count = matches.templates.shape[2]
    probability = merge_unseen(matches.logits.float(), count).softmax(dim=-1)
    best = probability[..., :count].max(dim=-1)
    seen = 1.0 - probability[..., count]
    # Compute the factor of the confidence as in `dense_matches`.
    likely = seen * (best.values / seen.clamp_min(1e-6)).clamp_min(1e-12).sqrt()  # [B, S, Nq]
    drawn = torch.multinomial(likely.detach().flatten(1) + 1e-6, min(patches, likely[0].numel()))  # [B, n]
    b = torch.arange(len(drawn), device=drawn.device)[:, None].expand_as(drawn)
    s, i = drawn // seen.shape[2], drawn % seen.shape[2]
    j = best.indices[b, s, i]
    flow = model.flow_of_pairs(matches, torch.stack((b, s, i, j), dim=-1).flatten(0, 1))
    side = round(count**0.5)
    rows, columns = (torch.arange(o, PATCH, PIXEL_STRIDE, device=drawn.device) for o in offset)
    pixel = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).flatten(0, 1)  # [4, 2]
    corner_i, corner_j = (torch.stack((k % side, k // side), dim=-1) * PATCH for k in (i, j))
    shape = (*drawn.shape, PATCH, PATCH)
    motion = flow.flow.view(*shape, 2)[:, :, pixel[:, 1], pixel[:, 0]]  # [B, n, 4, 2]
    place = corner_j[:, :, None] + pixel + PATCH * motion
    view = s[..., None].expand(place.shape[:3])
    points, on_object = lift(templates, view.flatten(1), place.flatten(1, 2), diameter)
    confidence = flow.confidence.view(shape)[:, :, pixel[:, 1], pixel[:, 0]] * likely[b, s, i][..., None]
    points_2d = (corner_i[:, :, None] + pixel).flatten(1, 2).to(points.dtype)
    return PoseCorrespondences(points_2d, points, confidence.flatten(1) * on_object)


def lift(templates: PosedDepth, view: Tensor, pixels: Tensor, diameter: Tensor) -> tuple[Tensor, Tensor]:
    """Lift sub-pixel places [B, M, 2] of templates [B, S] to points [B, M, 3]; tell which show the object.

    Bilinear, with gradients to the places, where all four pixels around lie on one piece of surface, else
    the nearest pixel; as `inference.correspondence.lift`, from depth.

    Args:
        view: [B, M] which template; diameter: [B] metres.
    """
    # Find the four pixels around each place, and the nearest one.
    height, width = templates.depth.shape[-2:]
    limit = pixels.new_tensor((width, height))
    inside = ((pixels > -0.5) & (pixels < limit - 0.5)).all(dim=-1)
    nearest = pixels.detach().round().clamp_min(0).minimum(limit - 1)
    low = pixels.detach().floor().clamp_min(0).minimum(limit - 2)
    part = (pixels - low).clamp(0, 1)
    steps = pixels.new_tensor(((0, 0), (1, 0), (0, 1), (1, 1)))
    places = torch.cat((low[:, :, None] + steps, nearest[:, :, None]), dim=2)  # [B, M, 5, 2]
    # Look up their points, and interpolate.
    points, there = _surface(templates, view, places)
    (top_left, top_right, low_left, low_right, here), x, y = (
        points.unbind(dim=2),
        part[..., :1],
        part[..., 1:],
    )
    top, bottom = top_left + x * (top_right - top_left), low_left + x * (low_right - low_left)
    smooth = top + y * (bottom - top)
    # Take the nearest pixel where the four are not on one piece of surface.
    close = (smooth.detach() - here).norm(dim=-1) < 4 * diameter[:, None] / width
    whole = there[..., :4].all(dim=-1) & close
    return torch.where(whole[..., None], smooth, here), inside & there[..., 4]


def _surface(templates: PosedDepth, view: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Lift whole pixels [B, M, n, 2] of templates [B, M] to points [B, M, n, 3]; tell which show it."""
    batch, (height, width) = torch.arange(len(view), device=view.device)[:, None], templates.depth.shape[-2:]
    u, v = pixels.long().unbind(dim=-1)
    depth = templates.depth.flatten(1)[batch[..., None], (view[..., None] * height + v) * width + u]
    K_inverse, T_inverse = (torch.linalg.inv(m)[batch, view] for m in (templates.K, templates.T_view_obj))
    rays = torch.cat((pixels, torch.ones_like(pixels[..., :1])), dim=-1) @ K_inverse.mT
    points = (rays * depth[..., None]) @ T_inverse[..., :3, :3].mT + T_inverse[..., None, :3, 3]
    return points, depth > 0
