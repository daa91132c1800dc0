"""Define a query: one detection and what the pipeline knows of it so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vpog_core.geometry.symmetry import Symmetry
from vpog_core.inference.constraints import ObjectConstraint
from vpog_core.inference.crop import Crop
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.observation import Observation
from vpog_core.inference.onboarding import OnboardedObject
from vpog_core.inference.rendered_cluster import has_converged
from vpog_core.models.vpog_model import Encoded
from vpog_core.types import Detection

MAX_HYPOTHESES = 3
"""Hypotheses of different views that a query keeps."""
LOST = "The object was lost: the image no longer shows it where it was, and no detection tells where it is."
"""Reason for giving up an object that was tracked and not detected."""
DIFFERENT_VIEW = np.radians(35.0)
"""Poses that differ by a larger angle, up to symmetries, are different views."""


@dataclass(frozen=True)
class Prior:
    """Holds what is known of an object's pose before the image is processed.

    Attributes:
        T_cam_obj: [4, 4] where it should be now. Of several equivalent poses the nearest to it is given.
        accept_score: the object is followed from this pose first, and the result is accepted, without a
            search among other views, if its score is at least this; None: all views are searched as if there
            were no prior.
        search_all_views: all views are searched even so; unless the best match shows the view that was
            tracked, the best pose of all is returned.
        detected: a detector has seen the object in this image. If not, the detection's box was made from
            the prior, and the object is given up if it scores less than `accept_score`.
        accept_similarity: all views are searched as well if the image is less similar than this, -1..1, to a
            render at the pose found by following.
        T_turned: [4, 4] where it should be now if it has gone on turning as before; None: not known.
    """

    T_cam_obj: np.ndarray
    accept_score: float | None = None
    search_all_views: bool = False
    detected: bool = True
    accept_similarity: float = -1.0
    T_turned: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Query:
    """Holds one detection on its way through the pipeline; each step returns a copy with more fields set.

    Attributes:
        detection: what was detected; crop: the image region around it; observation: the whole image.
        target: the object of its class; symmetry: of that object.
        prior: what is known of the pose before, or None.
        encoding: the crop's encoding [1, ...], once it is encoded.
        turns: encodings [CROP_TURNS, ...] of the crop at the turns it is described at, itself the first.
        logits: [V, ROLLS] of the views at their rolls, where views are to be retrieved for the crop.
        hypotheses: the best poses so far, best first, of different views.
        max_hypotheses: how many of them are kept.
        score_to_beat: of a pose found before; hypotheses that cannot reach it need not be compared.
        followed: the pose that was found by following the object from the prior, or None.
        tracked: that pose was accepted, without a look at other views.
        confirmed: that pose was accepted because a look at all views found the same view.
        reason: why the search for a pose was given up, or "".
        constraint: what is known of the pose with respect to a plane, or None.
    """

    detection: Detection
    crop: Crop
    observation: Observation
    target: OnboardedObject
    symmetry: Symmetry
    prior: Prior | None = None
    encoding: Encoded | None = None
    turns: Encoded | None = None
    logits: np.ndarray | None = None
    hypotheses: tuple[PoseHypothesis, ...] = ()
    max_hypotheses: int = MAX_HYPOTHESES
    score_to_beat: float = 0.0
    followed: PoseHypothesis | None = None
    tracked: bool = False
    confirmed: bool = False
    reason: str = ""
    constraint: ObjectConstraint | None = None

    @property
    def best(self) -> PoseHypothesis | None:
        """The best hypothesis; None before the first match."""
        return self.hypotheses[0] if self.hypotheses else None

    @property
    def score(self) -> float:
        """The best hypothesis' score; 0 where there is none, and where it violates the constraint."""
        return self.best.score if self.best and not self.violation(self.best) else 0.0

    @property
    def is_open(self) -> bool:
        """Tell whether the pose still has to be searched for among all views."""
        return not (self.tracked or self.confirmed or self.reason)

    @property
    def is_to_check(self) -> bool:
        """Tell whether the pose was tracked well, and a look at all views is only to confirm it."""
        prior, followed = self.prior, self.followed
        if not self.is_open or followed is None or self.violation(followed):
            return False
        return followed.score >= prior.accept_score and followed.similarity >= prior.accept_similarity

    @property
    def may_be_tracked(self) -> bool:
        """Tell whether the pose is to be tracked from the prior first."""
        return self.prior is not None and self.prior.accept_score is not None

    def violation(self, hypothesis: PoseHypothesis) -> str:
        """Return in words how a hypothesis violates the constraint; see `ObjectConstraint.violation`."""
        if self.constraint is None or not hypothesis.has_pose:
            return ""
        return self.constraint.violation(hypothesis.T_cam_obj)

    def with_hypotheses(self, hypotheses: Iterable[PoseHypothesis]) -> Query:
        """Return a copy with these hypotheses in place of its own, unchanged and unsorted."""
        return replace(self, hypotheses=tuple(hypotheses))


