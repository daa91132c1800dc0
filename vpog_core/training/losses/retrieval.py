"""Compute the retrieval loss: InfoNCE over viewpoints and rolls, softened by their SO(3) distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vpog_core.training.losses.classification import masked_mean

SOFTNESS = math.radians(12.0)
"""Candidates this far from the best one have 1/e of its weight in the target."""


def retrieval_loss(logits: Tensor, distance: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the soft cross-entropy of each query with its candidates.

    Args:
        logits: [..., Q, T]; distance: [..., Q, T] radians between query and candidate on SO(3), infinite
            where a template is no candidate. Queries without a candidate are left out.

    Returns:
        the loss; `retrieval_error` (degrees beyond the best candidate, mean).
    """
    some = distance.isfinite().any(dim=-1)
    # A query without candidates is computed like any other, and not counted: no GPU is waited for.
    distance = distance.masked_fill(~some[..., None], 0.0)
    none = distance.isinf()
    target = (-((distance / SOFTNESS) ** 2)).softmax(dim=-1)
    logits = logits.float().masked_fill(none, -torch.inf)
    # What is no candidate has neither probability nor weight, and their product is no number.
    loss = masked_mean(-(target * logits.log_softmax(dim=-1).masked_fill(none, 0.0)).sum(dim=-1), some)
    chosen = distance.gather(-1, logits.argmax(dim=-1, keepdim=True)).squeeze(-1)
    error = masked_mean(torch.rad2deg(chosen - distance.amin(dim=-1)), some)
    return loss, {"retrieval_error": error.detach()}
