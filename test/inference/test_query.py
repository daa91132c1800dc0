"""Which of a query's solutions is answered: by score, of different views, never a worse one for a better."""

from types import SimpleNamespace

import numpy as np
import pytest

from vpog_core.geometry.se3 import rotation_y, rotation_z, transform
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.inference.query import Answers, Prior


def solution(score, degrees=0.0, shift=0.0, axis=rotation_y):
    T = transform(axis(np.radians(degrees)), [shift, 0, 0.5])
    return SimpleNamespace(score=score, pnp=SimpleNamespace(T_virt_obj=T))


def nothing():
    return SimpleNamespace(score=0.0, pnp=None)


def answers(most=3, symmetry=None, prior=None) -> Answers:
    return Answers(SimpleNamespace(symmetry=symmetry or Symmetry.none(), prior=prior), most)


def scores(found: Answers) -> list[float]:
    return [c.solution.score for c in found.candidates]


def test_the_best_of_different_views_are_kept_best_first():
    found = answers(most=3)
    for score, degrees in ((0.2, 0), (0.5, 10), (0.4, 90), (0.3, 180), (0.1, 270), (0.45, 15)):
        found.add(solution(score, degrees))
    assert scores(found) == [0.5, 0.4, 0.3]


def test_equivalent_poses_are_one_view():
    found = answers(symmetry=Symmetry.from_mapping({"discrete": [{"axis": "z", "order": 2}]}))
    found.add(solution(0.5, 10, axis=rotation_z))
    found.add(solution(0.4, 190, axis=rotation_z))
    found.add(solution(0.3, 100, axis=rotation_z))
    assert scores(found) == [0.5, 0.3]


def test_no_pose_stays_only_while_there_is_no_other():
    found = answers()
    found.add(nothing())
    assert found.best.pnp is None
    found.add(solution(0.01))
    found.add(nothing())
    assert scores(found) == [0.01]


def test_refinement_never_makes_an_answer_worse():
    found = answers()
    found.add(solution(0.5))
    first = found.candidates[0]
    found.refined(first, solution(0.49, 5))
    assert found.score == 0.5
    assert first.final
    for worse in (nothing(), solution(0.5)):
        found.refined(first, worse)
        assert found.score == 0.5


@pytest.mark.parametrize(
    ("degrees", "shift", "final"), [(0.1, 0.0005, True), (2.0, 0.0, False), (0.0, 0.01, False)]
)
def test_refinement_ends_where_the_pose_no_longer_moves(degrees, shift, final):
    found = answers()
    found.add(solution(0.5))
    found.refined(found.candidates[0], solution(0.6, degrees, shift))
    assert found.score == 0.6
    assert found.candidates[0].final is final


def test_two_candidates_refined_to_one_pose_become_one():
    found = answers()
    found.add(solution(0.5))
    found.add(solution(0.4, 60))
    found.refined(found.candidates[1], solution(0.7, 3))
    assert scores(found) == [0.7]


@pytest.mark.parametrize(("enough", "tracked"), [(0.4, True), (0.6, False), (None, False), (np.inf, False)])
def test_what_is_found_where_it_was_may_be_enough(enough, tracked):
    found = answers(prior=Prior(np.eye(4), enough))
    found.add(solution(0.5))
    found.settle_tracked()
    assert found.tracked is tracked
    assert found.candidates[0].final is tracked


def test_a_candidate_that_gave_way_can_come_back_refined():
    found = answers()
    found.add(solution(0.5))
    found.add(solution(0.4, 60))
    gone = found.candidates[1]
    found.refined(found.candidates[0], solution(0.55, 50))
    assert gone not in found.candidates
    found.refined(gone, solution(0.8, 61))
    assert scores(found) == [0.8]
