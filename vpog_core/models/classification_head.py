"""Classify which template patch, if any, each query patch matches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vpog_core.models.pos_embed import RoPE2D, grid_positions, rotations


class ClassificationHead(nn.Module):
    """Scores query patches against template patches and added tokens.

    Once the roll is taken out, matches lie near the same grid position, so the scores carry the relative
    position: rotary phases on projected queries and keys. Added tokens lie nowhere: neither side turns.

    Args:
        dim: width of the tokens; temperature: divides the logits; base: of the rotary ladder.
    """

    def __init__(self, dim: int, temperature: float = 1.0, base: float = 100.0) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.rope = RoPE2D(dim, base)
        self.scale = dim**-0.5 / temperature

    def forward(self, query: Tensor, templates: Tensor, added: Tensor) -> Tensor:
        """Compute logits [B, S, Nq, Nt + A].

        Args:
            query: [B, Nq, D]; templates: [B, S, Nt, D], grids of equal size; added: [B, S, A, D].
        """
        side = round(query.shape[1] ** 0.5)
        rotation = rotations(self.rope.phases(grid_positions(side, side, query.device)))
        q, k = self.query(query), self.key(templates)
        turned = self.rope.rotate(q, rotation), self.rope.rotate(k, rotation)
        of_patches = torch.einsum("bqd,bskd->bsqk", *turned)
        of_added = torch.einsum("bqd,bsad->bsqa", q, self.key(added))
        return torch.cat((of_patches, of_added), dim=-1) * self.scale
