"""Compute descriptors for retrieval that also match crops of a part of the object, shifted or scaled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = (-2, -1, 0, 1, 2)
"""Shifts in each direction, in steps of a scale's own size."""
PLACEMENT_STEPS = ((1.0, 1 / 14), (0.8, 3 / 28), (0.6, 1 / 7))
"""Scales of the crop in the template, each with its step of shifts, in sides of the template.

A box around the visible part magnifies the object: at 30 % visible the crop covers some 0.6 of the template.
"""


INITIAL_GATE = 2.0
"""Initial bias of the template weights, which makes nearly all of them 1."""


@dataclass(frozen=True)
class Placement:
    """Places a crop in a template's image: template = scale * crop + (x, y), about both middles.

    Attributes:
        scale: side of the crop over the side of the template.
        x, y: of the crop's middle, in sides of the template, right and down.
    """

    scale: float
    x: float
    y: float


class RetrievalHead(nn.Module):
    """Describes images by their encoder tokens, and compares crops with templates by the descriptors.

    A patch's descriptor is a unit vector times a learned weight: of a crop's patches the fraction of
    attention, so that background and occluders lose their say; of a template's patches a number in 0..1. A
    crop is laid over a template in each of `placements`, and the products of the descriptors that come to lie
    on each other are summed: a weighted mean of similarities. All placements and templates are one matrix
    product, and the best placement counts.

    Args:
        dim: width of the tokens; retrieval_dim: channels per patch; grid: patches along a side.
    """

    def __init__(self, dim: int, retrieval_dim: int, grid: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, retrieval_dim))
        self.share = nn.Linear(dim, 1, bias=False)  # a bias would leave the softmax as it is
        self.gate = nn.Linear(dim, 1)
        nn.init.constant_(self.gate.bias, INITIAL_GATE)
        self.log_scale = nn.Parameter(torch.tensor(3.0))
        self.placement_bias = nn.Parameter(torch.zeros(len(placements())))
        """Learned prior of each placement, in logits."""
        self.register_buffer("overlays", placement_matrices(grid), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return descriptors [N, Nq * retrieval_dim] of crops' tokens [N, Nq, D]."""
        return (self._directions(tokens) * self.share(tokens).softmax(dim=-2)).flatten(1)

    def of_templates(self, tokens: Tensor) -> Tensor:
        """Return descriptors [N, Nq * retrieval_dim] of templates' tokens [N, Nq, D]."""
        return (self._directions(tokens) * self.gate(tokens).sigmoid()).flatten(1)

    def logits(self, queries: Tensor, templates: Tensor) -> Tensor:
        """Compare crops with templates: logits [..., Q, T].

        Args:
            queries: descriptors [..., Q, C]; templates: descriptors [..., T, C].
        """
        return self.placement_logits(queries, templates).amax(dim=-2)

    def placement_logits(self, queries: Tensor, templates: Tensor) -> Tensor:
        """Compare crops with templates in each placement: logits [..., Q, H, T], arguments as of `logits`."""
        placed = self._placed(queries.float())
        similarity = placed.flatten(-3, -2) @ templates.float().transpose(-1, -2)
        similarity = similarity.unflatten(-2, placed.shape[-3:-1])
        return similarity * self.log_scale.exp() + self.placement_bias[:, None]

    def _directions(self, tokens: Tensor) -> Tensor:
        return F.normalize(self.project(tokens), dim=-1)

    def _placed(self, queries: Tensor) -> Tensor:
        """Lay descriptors of crops [..., Q, C] over a template's grid in every placement: [..., Q, H, C]."""
        patches = queries.unflatten(-1, (self.overlays.shape[-1], -1))
        return torch.einsum("hji,...ic->...hjc", self.overlays, patches).flatten(-2)


@lru_cache(maxsize=1)
def placements() -> tuple[Placement, ...]:
    """Return the H placements that are tried."""
    return tuple(
        Placement(scale, step * x, step * y) for scale, step in PLACEMENT_STEPS for y in STEPS for x in STEPS
    )


def placement_matrices(grid: int) -> Tensor:
    """Return how crop patches spread over template patches, bilinear, for each placement.

    Returns:
        [H, Nq, Nq]: the fraction of crop patch i (last) that lies on template patch j; what lies beside the
        template is lost.
    """
    rows = torch.stack([_spread(p.scale, p.y, grid) for p in placements()])
    columns = torch.stack([_spread(p.scale, p.x, grid) for p in placements()])
    return torch.einsum("hab,hcd->hacbd", rows, columns).flatten(3, 4).flatten(1, 2)


def _spread(scale: float, shift: float, grid: int) -> Tensor:
    """Return [grid, grid]: fractions of a crop's rows (last) on a template's rows, for a shift in sides."""
    middle, patches = (grid - 1) / 2, torch.arange(grid, dtype=torch.float32)
    places = scale * (patches - middle) + middle + shift * grid
    return (1 - (patches[:, None] - places).abs()).clamp_min(0.0)
