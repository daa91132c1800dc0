"""Global mode: all 162 templates, in fixed groups of neighbouring views."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vpog_core.inference.matching import CLUSTER_SIZE
from vpog_core.inference.onboarding import ROLLS, Cluster, OnboardedObject
from vpog_core.objects.viewpoints import align_roll, viewpoint_directions

GROUPS = 42
"""The views of an icosahedron divided once, each with the views of the second division nearest to it."""


class GlobalMode:
    """Tries every group of views, each at its likeliest rolls, whatever retrieval thinks of the views.

    Args:
        rolls: in-plane turns each group is tried at, of `ROLLS`; the descriptors say which.
    """

    refined = 3
    """Answers of different views worth refining."""

    def __init__(self, rolls: int = 2) -> None:
        self.rolls = rolls

    def clusters(self, descriptor: Tensor, target: OnboardedObject) -> Iterator[Cluster]:
        """The clusters to match a crop's descriptor [C] with, group by group."""
        with torch.inference_mode():
            similarity = (target.descriptors @ descriptor).float().cpu().numpy().reshape(-1, ROLLS)
        for views in view_groups():
            for roll_index in likely_rolls(similarity, target, views, self.rolls):
                yield target.group(views, roll_index)

    def further(self, descriptor: Tensor, target: OnboardedObject) -> Iterator[Cluster]:
        """None: no view was left out."""
        return iter(())


@lru_cache(maxsize=1)
def view_groups() -> tuple[tuple[int, ...], ...]:
    """GROUPS groups of `CLUSTER_SIZE` neighbouring views, the middle one first; together they hold all."""
    directions = viewpoint_directions()
    own = CLUSTER_SIZE - 1
    distance = np.linalg.norm(directions[GROUPS:, None] - directions[None, :GROUPS], axis=-1)
    views, places = linear_sum_assignment(np.repeat(distance, own, axis=1))
    groups = []
    for middle in range(GROUPS):
        members = [middle, *(GROUPS + views[places // own == middle])]
        others = [v for v in np.argsort(-directions @ directions[middle], kind="stable") if v not in members]
        groups.append(tuple(int(v) for v in [*members, *others][:CLUSTER_SIZE]))
    return tuple(groups)


def likely_rolls(
    similarity: np.ndarray, target: OnboardedObject, views: tuple[int, ...], count: int
) -> list[int]:
    """The `count` rolls of a group's first view that its views' descriptors are most like the crop's at.

    Args:
        similarity: [V, ROLLS] of the crop to each template at each roll.
    """
    if count >= ROLLS:
        return list(range(ROLLS))
    rotations = target.templates.T_virt_obj[:, :3, :3]
    turns = [align_roll(rotations[v], rotations[views[0]]) for v in views]
    shifts = [round(turn / (2 * np.pi) * ROLLS) for turn in turns]
    # A view turned with the group's roll k stands at its own roll k + shift.
    aligned = np.stack([np.roll(similarity[v], -shift) for v, shift in zip(views, shifts, strict=True)])
    return [int(k) for k in np.argsort(-aligned.max(axis=0), kind="stable")[:count]]
