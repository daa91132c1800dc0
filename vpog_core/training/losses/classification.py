"""Classify which template patch a query patch shows: cross-entropy, unseen patches weighted separately."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def classification_loss(
    logits: Tensor, target: Tensor, unseen_weight: float = 0.5, label_smoothing: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the cross-entropy of patch classes, and accuracies.

    Args:
        logits: [B, S, Nq, Nt + A], Nt = Nq patches of a grid and A >= 1 columns that mean 'unseen', whose
            probabilities add up; target: [B, S, Nq] long, Nt for 'unseen'.
        label_smoothing: fraction of the label spread over all classes (Szegedy et al. 2016).

    Returns:
        the loss; `seen_accuracy` (fraction of seen patches matched correctly) and `unseen_accuracy`.
    """
    unseen_class = logits.shape[2]
    classes = merge_unseen(logits.flatten(0, 2).float(), unseen_class)
    target = target.flatten()
    losses = F.cross_entropy(classes, target, reduction="none", label_smoothing=label_smoothing)
    correct = classes.argmax(dim=-1) == target
    unseen = target == unseen_class
    loss = masked_mean(losses, ~unseen) + unseen_weight * masked_mean(losses, unseen)
    scores = {
        "seen_accuracy": masked_mean(correct.float(), ~unseen),
        "unseen_accuracy": masked_mean(correct.float(), unseen),
    }
    return loss, scores


def merge_unseen(logits: Tensor, patches: int) -> Tensor:
    """Merge the added columns of logits [..., patches + A] into one: [..., patches + 1]."""
    if logits.shape[-1] == patches + 1:
        return logits
    unseen = logits[..., patches:].logsumexp(dim=-1, keepdim=True)
    return torch.cat((logits[..., :patches], unseen), dim=-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean of the values under the mask; zero when the mask is empty."""
    return (values * mask).sum() / mask.sum().clamp_min(1)
