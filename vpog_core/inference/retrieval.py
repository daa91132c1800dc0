"""Retrieve the templates, and their rolls, that are most similar to a crop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vpog_core.geometry.se3 import rotation_angle
from vpog_core.inference.onboarding import ROLLS, OnboardedObject

SEPARATION = np.radians(35.0)
"""Views nearer than this to a better one are skipped: its cluster covers them."""
MAX_TRIED = 200
"""Views, best first, of which those to return are chosen."""
MayBeView = Callable[[np.ndarray], bool]
"""Function that tells whether the crop may show a template, given by its rotation [3, 3] to the camera."""


def any_view(R_virt_obj: np.ndarray) -> bool:
    """Allow every view."""
    return True


@dataclass(frozen=True)
class RetrievedView:
    """Hold a template's view and roll, and the logit that the crop shows it: higher is likelier."""

    view: int
    roll_index: int
    logit: float


def template_logits(descriptor: Tensor, target: OnboardedObject) -> np.ndarray:
    """Compare a crop's descriptor [C] with all templates: logits [V, ROLLS]."""
    with torch.inference_mode():
        logits = target.model.retrieval_head.logits(descriptor[None], target.descriptors)[0]
    return logits.float().cpu().numpy().reshape(-1, ROLLS)


def retrieve(
    descriptor: Tensor, target: OnboardedObject, count: int, may_be_view: MayBeView = any_view
) -> list[RetrievedView]:
    """Find the best `count` views for a crop's descriptor [C], best first, at least SEPARATION apart.

    Args:
        may_be_view: tells which views are tried.
    """
    logits = template_logits(descriptor, target).ravel()
    chosen: list[RetrievedView] = []
    tried = 0
    for index in np.argsort(-logits):
        view, roll_index = divmod(int(index), ROLLS)
        if not may_be_view(target.rotation(view, roll_index)):
            continue
        tried += 1
        if all(_is_separate(target, view, roll_index, other) for other in chosen):
            chosen.append(RetrievedView(view, roll_index, float(logits[index])))
        if len(chosen) == count or tried == MAX_TRIED:
            break
    return chosen


def _is_separate(target: OnboardedObject, view: int, roll_index: int, other: RetrievedView) -> bool:
    R_other = target.rotation(other.view, other.roll_index)
    return rotation_angle(target.rotation(view, roll_index), R_other) > SEPARATION
