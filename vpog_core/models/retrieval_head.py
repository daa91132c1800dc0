"""Descriptors that find the view: compared position by position, in one matrix product."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RetrievalHead(nn.Module):
    """Encoder tokens -> one long descriptor per image.

    A patch's descriptor is a unit vector times the square root of a learned share of attention, so the dot
    product of two images' descriptors is a weighted mean of patch similarities in -1..1: background
    and occluders lose their say by their share, and one matrix product scores every template.

    Args:
        dim: width of the tokens; retrieval_dim: channels per patch.
    """

    def __init__(self, dim: int, retrieval_dim: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, retrieval_dim))
        self.share = nn.Linear(dim, 1, bias=False)  # a bias would leave the softmax as it is
        self.log_scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, tokens: Tensor) -> Tensor:
        """Unit descriptors [N, Nq * retrieval_dim] of tokens [N, Nq, D]."""
        directions = F.normalize(self.project(tokens), dim=-1)
        share = self.share(tokens).float().softmax(dim=-2).to(tokens.dtype)
        return (directions * share.clamp_min(1e-8).sqrt()).flatten(1)

    def logits(self, queries: Tensor, templates: Tensor) -> Tensor:
        """Scaled similarities [..., Q, T] of descriptors [..., Q, C] and [..., T, C]."""
        return queries @ templates.transpose(-1, -2) * self.log_scale.exp()
