"""Flow inside matched patches: L1 on pixels, cross-entropy on the correlation, calibrated confidence."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vpog_core.models.config import PATCH
from vpog_core.models.flow_head import CELLS, REACH, Flow
from vpog_core.training.losses.classification import masked_mean

CONFIDENT_ERROR = 2.0 / PATCH
"""Confidence is trained to say whether a pixel's flow is right to two pixels."""


def flow_loss(flow: Flow, target: Tensor, seen: Tensor, offset: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss over P matched pairs.

    Args:
        flow: the head's answer for P pairs.
        target: [P, 4, 4, 2] patch units, at pixels offset, offset + 4, ... of each patch.
        seen: [P, 4, 4] bool; offset: 0..3.

    Returns:
        the loss; `flow_error` (mean |dx| + |dy| over seen pixels, pixels), `cell_error` (of the
        correlation alone), `flow_within_2px` (share of seen pixels).
    """
    predicted = flow.flow[:, offset::CELLS, offset::CELLS]
    error = (predicted - target).abs().sum(dim=-1)
    cell_error = (flow.cell_flow.unflatten(1, (CELLS, CELLS)) - target).abs().sum(dim=-1)
    right = ((error.detach() < CONFIDENT_ERROR) & seen).float()
    confidence = flow.confidence_logits[:, offset::CELLS, offset::CELLS]
    loss = (
        4.0 * masked_mean(error, seen)
        + 0.5 * masked_mean(correlation_loss(flow.cell_logits, target), seen)
        + 0.5 * F.binary_cross_entropy_with_logits(confidence, right, reduction="sum") / max(right.numel(), 1)
    )
    scores = {
        "flow_error": masked_mean(error, seen) * PATCH,
        "cell_error": masked_mean(cell_error, seen) * PATCH,
        "flow_within_2px": masked_mean(right, seen),
    }
    return loss, {k: v.detach() for k, v in scores.items()}


def correlation_loss(cell_logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy [P, 4, 4] of the cells' distributions with the bilinear weights of the true place.

    The expected place under these weights is the true place, so the soft-argmax has no bias at its optimum.
    Places outside the window give zero.
    """
    log_p = cell_logits.float().log_softmax(dim=-1).unflatten(-1, (REACH, REACH))  # [P, 16, rows, columns]
    cell = torch.arange(CELLS, device=target.device)
    y, x = torch.meshgrid(cell, cell, indexing="ij")
    place = target * CELLS + torch.stack((x, y), dim=-1) + CELLS  # window cells
    place = place.flatten(1, 2)  # [P, 16, 2]
    inside = ((place >= 0) & (place <= REACH - 1)).all(dim=-1)
    low = place.floor().clamp(0, REACH - 2)
    part = (place - low).clamp(0, 1)
    total = 0.0
    for dx in (0, 1):
        for dy in (0, 1):
            weight = (part[..., 0] if dx else 1 - part[..., 0]) * (part[..., 1] if dy else 1 - part[..., 1])
            index = ((low[..., 1] + dy) * REACH + low[..., 0] + dx).long()
            total = total - weight * log_p.flatten(2).gather(2, index[..., None]).squeeze(-1)
    return (total * inside).unflatten(1, (CELLS, CELLS))
