"""Which template, at which roll, looks most like the crop?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vpog_core.geometry.se3 import rotation_angle
from vpog_core.inference.onboarding import ROLLS, OnboardedObject

SEPARATION = np.radians(35.0)
"""Hypotheses nearer to a better one than this say nothing new: its cluster covers them."""


@dataclass(frozen=True)
class Hypothesis:
    """A view and a roll, with the similarity (-1..1) of the crop to it."""

    view: int
    roll_index: int
    similarity: float


def retrieve(descriptor: Tensor, target: OnboardedObject, count: int) -> list[Hypothesis]:
    """The best `count` hypotheses for a crop's descriptor [C], best first, at least SEPARATION apart."""
    with torch.inference_mode():
        similarity = (target.descriptors @ descriptor).float().cpu().numpy()
    chosen: list[Hypothesis] = []
    for index in np.argsort(-similarity)[:200]:
        view, roll_index = divmod(int(index), ROLLS)
        if all(_apart(target, view, roll_index, other) for other in chosen):
            chosen.append(Hypothesis(view, roll_index, float(similarity[index])))
        if len(chosen) == count:
            break
    return chosen


def _apart(target: OnboardedObject, view: int, roll_index: int, other: Hypothesis) -> bool:
    R_other = target.rotation(other.view, other.roll_index)
    return rotation_angle(target.rotation(view, roll_index), R_other) > SEPARATION
