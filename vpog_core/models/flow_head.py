"""Predict dense flow inside a matched pair of patches, with confidence.

Flow is in patch units: a query pixel u of patch i lies in the template at
`centre(j) + (u - centre(i)) + 16 * flow`, j being the matched template patch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vpog_core.models.config import PATCH, VPOGConfig
from vpog_core.models.stem import STRIDE

CELLS = PATCH // STRIDE
"""Stride-4 cells along a patch's side."""
REACH = 3 * CELLS
"""Cells along the side of the window searched around the matched template patch."""
PAIRS_AT_ONCE = 1024
"""Number of pairs that `FlowHead.dense` processes at once."""


@dataclass
class Flow:
    """Holds the flow of matched pairs; `...` is [P] for a list of pairs or [B, S, Nq].

    Attributes:
        flow: [..., 16, 16, 2] (x, y), patch units.
        confidence_logits: [..., 16, 16].
        cell_logits: [..., 16, 144], the 4x4 query cells against the 12x12 template cells around j.
        cell_flow: [..., 16, 2], the flow that the correlation alone gives per cell, patch units.
    """

    flow: Tensor
    confidence_logits: Tensor
    cell_logits: Tensor
    cell_flow: Tensor

    @property
    def confidence(self) -> Tensor:
        """The confidence [..., 16, 16] in 0..1."""
        return self.confidence_logits.sigmoid()


@dataclass
class MatchedPixels:
    """Holds what inference takes of a `Flow`: flow [B, S, Nq, 16, 16, 2], confidence [B, S, Nq, 16, 16]."""

    flow: Tensor
    confidence: Tensor


def cell_offsets(device: torch.device | None = None) -> Tensor:
    """Return flow [16, 144, 2] (patch units) from each query cell to each cell of the template's window."""
    query = torch.arange(CELLS, device=device, dtype=torch.float32)
    window = torch.arange(REACH, device=device, dtype=torch.float32) - CELLS
    offset = (window[None, :] - query[:, None]) / CELLS
    y = offset[:, None, :, None].expand(CELLS, CELLS, REACH, REACH)
    x = offset[None, :, None, :].expand(CELLS, CELLS, REACH, REACH)
    return torch.stack((x, y), dim=-1).reshape(CELLS**2, REACH**2, 2)


def affine_basis(device: torch.device | None = None) -> Tensor:
    """Return (1, x, y) [16, 16, 3] of a patch's pixels, x and y in -1..1."""
    line = (torch.arange(PATCH, device=device, dtype=torch.float32) + 0.5) / (PATCH / 2) - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack((torch.ones_like(x), x, y), dim=-1)


def take_cells(features: Tensor, image: Tensor, row: Tensor, column: Tensor, size: int) -> Tensor:
    """Cut square windows of cells [P, size * size, C], row-major, each from the first cell of a patch on.

    Args:
        features: [N, C, h, w]; image, row, column: [P] which image, and the patch's place in its grid.
    """
    height, width = features.shape[-2:]
    first = (image * height + row * CELLS) * width + column * CELLS
    line = torch.arange(size, device=first.device)
    inside = (line[:, None] * width + line).flatten()
    return features.permute(0, 2, 3, 1).flatten(0, 2)[first[:, None] + inside]


class FineFeatures(nn.Module):
    """Computes stride-4 features: the stem's, plus a part from the tokens of their patches."""

    def __init__(self, dim: int, stem_channels: int, fine_dim: int) -> None:
        super().__init__()
        self.from_stem = nn.Conv2d(stem_channels, fine_dim, 1)
        self.from_tokens = nn.Linear(dim, CELLS * CELLS * fine_dim)
        self.widen = nn.Conv2d(fine_dim, 2 * fine_dim, 3, padding=1)
        self.mix = nn.Conv2d(2 * fine_dim, fine_dim, 3, padding=1)
        nn.init.normal_(self.mix.weight, std=1e-3)
        nn.init.zeros_(self.mix.bias)

    def forward(self, stem_features: Tensor, tokens: Tensor) -> Tensor:
        """Compute unit features [N, fine_dim, H / 4, W / 4].

        Args:
            stem_features: [N, C, H / 4, W / 4]; tokens: [N, Nq, D].
        """
        side = stem_features.shape[-1] // CELLS
        spread = self.from_tokens(tokens).transpose(1, 2).unflatten(2, (side, side))
        x = self.from_stem(stem_features) + F.pixel_shuffle(spread, CELLS)
        # Normalised in float32 and handed out as it is multiplied: in mixed precision half as many bytes.
        return F.normalize(x + self.mix(F.gelu(self.widen(x))), dim=1).to(x.dtype)


