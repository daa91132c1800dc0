"""Test which of a query's hypotheses are kept: by score, of different views, never a worse for a better."""

from types import SimpleNamespace

import numpy as np
import pytest

from vpog_core.geometry.se3 import rotation_y, rotation_z, transform
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.query import Prior, Query, accept_confirmed, accept_tracked, keep_better, rank


def hypothesis(score, degrees=0.0, shift=0.0, axis=rotation_y, similarity=0.8) -> PoseHypothesis:
    T = transform(axis(np.radians(degrees)), [shift, 0, 0.5])
    return PoseHypothesis(None, None, None, None, SimpleNamespace(T_virt_obj=T), None, score, similarity)


def nothing() -> PoseHypothesis:
    return PoseHypothesis(None, None, None, None, None, None, 0.0)


def query(*hypotheses, most=3, symmetry=None, prior=None) -> Query:
    """Return a query that has met some hypotheses, one after the other."""
    target = SimpleNamespace(templates=SimpleNamespace(center=np.zeros(3)))
    made = Query(None, None, None, target, symmetry or Symmetry.none(), prior, max_hypotheses=most)
    for one in hypotheses:
        made = rank(made, [*made.hypotheses, one])
    return made


def scores(found: Query) -> list[float]:
    return [h.score for h in found.hypotheses]


def test_the_best_of_different_views_are_kept_best_first():
    met = ((0.2, 0), (0.5, 10), (0.4, 90), (0.3, 180), (0.1, 270), (0.45, 15))
    assert scores(query(*(hypothesis(score, degrees) for score, degrees in met), most=3)) == [0.5, 0.4, 0.3]


def test_equivalent_poses_are_one_view():
    met = [
        hypothesis(score, degrees, axis=rotation_z) for score, degrees in ((0.5, 10), (0.4, 190), (0.3, 100))
    ]
    symmetry = Symmetry.from_mapping({"discrete": [{"axis": "z", "order": 2}]})
    assert scores(query(*met, symmetry=symmetry)) == [0.5, 0.3]


def test_no_pose_stays_only_while_there_is_no_other():
    assert query(nothing()).best.pnp is None
    assert scores(query(nothing(), hypothesis(0.01), nothing())) == [0.01]


def test_refinement_never_makes_an_answer_worse():
    first = query(hypothesis(0.5))
    found = keep_better(first, first.best, hypothesis(0.49, 5))
    assert found.score == 0.5
    assert found.best.converged
    for worse in (nothing(), hypothesis(0.5)):
        found = keep_better(found, found.best, worse)
        assert found.score == 0.5
    # A step returns another query; the one it was given stays as it was.
    assert not first.best.converged


@pytest.mark.parametrize(
    ("degrees", "shift", "final"), [(0.1, 0.0005, True), (2.0, 0.0, False), (0.0, 0.01, False)]
)
def test_refinement_ends_where_the_pose_no_longer_moves(degrees, shift, final):
    first = query(hypothesis(0.5))
    found = keep_better(first, first.best, hypothesis(0.6, degrees, shift))
    assert found.score == 0.6
    assert found.best.converged is final


def test_two_candidates_refined_to_one_pose_become_one():
    found = query(hypothesis(0.5), hypothesis(0.4, 60))
    assert scores(keep_better(found, found.hypotheses[1], hypothesis(0.7, 3))) == [0.7]


@pytest.mark.parametrize(
    ("score", "look_anew", "tracked"), [(0.4, False, True), (0.6, False, False), (0.4, True, False)]
)
def test_what_is_found_where_it_was_may_be_enough(score, look_anew, tracked):
    found = accept_tracked(query(prior=Prior(np.eye(4), score, look_anew)), hypothesis(0.5))
    assert found.tracked is tracked
    assert found.is_open is not tracked
    assert (found.best is not None) is tracked
    assert found.followed.score == 0.5


@pytest.mark.parametrize(("accepted", "tracked"), [(0.7, True), (0.9, False)])
def test_where_the_image_is_less_similar_than_before_other_views_are_looked_at(accepted, tracked):
    prior = Prior(np.eye(4), 0.4, accept_similarity=accepted)
    found = accept_tracked(query(prior=prior), hypothesis(0.5, similarity=0.8))
    assert (found.tracked, found.is_open) == (tracked, not tracked)
    assert found.followed.score == 0.5


def checked(degrees, followed, **prior) -> Query:
    """Return a query whose followed pose was to be checked, after a view at an angle from it was found."""
    found = accept_tracked(query(prior=Prior(np.eye(4), 0.4, search_all_views=True, **prior)), followed)
    return accept_confirmed(found, rotation_y(np.radians(degrees)))


def test_a_followed_pose_is_confirmed_by_its_view():
    found = checked(20, hypothesis(0.9))
    assert scores(found) == [0.9]
    assert (found.confirmed, found.is_open, found.tracked) == (True, False, False)


@pytest.mark.parametrize(
    ("degrees", "followed", "prior"),
    [
        (90, hypothesis(0.9), {}),
        (20, hypothesis(0.1), {}),
        (20, hypothesis(0.9, similarity=0.2), {"accept_similarity": 0.5}),
        (20, None, {}),
    ],
    ids=["other view", "low score", "less similar", "lost"],
)
def test_a_followed_pose_that_is_not_confirmed_is_searched_for(degrees, followed, prior):
    found = checked(degrees, followed, **prior)
    assert (found.confirmed, found.is_open) == (False, True)


@pytest.mark.parametrize("followed", [None, hypothesis(0.1)])
@pytest.mark.parametrize("detected", [True, False])
def test_what_is_lost_is_looked_for_anew_where_it_was_detected_and_else_given_up(detected, followed):
    found = accept_tracked(query(prior=Prior(np.eye(4), 0.4, detected=detected)), followed)
    assert not found.tracked
    assert found.is_open is detected
    assert ("lost" in found.reason) is not detected


def test_a_candidate_that_gave_way_can_come_back_refined():
    found = query(hypothesis(0.5), hypothesis(0.4, 60))
    first, gone = found.hypotheses
    found = keep_better(found, first, hypothesis(0.55, 50))
    assert gone not in found.hypotheses
    found = keep_better(found, gone, hypothesis(0.8, 61))
    assert scores(found) == [0.8]