def rank(query: Query, hypotheses: Sequence[PoseHypothesis]) -> Query:
    """Return a query with the best of some hypotheses in place of its own: best first, of different views.

    One without a pose is kept only where there is no other, and those that violate the constraint come after
    all others. Of equal scores the first is the better.
    """
    kept: list[PoseHypothesis] = []
    for one in sorted(hypotheses, key=lambda h: (not h.has_pose, bool(query.violation(h)), -h.score)):
        if len(kept) < query.max_hypotheses and all(_differ(query.symmetry, one, other) for other in kept):
            kept.append(one)
    return query.with_hypotheses(kept)


def keep_better(query: Query, before: PoseHypothesis, after: PoseHypothesis) -> Query:
    """Keep the better of a hypothesis and its refinement, by their scores.

    Args:
        before: it may have given way to another one that was refined first; `after` may still be better.
    """
    if not after.has_pose or after.score <= before.score:
        final = replace(before, converged=True)
        return query.with_hypotheses(final if h is before else h for h in query.hypotheses)
    after = replace(after, converged=has_converged(before, after, query.target.templates.center))
    return rank(query, [after, *(h for h in query.hypotheses if h is not before)])


def accept_tracked(query: Query, followed: PoseHypothesis | None) -> Query:
    """Decide on a query whose object was tracked: accept the pose, search among all views, or give up.

    Args:
        followed: the pose that was found from the prior; None: the object was lost.
    """
    prior = query.prior
    if followed is None or followed.score < prior.accept_score or query.violation(followed):
        return replace(query, followed=followed, reason="" if prior.detected else LOST)
    if prior.search_all_views or followed.similarity < prior.accept_similarity:
        return replace(query, followed=followed)
    return replace(query, followed=followed, hypotheses=(followed,), tracked=True)


def accept_confirmed(query: Query, R_virt_obj: np.ndarray) -> Query:
    """Accept a good tracked pose that was only to be checked, if the view found among all is the same.

    Args:
        R_virt_obj: [3, 3], rotation of the object in the view that was found.
    """
    if not query.is_to_check or _angle(query.symmetry, R_virt_obj, query.followed) > DIFFERENT_VIEW:
        return query
    return replace(query, hypotheses=(query.followed,), confirmed=True)


def _differ(symmetry: Symmetry, one: PoseHypothesis, other: PoseHypothesis) -> bool:
    """Tell whether two hypotheses show the object from different views."""
    if not (one.has_pose and other.has_pose):
        return False
    return _angle(symmetry, one.T_virt_obj[:3, :3], other) > DIFFERENT_VIEW


def _angle(symmetry: Symmetry, R_virt_obj: np.ndarray, pose: PoseHypothesis) -> float:
    """Compute the least angle, radians, from a rotation [3, 3] and those equivalent to it to a pose's."""
    return float(symmetry.least_angles(R_virt_obj[None], pose.T_virt_obj[None, :3, :3])[0, 0])
