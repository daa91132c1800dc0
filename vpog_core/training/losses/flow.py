"""Compute the loss of flow inside matched patches: L1 or Huber, cross-entropy on correlation, confidence."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vpog_core.models.config import PATCH
from vpog_core.models.flow_head import CELLS, REACH, Flow
from vpog_core.training.losses.classification import masked_mean
from vpog_core.training.losses.config import LossOptions

CONFIDENT_ERROR = 2.0 / PATCH
"""Confidence is trained to say whether a pixel's flow is correct to two pixels."""

_DEFAULTS = LossOptions()


def flow_loss(
    flow: Flow, target: Tensor, seen: Tensor, offset: tuple[int, int], options: LossOptions = _DEFAULTS
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the flow and confidence losses of P matched pairs.

    Args:
        flow: the head's output for P pairs.
        target: [P, 4, 4, 2] patch units, at every fourth row and column of each patch from `offset` on.
        seen: [P, 4, 4] bool; offset: (row, column), 0..3 each.
        options: `flow_kind`, `huber_px`, `confidence_weighting`.

    Returns:
        the loss; over seen pixels `flow_error` (mean |dx| + |dy|, pixels), `flow_mae` and `flow_rmse` (per
        coordinate, pixels), `cell_error` (|dx| + |dy| of the correlation alone), `flow_within_2px`;
        over all pixels `confidence_calibration` (expected calibration error, 0..1).
    """
    row, column = offset
    predicted = flow.flow[:, row::CELLS, column::CELLS]
    difference = predicted - target
    error = difference.abs().sum(dim=-1)
    cell_error = (flow.cell_flow.unflatten(1, (CELLS, CELLS)) - target).abs().sum(dim=-1)
    correct = ((error.detach() < CONFIDENT_ERROR) & seen).float()
    logits = flow.confidence_logits[:, row::CELLS, column::CELLS]
    penalty = error if options.flow_kind == "l1" else huber(difference, options.huber_px / PATCH)
    if options.confidence_weighting:
        penalty = penalty * confidence_weights(logits.detach().sigmoid(), seen, options.confidence_weighting)
    loss = (
        4.0 * masked_mean(penalty, seen)
        + 0.5 * masked_mean(correlation_loss(flow.cell_logits, target), seen)
        + 0.5 * F.binary_cross_entropy_with_logits(logits, correct, reduction="sum") / max(correct.numel(), 1)
    )
    scores = {
        "flow_error": masked_mean(error, seen) * PATCH,
        "flow_mae": masked_mean(error, seen) * PATCH / 2,
        "flow_rmse": (masked_mean(difference.detach().square().sum(dim=-1), seen) / 2).sqrt() * PATCH,
        "cell_error": masked_mean(cell_error, seen) * PATCH,
        "flow_within_2px": masked_mean(correct, seen),
        "confidence_calibration": calibration_error(logits.detach().sigmoid(), correct),
    }
    return loss, {k: v.detach() for k, v in scores.items()}


def huber(difference: Tensor, threshold: float) -> Tensor:
    """Compute Huber's loss of [..., 2], summed over x and y, with the slope of L1 beyond the threshold."""
    zero = torch.zeros_like(difference)
    return F.huber_loss(difference, zero, reduction="none", delta=threshold).sum(dim=-1) / threshold


def confidence_weights(confidence: Tensor, seen: Tensor, fraction: float) -> Tensor:
    """Return weights of mean one over the seen pixels, `fraction` of them proportional to the confidence."""
    mean = masked_mean(confidence, seen).clamp_min(1e-6)
    return 1 + fraction * (confidence / mean - 1)


def calibration_error(confidence: Tensor, correct: Tensor, bins: int = 10) -> Tensor:
    """Compute the expected calibration error: |mean confidence - fraction correct| of each bin, averaged.

    Guo et al., On Calibration of Modern Neural Networks (2017), section 3. Zero where there are no pixels.
    """
    confidence, correct = confidence.flatten(), correct.flatten()
    which = (confidence * bins).long().clamp(0, bins - 1)
    gap = torch.zeros(bins, device=correct.device, dtype=correct.dtype).index_add_(
        0, which, confidence - correct
    )
    return gap.abs().sum() / max(correct.numel(), 1)


def correlation_loss(cell_logits: Tensor, target: Tensor) -> Tensor:
    """Compute the cross-entropy [P, 4, 4] of cell distributions with bilinear weights of the true place.

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
