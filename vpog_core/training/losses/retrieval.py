"""Compute the retrieval loss: InfoNCE over viewpoints and rolls, softened by their SO(3) distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SOFTNESS = math.radians(12.0)
"""Candidates this far from the best one have 1/e of its weight in the target."""


def retrieval_loss(logits: Tensor, distance: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the soft cross-entropy of each query with its candidates.

    Args:
        logits: [..., Q, T]; distance: [..., Q, T] radians between query and candidate on SO(3).

    Returns:
        the loss; `retrieval_error` (degrees beyond the best candidate, mean).
    """
    target = (-((distance / SOFTNESS) ** 2)).softmax(dim=-1)
    loss = -(target * logits.float().log_softmax(dim=-1)).sum(dim=-1).mean()
    chosen = distance.gather(-1, logits.argmax(dim=-1, keepdim=True)).squeeze(-1)
    error = torch.rad2deg(chosen - distance.amin(dim=-1)).mean()
    return loss, {"retrieval_error": error.detach()}
