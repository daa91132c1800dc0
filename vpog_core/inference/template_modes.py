"""Choose the templates that a crop is matched with: the modes of an estimator.

A mode is a class with the members of `TemplateMode`; `Options.mode` and `template_mode` name it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

from vpog_core.inference.matching import CLUSTER_SIZE
from vpog_core.inference.onboarding import ROLLS, Cluster
from vpog_core.inference.options import Options
from vpog_core.inference.retrieval import ViewSearch, best_views
from vpog_core.objects.viewpoints import align_roll, viewpoint_directions

GROUPS = 42
"""Number of groups: one for each view of an icosahedron subdivided once, with the nearest views of the second
subdivision."""
RETRY_GROWTH = 2
"""Views that a retry tries, over those tried before it."""


class TemplateMode(Protocol):
    """Chooses the templates that a crop is matched with, in rounds; each after the first is a retry.

    Attributes:
        num_rounds: number of rounds.
        num_refined: number of hypotheses of different views, of each crop, that the first round refines.
    """

    num_rounds: int
    num_refined: int

    def clusters(self, number: int, search: ViewSearch) -> Iterator[Cluster]:
        """Yield the clusters of an object to match with a crop in a round, made as they are needed.

        Args:
            number: of the round, from 0; search: how likely the crop shows each view.
        """


class ClusterMode:
    """Tries the clusters around the best views that retrieval finds.

    A retry tries the next best views, twice as many as were tried before it.

    Args:
        num_views: views tried for each crop; retry_views: those tried after them where the best score is low.
    """

    num_refined = 1

    def __init__(self, num_views: int = 2, retry_views: int = 0) -> None:
        ends = [num_views]
        while ends[-1] < num_views + retry_views:
            ends.append(min(ends[-1] * (1 + RETRY_GROWTH), num_views + retry_views))
        self._bounds = [0, *ends]
        self.num_rounds = len(ends)

    def clusters(self, number: int, search: ViewSearch) -> Iterator[Cluster]:
        """Yield the clusters around the next best views."""
        first, end = self._bounds[number : number + 2]
        for found in best_views(search, end)[first:]:
            yield search.target.cluster(found.view, found.roll_index, CLUSTER_SIZE)


class GlobalMode:
    """Tries every group of views, each at its likeliest rolls, in one round.

    Args:
        rolls: in-plane turns each group is tried at, of `ROLLS`; the logits say which.
    """

    num_rounds = 1
    num_refined = 3

    def __init__(self, rolls: int = 2) -> None:
        self.rolls = rolls

    def clusters(self, number: int, search: ViewSearch) -> Iterator[Cluster]:
        """Yield all groups at their likeliest rolls, group by group."""
        for views in view_groups():
            for roll_index in likely_rolls(search, views, self.rolls):
                yield search.target.group(views, roll_index)


def template_mode(options: Options) -> TemplateMode:
    """Return the mode that the options name."""
    if options.mode == "global":
        return GlobalMode(options.rolls)
    # One view for each pose that is returned.
    return ClusterMode(max(options.hypotheses, options.alternatives + 1), options.retry_views)


@lru_cache(maxsize=1)
def view_groups() -> tuple[tuple[int, ...], ...]:
    """Return GROUPS groups of `CLUSTER_SIZE` neighbouring views, the middle one first, of all views."""
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


def likely_rolls(search: ViewSearch, views: tuple[int, ...], count: int) -> list[int]:
    """Find the `count` rolls of a group's first view at which the crop most likely shows one of its views."""
    logits, target = search.logits, search.target
    possible = [k for k in range(ROLLS) if search.may_be_view(target.rotation(views[0], k))]
    if count >= len(possible):
        return possible
    rotations = target.templates.T_virt_obj[:, :3, :3]
    turns = [align_roll(rotations[v], rotations[views[0]]) for v in views]
    shifts = [round(turn / (2 * np.pi) * ROLLS) for turn in turns]
    # At the group's roll k, a view has its own roll k + shift.
    aligned = np.stack([np.roll(logits[v], -shift) for v, shift in zip(views, shifts, strict=True)])
    likeliest = np.argsort(-aligned.max(axis=0)[possible], kind="stable")[:count]
    return [possible[k] for k in likeliest]
