"""Learnable tokens added to the query and to every template, and the rope_mask that goes with them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TokenManager(nn.Module):
    """Adds tokens before the alternating attention and splits them off after it.

    A template's added token means 'what you look for is not seen here'.

    Args:
        dim: width; query_added, template_added: tokens added per image.
    """

    def __init__(self, dim: int, query_added: int = 0, template_added: int = 1) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(torch.randn(query_added, dim) * 0.02)
        self.template_tokens = nn.Parameter(torch.randn(template_added, dim) * 0.02)

    def add(self, query: Tensor, templates: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Append the added tokens.

        Args:
            query: [B, Nq, D]; templates: [B, S, Nt, D].

        Returns:
            query [B, Nq + Aq, D], templates [B, S, Nt + At, D], and their rope masks
            [B, Nq + Aq], [B, S, Nt + At] (bool, False on added tokens).
        """
        query, query_mask = self._append(query, self.query_tokens)
        templates, template_mask = self._append(templates, self.template_tokens)
        return query, templates, query_mask, template_mask

    def split(self, query: Tensor, templates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Undo `add`: query [B, Nq, D], template patches [B, S, Nt, D], their added tokens [B, S, At, D]."""
        n_query = query.shape[-2] - len(self.query_tokens)
        n_template = templates.shape[-2] - len(self.template_tokens)
        return query[..., :n_query, :], templates[..., :n_template, :], templates[..., n_template:, :]

    @staticmethod
    def _append(tokens: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
        added = added.to(tokens.dtype).expand(*tokens.shape[:-2], *added.shape)
        mask = torch.ones(tokens.shape[:-1], dtype=torch.bool, device=tokens.device)
        added_mask = torch.zeros(added.shape[:-1], dtype=torch.bool, device=tokens.device)
        return torch.cat((tokens, added), dim=-2), torch.cat((mask, added_mask), dim=-1)
