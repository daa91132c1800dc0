"""Which templates a training query meets: a cluster around a reference view, and views to tell it from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpog_core.geometry.se3 import rotation_z
from vpog_core.objects.viewpoints import align_roll, nearest_viewpoints, viewpoint_directions

REFERENCE_NEIGHBOURS = 7
"""Retrieval errs: the reference is one of this many views nearest to the anchor."""


@dataclass
class Selection:
    """Views and rolls; the first `cluster` of them go to matching, all of them to retrieval.

    Attributes:
        views: [T] indices of templates; rolls: [T] radians each is turned by.
        cluster: how many of them, from the front, form the cluster; the very first is the reference.
    """

    views: np.ndarray
    rolls: np.ndarray
    cluster: int


class TemplateSelector:
    """Draws selections for queries near an anchor direction.

    Args:
        rotations: [V, 3, 3] R_virt_obj of the templates as rendered.
        cluster: S, templates for matching: positives by SO(3) distance once the roll is taken out.
        negatives: further views and rolls for retrieval.
    """

    def __init__(self, rotations: np.ndarray, cluster: int = 4, negatives: int = 8) -> None:
        self.rotations, self.cluster, self.negatives = rotations, cluster, negatives

    def draw(self, rng: np.random.Generator, anchor: np.ndarray, exact: bool = False) -> Selection:
        """A selection for queries around the direction `anchor` [3], at a random common roll.

        Args:
            exact: the reference is the view nearest to the anchor; else it errs now and then.
        """
        nearest = nearest_viewpoints(anchor, REFERENCE_NEIGHBOURS)
        reference = nearest[0] if exact or rng.random() < 0.5 else rng.choice(nearest)
        views = list(nearest_viewpoints(viewpoint_directions()[reference], self.cluster))
        R_ref = rotation_z(rng.uniform(-np.pi, np.pi)) @ self.rotations[reference]
        rolls = [align_roll(self.rotations[v], R_ref) for v in views]
        for n in range(self.negatives):
            view, turn = self._negative(rng, reference, n % 8)
            views.append(view)
            rolls.append(align_roll(self.rotations[view], R_ref) + turn)
        return Selection(np.array(views), np.array(rolls), self.cluster)

    def _negative(self, rng: np.random.Generator, reference: int, kind: int) -> tuple[int, float]:
        """A view, and its roll against the reference: three wrong rolls, three wrong views, two of any."""
        order = nearest_viewpoints(viewpoint_directions()[reference], len(self.rotations))
        if kind < 3:
            return rng.choice(order[:REFERENCE_NEIGHBOURS]), rng.uniform(0.4, np.pi) * rng.choice([-1, 1])
        if kind < 6:
            return rng.choice(order[REFERENCE_NEIGHBOURS:60]), rng.normal(0, 0.2)
        return rng.choice(order), rng.uniform(-np.pi, np.pi)
