"""Choose the templates that a crop is matched with: the modes of an estimator.

A mode is a class with the members of `TemplateMode`; `Options.mode` and `template_mode` name it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vpog_core.inference.matching import CLUSTER_SIZE
from vpog_core.inference.onboarding import ROLLS, Cluster, OnboardedObject
from vpog_core.inference.options import Options
from vpog_core.inference.retrieval import MayBeView, any_view, retrieve, template_logits
from vpog_core.objects.viewpoints import align_roll, viewpoint_directions

GROUPS = 42
"""Number of groups: one for each view of an icosahedron subdivided once, with the nearest views of the second
subdivision."""


class TemplateMode(Protocol):
    """Chooses the templates that a crop is matched with.

    Attributes:
        num_refined: number of hypotheses of different views, of each crop, that are refined.
    """

    num_refined: int

    def clusters(
        self, descriptors: Tensor, target: OnboardedObject, may_be_view: MayBeView = any_view
    ) -> Iterator[Cluster]:
        """Yield the clusters of an object to match with a crop, made as they are needed.

        Args:
            descriptors: of the crop, see `retrieval.template_logits`.
            may_be_view: tells which views are tried.
        """

    def retry_clusters(
        self, descriptors: Tensor, target: OnboardedObject, may_be_view: MayBeView = any_view
    ) -> Iterator[Cluster]:
        """Yield more clusters, for a crop whose best score is low."""


class ClusterMode:
    """Tries the clusters around the best views that retrieval finds.

    Args:
        num_views: views tried for each crop; retry_views: those tried after them where the best score is low.
    """

    num_refined = 1

    def __init__(self, num_views: int = 2, retry_views: int = 0) -> None:
        self.num_views, self.retry_views = num_views, retry_views

    def clusters(
        self, descriptors: Tensor, target: OnboardedObject, may_be_view: MayBeView = any_view
    ) -> Iterator[Cluster]:
        """Yield the clusters around the best views."""
        return self._retrieved(descriptors, target, 0, self.num_views, may_be_view)

    def retry_clusters(
        self, descriptors: Tensor, target: OnboardedObject, may_be_view: MayBeView = any_view
    ) -> Iterator[Cluster]:
        """Yield the clusters around the next best views."""
        end = self.num_views + self.retry_views
        return self._retrieved(descriptors, target, self.num_views, end, may_be_view)

    def _retrieved(
        self, descriptors: Tensor, target: OnboardedObject, first: int, end: int, may_be_view: MayBeView
    ) -> Iterator[Cluster]:
        for found in retrieve(descriptors, target, end, may_be_view)[first:]:
            yield target.cluster(found.view, found.roll_index, CLUSTER_SIZE)


class GlobalMode:
    """Tries every group of views, each at its likeliest rolls.

    Args:
        rolls: in-plane turns each group is tried at, of `ROLLS`; the descriptors say which.
    """

    num_refined = 3

    def __init__(self, rolls: int = 2) -> None:
        self.rolls = rolls

    def clusters(
        self, descriptors: Tensor, target: OnboardedObject, may_be_view: MayBeView = any_view
    ) -> Iterator[Cluster]:
        """Yield all groups at their likeliest rolls, group by group."""
        logits = template_logits(descriptors, target)
        for views in view_groups():
            for roll_index in likely_rolls(logits, target, views, self.rolls, may_be_view):
                yield target.group(views, roll_index)

    def retry_clusters(
        self, descriptors: Tensor, target: OnboardedObject, may_be_view: MayBeView = any_view
    ) -> Iterator[Cluster]:
        """Yield nothing: no view was left out."""
        return iter(())


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


def likely_rolls(
    logits: np.ndarray,
    target: OnboardedObject,
    views: tuple[int, ...],
    count: int,
    may_be_view: MayBeView = any_view,
) -> list[int]:
    """Find the `count` rolls of a group's first view at which the crop most likely shows one of its views.

    Args:
        logits: [V, ROLLS], see `template_logits`.
        may_be_view: tells at which rolls the first view is tried.
    """
    possible = [k for k in range(ROLLS) if may_be_view(target.rotation(views[0], k))]
    if count >= len(possible):
        return possible
    rotations = target.templates.T_virt_obj[:, :3, :3]
    turns = [align_roll(rotations[v], rotations[views[0]]) for v in views]
    shifts = [round(turn / (2 * np.pi) * ROLLS) for turn in turns]
    # At the group's roll k, a view has its own roll k + shift.
    aligned = np.stack([np.roll(logits[v], -shift) for v, shift in zip(views, shifts, strict=True)])
    likeliest = np.argsort(-aligned.max(axis=0)[possible], kind="stable")[:count]
    return [possible[k] for k in likeliest]
