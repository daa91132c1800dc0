"""Compute the loss of the scorer of poses."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CORRECT_BELOW = (0.1, 0.2, 0.4)
"""Errors (MSSD, diameters) below which a pose counts as correct; the target is the mean over all of them, so
that of two poses of the right view the more exact one has the higher target."""
CORRECT = 0.2
"""Error below which the target is more than a half."""


def scorer_loss(score: Tensor, error: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the binary cross-entropy of scores, and what is reported of them.

    Args:
        score: [B] logits; error: [B] MSSD of the poses, in diameters.
    """
    correct = error[:, None] < torch.tensor(CORRECT_BELOW, device=error.device)
    target = correct.to(score.dtype).mean(dim=1)
    loss = F.binary_cross_entropy_with_logits(score, target)
    probability, is_correct = score.detach().sigmoid(), error < CORRECT
    return loss, {
        "loss": loss.detach(),
        "score_accuracy": ((probability > 0.5) == is_correct).float().mean(),
        **mean_probabilities(probability, is_correct),
    }


def mean_probabilities(probability: Tensor, is_correct: Tensor) -> dict[str, Tensor]:
    """Return the mean probabilities of correct and of wrong poses; without the kind that there is none of."""
    kinds = {"score_correct": is_correct, "score_wrong": ~is_correct}
    return {name: probability[rows].mean() for name, rows in kinds.items() if rows.any()}
