"""Retrieve the templates, and their rolls, that look most like a crop.

A crop is compared with each template at `ROLLS` in-plane turns. Both are described at some turns, so that
each roll between them is covered by several pairs, and the mean of their logits is used, which is more
reliable than any pair's. Templates need fewer turns for it, and describing them is most of the work of
onboarding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vpog_core.geometry.camera import warp
from vpog_core.geometry.se3 import rotation_z
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.inference.crop import Crop
from vpog_core.inference.observation import Observation
from vpog_core.inference.onboarding import CROP_TURNS, ROLLS, TEMPLATE_TURNS, OnboardedObject, roll_angle
from vpog_core.models.precision import inference_context

SEPARATION = np.radians(35.0)
"""Views nearer than this to a better one, or to an equivalent of it, are skipped: its cluster covers them."""
MAX_TRIED = 200
"""Number of best views from which those to return are chosen."""
NO_SYMMETRY = Symmetry.none()


def any_view(R_virt_obj: np.ndarray) -> bool:
    """Allow every view."""
    return True


@dataclass(frozen=True, eq=False)
class ViewSearch:
    """Holds how likely a crop shows each view of an object, and which views may be tried.

    Attributes:
        logits: [V, ROLLS], see `template_logits`; target: the object.
        may_be_view: tells whether the crop may show a template, given by its rotation [3, 3] to the camera.
        symmetry: of the object; of equivalent views one is tried.
    """

    logits: np.ndarray
    target: OnboardedObject
    may_be_view: Callable[[np.ndarray], bool] = any_view
    symmetry: Symmetry = NO_SYMMETRY


@dataclass(frozen=True)
class RetrievedView:
    """Holds a template's view and roll, and the logit that the crop shows it: higher is likelier."""

    view: int
    roll_index: int
    logit: float


def crop_at_turns(crop: Crop, observation: Observation) -> np.ndarray:
    """Return a crop as it is, and as its camera sees it from further rolls: [CROP_TURNS, P, P, 3] uint8."""
    turned = [crop.rgb]
    for turn in range(1, CROP_TURNS):
        R_virt_cam = rotation_z(roll_angle(turn)) @ crop.virtual.R_virt_cam
        virtual = replace(crop.virtual, R_virt_cam=R_virt_cam)
        turned.append(warp(observation.image, observation.camera, virtual))
    return np.stack(turned)


def template_logits(descriptors: Tensor, target: OnboardedObject) -> np.ndarray:
    """Compare a crop with all templates at all rolls: logits [V, ROLLS].

    Args:
        descriptors: [CROP_TURNS, C] of the crop at its turns, see `crop_at_turns`.
    """
    with torch.inference_mode(), inference_context(target.model):
        found = target.model.retrieval_head.logits(descriptors, target.descriptors)
    found = found.float().cpu().numpy().reshape(CROP_TURNS, -1, TEMPLATE_TURNS)
    # Rotating the crop forward is the same as rotating the template back.
    step = ROLLS // TEMPLATE_TURNS
    rolls_of_turn = [(step * np.arange(TEMPLATE_TURNS) - turn) % ROLLS for turn in range(CROP_TURNS)]
    logits = np.zeros((found.shape[1], ROLLS), dtype=np.float32)
    for rolls, one in zip(rolls_of_turn, found, strict=True):
        logits[:, rolls] += one
    return logits / np.bincount(np.concatenate(rolls_of_turn)).astype(np.float32)


def best_views(search: ViewSearch, count: int) -> list[RetrievedView]:
    """Find the best `count` views of a crop, best first, at least SEPARATION apart up to symmetries."""
    logits, rotations = search.logits.ravel(), search.target.rotations.reshape(-1, 3, 3)
    chosen: list[RetrievedView] = []
    tried, is_covered = 0, np.zeros(len(rotations), dtype=bool)
    for index in np.argsort(-logits):
        if not search.may_be_view(rotations[index]):
            continue
        tried += 1
        if not is_covered[index]:
            view, roll_index = divmod(int(index), ROLLS)
            chosen.append(RetrievedView(view, roll_index, float(logits[index])))
            is_covered |= search.symmetry.least_angles(rotations, rotations[[index]])[:, 0] <= SEPARATION
        if len(chosen) == count or tried == MAX_TRIED:
            break
    return chosen