class FlowHead(nn.Module):
    """Correlates stride-4 cells; an MLP gates the correlation and adds an affine part and a residual."""

    def __init__(self, config: VPOGConfig, stem_channels: int) -> None:
        super().__init__()
        dim, hidden = config.embed_dim, config.flow_hidden
        self.fine = FineFeatures(dim, stem_channels, config.fine_dim)
        self.log_sharpness = nn.Parameter(torch.tensor(2.3))
        self.inputs = nn.Linear(2 * dim + 2 + 3 * CELLS**2, hidden)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(config.flow_layers - 1))
        self.gate = nn.Linear(hidden, CELLS**2)
        self.affine = nn.Linear(hidden, 6)
        self.residual = nn.Linear(hidden, 2 * PATCH**2)
        self.confidence = nn.Linear(hidden, PATCH**2)
        for layer in (self.affine, self.residual):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.register_buffer("offsets", cell_offsets(), persistent=False)
        self.register_buffer("basis", affine_basis(), persistent=False)

    def pairs(
        self, query: Tensor, templates: Tensor, query_fine: Tensor, template_fine: Tensor, pairs: Tensor
    ) -> Flow:
        """Compute the flow of a list of matched pairs.

        Args:
            query: [B, Nq, D]; templates: [B, S, Nt, D].
            query_fine: [B, C, h, w]; template_fine: [B, S, C, h, w] (`self.fine`'s).
            pairs: [P, 4] long: batch, template, query patch, template patch.
        """
        b, s, i, j = pairs.unbind(dim=1)
        cell_logits = self._correlate(query_fine, template_fine, b, s, i, j)
        weights = cell_logits.float().softmax(dim=-1)
        cell_flow = torch.einsum("pqc,qcd->pqd", weights, self.offsets)
        peak = weights.amax(dim=-1)
        side = query_fine.shape[-1] // CELLS
        shift = torch.stack((j % side - i % side, j // side - i // side), dim=-1) / side
        hints = torch.cat((shift.to(query.dtype), cell_flow.flatten(1), peak), dim=1).to(query.dtype)
        x = F.gelu(self.inputs(torch.cat((query[b, i], templates[b, s, j], hints), dim=1)))
        for layer in self.layers:
            x = x + F.gelu(layer(x))
        flow = self._compose(x, cell_flow)
        return Flow(flow, self.confidence(x).float().unflatten(1, (PATCH, PATCH)), cell_logits, cell_flow)

    def matched(
        self, query: Tensor, templates: Tensor, query_fine: Tensor, template_fine: Tensor, index: Tensor
    ) -> Flow:
        """Compute flow [B, S, Nq, ...] of every query patch with the template patch of index [B, S, Nq]."""
        grids = torch.meshgrid(*(torch.arange(n, device=index.device) for n in index.shape), indexing="ij")
        pairs = torch.stack((*grids, index), dim=-1).flatten(0, -2)
        out = self.pairs(query, templates, query_fine, template_fine, pairs)
        return Flow(*(value.unflatten(0, index.shape) for value in vars(out).values()))

    def dense(
        self, query: Tensor, templates: Tensor, query_fine: Tensor, template_fine: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute flow and confidence of every pair: for study and tests, never in inference.

        Computed in parts, so that only the result takes memory: 0.5 GB for vpog-base, one query against
        four templates.

        Returns:
            flow [B, S, Nq, Nt, 16, 16, 2], confidence [B, S, Nq, Nt, 16, 16] in 0..1.
        """
        shape = (*templates.shape[:2], query.shape[1], templates.shape[2])
        flow, confidence = [], []
        for part in torch.arange(math.prod(shape), device=query.device).split(PAIRS_AT_ONCE):
            pairs = torch.stack(torch.unravel_index(part, shape), dim=1)
            out = self.pairs(query, templates, query_fine, template_fine, pairs)
            flow.append(out.flow)
            confidence.append(out.confidence)
        return torch.cat(flow).unflatten(0, shape), torch.cat(confidence).unflatten(0, shape)

    def _correlate(
        self, query: Tensor, templates: Tensor, b: Tensor, s: Tensor, i: Tensor, j: Tensor
    ) -> Tensor:
        """Compute logits [P, 16, 144] of query against template cells; those outside it are excluded."""
        side = query.shape[-1] // CELLS
        cells = take_cells(query, b, i // side, i % side, CELLS)
        # With a margin of one patch, the window starts at the index of the matched patch's first cell.
        padded = F.pad(templates.flatten(0, 1), (CELLS,) * 4)
        windows = take_cells(padded, b * templates.shape[1] + s, j // side, j % side, REACH)
        logits = cells @ windows.transpose(1, 2) * self.log_sharpness.exp()
        return logits.masked_fill(~self._inside(side, j)[:, None], -1e4)

    def _inside(self, side: int, j: Tensor) -> Tensor:
        """Tell which cells of the window around patch j lie in the template, [P, 144] bool."""
        reach = torch.arange(REACH, device=j.device) - CELLS
        rows = (j // side * CELLS)[:, None] + reach
        columns = (j % side * CELLS)[:, None] + reach
        limit = side * CELLS
        rows, columns = ((v >= 0) & (v < limit) for v in (rows, columns))
        return (rows[:, :, None] & columns[:, None, :]).flatten(1)

    def _compose(self, x: Tensor, cell_flow: Tensor) -> Tensor:
        """Compose flow [P, 16, 16, 2]: gated correlation, affine part, residual."""
        gated = (cell_flow * self.gate(x).float().sigmoid()[..., None]).unflatten(1, (CELLS, CELLS))
        coarse = F.interpolate(gated.permute(0, 3, 1, 2), size=(PATCH, PATCH), mode="bilinear").permute(
            0, 2, 3, 1
        )
        affine = torch.einsum("pdk,hwk->phwd", self.affine(x).float().unflatten(1, (2, 3)), self.basis)
        residual = self.residual(x).float().unflatten(1, (PATCH, PATCH, 2))
        return coarse + affine + residual
