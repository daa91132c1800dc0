"""Which template patch does a query patch see? Cross-entropy, seen and unseen patches weighted apart."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def classification_loss(
    logits: Tensor, target: Tensor, unseen_weight: float = 0.5
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and accuracies.

    Args:
        logits: [B, S, Nq, Nt + 1]; target: [B, S, Nq] long, Nt for 'unseen'.

    Returns:
        the loss; `seen_accuracy` (share of seen patches matched right) and `unseen_accuracy`.
    """
    unseen_class = logits.shape[-1] - 1
    losses = F.cross_entropy(logits.flatten(0, 2).float(), target.flatten(), reduction="none")
    right = logits.flatten(0, 2).argmax(dim=-1) == target.flatten()
    unseen = target.flatten() == unseen_class
    loss = masked_mean(losses, ~unseen) + unseen_weight * masked_mean(losses, unseen)
    scores = {
        "seen_accuracy": masked_mean(right.float(), ~unseen),
        "unseen_accuracy": masked_mean(right.float(), unseen),
    }
    return loss, scores


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values under the mask; zero when the mask is empty."""
    return (values * mask).sum() / mask.sum().clamp_min(1)
