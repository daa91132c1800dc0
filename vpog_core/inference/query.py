"""What is asked of the estimator for one detection, and the answers it weighs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vpog_core.geometry.se3 import invert, rotation_angle
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.inference.alignment import Photo
from vpog_core.inference.crop import Crop
from vpog_core.inference.onboarding import OnboardedObject
from vpog_core.inference.refinement import settled
from vpog_core.inference.solution import Solution

DIFFERENT = np.radians(35.0)
"""Poses further apart than this (once symmetries are taken out) are different views, not one pose twice."""


@dataclass(frozen=True)
class Prior:
    """What is known of an object's pose before its detection is looked at.

    Attributes:
        T_cam_obj: [4, 4] where it should be now. Of several equivalent answers the nearest to it is given.
        enough: templates at this pose are tried first, and only an answer of a lower score than this makes
            the estimator look at all views; None: it looks at all views as if there were no prior.
    """

    T_cam_obj: np.ndarray
    enough: float | None = None


@dataclass
class Query:
    """A crop, the picture it is of, the object it is said to show, and what is known before."""

    crop: Crop
    photo: Photo
    target: OnboardedObject
    symmetry: Symmetry
    prior: Prior | None = None

    def virtual(self, T_cam_obj: np.ndarray) -> np.ndarray:
        """T_virt_obj [4, 4] of a pose in the real camera's frame."""
        return invert(self.crop.virtual.T_cam_virt) @ T_cam_obj


@dataclass
class Candidate:
    """A solution, and whether refining it further makes sense."""

    solution: Solution
    final: bool = False


@dataclass
class Answers:
    """The best solutions of one query.

    Attributes:
        query: it; most: solutions of different views that are kept.
        candidates: best first, of different views.
        tracked: what was found at the pose known before was enough.
    """

    query: Query
    most: int
    candidates: list[Candidate] = field(default_factory=list)
    tracked: bool = False

    @property
    def best(self) -> Solution | None:
        return self.candidates[0].solution if self.candidates else None

    @property
    def score(self) -> float:
        """Of the best solution; 0 where there is none."""
        return self.best.score if self.best else 0.0

    def settle_tracked(self) -> None:
        """Decide whether what was found at the pose known before makes a look at other views needless.

        Then it is final, too: it was matched with a template rendered at nearly its pose.
        """
        prior = self.query.prior
        self.tracked = prior is not None and prior.enough is not None and self.score >= prior.enough
        for candidate in self.candidates:
            candidate.final = self.tracked

    def add(self, solution: Solution) -> None:
        """Weigh one more solution; one without a pose only stays while there is no other."""
        self._keep([*self.candidates, Candidate(solution)])

    def refined(self, candidate: Candidate, solution: Solution) -> None:
        """Weigh the refinement of a candidate: by its own score it is better, or the candidate is final."""
        if solution.pnp is None or solution.score <= candidate.solution.score:
            candidate.final = True
            return
        candidate.final = settled(candidate.solution, solution)
        candidate.solution = solution
        # It may have given way to another one that was refined before it.
        self._keep([candidate, *(other for other in self.candidates if other is not candidate)])

    def join(self, others: Answers) -> None:
        """Weigh what was found for the same query another way."""
        self._keep([*self.candidates, *others.candidates])

    def rank(self) -> None:
        """Order the candidates anew, when their scores have changed."""
        self._keep(self.candidates)

    def _keep(self, candidates: Sequence[Candidate]) -> None:
        kept: list[Candidate] = []
        for one in sorted(candidates, key=lambda c: (c.solution.pnp is None, -c.solution.score)):
            if len(kept) < self.most and all(self._apart(one.solution, other.solution) for other in kept):
                kept.append(one)
        self.candidates = kept

    def _apart(self, one: Solution, other: Solution) -> bool:
        if one.pnp is None or other.pnp is None:
            return False
        nearest = self.query.symmetry.nearest(one.pnp.T_virt_obj, other.pnp.T_virt_obj)
        return rotation_angle(nearest[:3, :3], other.pnp.T_virt_obj[:3, :3]) > DIFFERENT
