"""Draw where the queries of a sample are seen from, relative to the reference template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vpog_core.training.synthesis.training_object import TrainingObject

DISTANCES = (2.5, 9.0)
"""Range of the distances of rendered queries' cameras from the object, in diameters; log-uniform."""
ANCHOR_SPREAD, REFINED_SPREAD = 0.14, 0.05
"""Standard deviation of each component of queries' directions about the anchor: 11 and 4 degrees."""
WIDE, WIDE_SPREAD, WIDE_TURN = 0.2, 0.3, 0.25
"""Views retrieved for occluded objects are farther off: the fraction of queries that are so, the spread
of their directions (about 24 degrees), and of their turns (radians)."""


@dataclass(frozen=True)
class QueryPose:
    """Declares where a sample's queries are seen from.

    Attributes:
        anchor: [3] unit direction they lie around, object frame.
        distance: of a refined sample, in diameters: its reference is rendered at nearly the queries' pose.
            None: the reference is one of the templates.
        view: the object's view the anchor was taken from; -1: from none.
    """

    anchor: np.ndarray
    distance: float | None
    view: int = -1

    @property
    def refined(self) -> bool:
        """Tell whether the reference is rendered at nearly this pose."""
        return self.distance is not None

    def turn(self, rng: np.random.Generator, wide: bool = False) -> float:
        """Draw a query's in-plane turn against the reference, radians, as retrieval leaves it."""
        if self.refined:
            return rng.normal(0, 0.06)
        return rng.uniform(-0.26, 0.26) + rng.normal(0, WIDE_TURN if wide else 0.06)

    def spread(self, wide: bool) -> float:
        """Return the spread of the directions about the anchor."""
        return REFINED_SPREAD if self.refined else WIDE_SPREAD if wide else ANCHOR_SPREAD


class QueryMaker(Protocol):
    """Makes the queries of a sample: by rendering, or out of annotated images."""

    def pose(self, rng: np.random.Generator, obj: TrainingObject, refined: bool) -> QueryPose:
        """Draw where a sample is seen from."""
        ...

    def queries(
        self, rng: np.random.Generator, obj: TrainingObject, pose: QueryPose, R_ref: np.ndarray, count: int
    ) -> list[dict[str, np.ndarray]]:
        """Make `count` queries at the roll of R_ref [3, 3]: query_rgb, query_depth, query_K,
        query_T, query_outside."""
        ...


def direction_near(rng: np.random.Generator, direction: np.ndarray, spread: float) -> np.ndarray:
    """Draw a unit direction [3] near another."""
    return unit(direction + rng.normal(0, spread, 3))


def unit(v: np.ndarray) -> np.ndarray:
    """Scale v [3] to length one."""
    return v / np.linalg.norm(v)
