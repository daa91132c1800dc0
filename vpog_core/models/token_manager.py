"""Add learnable tokens to the query and to every template, with the rope_mask that belongs to them."""

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

    def add(self, query: Tensor, templates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Append the added tokens.

        Args:
            query: [B, N, D]; templates: [B, S, N, D].

        Returns:
            query [B, N + Aq, D], templates [B, S, N + At, D], and rope_mask [B, S + 1, N + A] bool: the
            query's row, then the templates', False on added tokens; A is the larger of Aq and At.
        """
        batch, count, patches, _ = templates.shape
        columns = patches + max(len(self.query_tokens), len(self.template_tokens))
        rope_mask = torch.arange(columns, device=templates.device) < patches
        return (
            self._append(query, self.query_tokens),
            self._append(templates, self.template_tokens),
            rope_mask.expand(batch, count + 1, -1),
        )

    def split(self, query: Tensor, templates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Undo `add`: query [B, N, D], template patches [B, S, N, D], their added tokens [B, S, At, D]."""
        n_query = query.shape[-2] - len(self.query_tokens)
        n_template = templates.shape[-2] - len(self.template_tokens)
        return query[..., :n_query, :], templates[..., :n_template, :], templates[..., n_template:, :]

    @staticmethod
    def _append(tokens: Tensor, added: Tensor) -> Tensor:
        added = added.to(tokens.dtype).expand(*tokens.shape[:-2], -1, -1)
        return torch.cat((tokens, added), dim=-2)
