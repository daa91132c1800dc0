"""Test which hypotheses are compared with the image: the best, and those that might still overtake it."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from vpog_core.inference import image_comparison
from vpog_core.inference.alignment import Alignment
from vpog_core.inference.calibration import DEFAULT_CALIBRATION
from vpog_core.inference.image_comparison import FLOW_GAIN, MAX_GAIN, RIVAL_GAP, ImageComparison
from vpog_core.inference.query import Query


def hypothesis(features, score=None):
    """Return a pose whose matches are as good as its features, see `calibration.FEATURES`."""
    score = float(DEFAULT_CALIBRATION.probability(features)) if score is None else score
    return SimpleNamespace(has_pose=True, T_cam_obj=np.eye(4), score_features=np.array(features), score=score)


def compared(monkeypatch, hypotheses, similarities, count=1, score_to_beat=0.0):
    """Compare hypotheses; returns those that are kept, and for each compared one if its flow was followed."""
    followed = {}
    of = {id(h.T_cam_obj): n for n, h in enumerate(hypotheses)}

    def align(renderer, observation, T, rounds, refined, should_follow_flow):
        n = of[id(T)]
        followed[n] = should_follow_flow(similarities[n])
        return Alignment(T, similarities[n])

    def apply(h, alignment, refined, calibration):
        features = np.append(h.score_features, alignment.similarity)
        return SimpleNamespace(of=of[id(h.T_cam_obj)], score=float(calibration.aligned.probability(features)))

    monkeypatch.setattr(image_comparison, "align", align)
    monkeypatch.setattr(image_comparison, "apply_alignment", apply)
    query = Query(None, None, None, None, None, hypotheses=tuple(hypotheses), score_to_beat=score_to_beat)
    comparison = ImageComparison(None, 2, 2, DEFAULT_CALIBRATION, lambda _: None, lambda _: nullcontext())
    (found,) = comparison.best_of([query], count)
    return [h.of for h in found.hypotheses], followed


GOOD, POOR = (5.0, -0.1, 0.0), (0.0, -3.0, 1.0)


def test_one_that_no_comparison_puts_first_is_not_compared(monkeypatch):
    kept, followed = compared(monkeypatch, [hypothesis(GOOD), hypothesis(POOR)], [0.9, 1.0])
    assert kept == [0]
    assert followed == {0: True}


def test_one_that_may_be_better_is_compared(monkeypatch):
    kept, followed = compared(monkeypatch, [hypothesis(GOOD), hypothesis(GOOD)], [0.1, 0.9])
    assert kept == [0, 1]
    assert followed == {0: True, 1: True}


def risen(score, log_odds):
    """Return a score after its log odds rose by so much."""
    return 1.0 / (1.0 + (1.0 / score - 1.0) * np.exp(-log_odds))


@pytest.mark.parametrize(("needed", "expected"), [(MAX_GAIN - 0.1, [0, 1]), (MAX_GAIN + 0.1, [0])])
def test_a_comparison_raises_a_score_by_a_bounded_gain(monkeypatch, needed, expected):
    best = float(DEFAULT_CALIBRATION.aligned.probability([*GOOD, 0.9]))
    rest = hypothesis(GOOD, score=risen(best, -needed))
    kept, _ = compared(monkeypatch, [hypothesis(GOOD), rest], [0.9, 0.9])
    assert kept == expected


@pytest.mark.parametrize(("needed", "expected"), [(MAX_GAIN - 0.1, [0]), (MAX_GAIN + 0.1, [])])
def test_one_that_cannot_beat_a_pose_found_before_is_not_compared(monkeypatch, needed, expected):
    one = hypothesis(GOOD)
    kept, _ = compared(monkeypatch, [one], [0.9], score_to_beat=risen(one.score, needed))
    assert kept == expected


def test_without_any_pose_the_detection_keeps_its_reason(monkeypatch):
    nothing = SimpleNamespace(has_pose=False, score=0.0)
    query = Query(None, None, None, None, None, hypotheses=(nothing,))
    comparison = ImageComparison(None, 2, 2, DEFAULT_CALIBRATION, lambda _: None, lambda _: nullcontext())
    (found,) = comparison.best_of([query], 1)
    assert found.hypotheses == (nothing,)


def test_flow_is_followed_only_where_it_can_lead_near_the_answer(monkeypatch):
    # A pose whose score comes near that of the best may look like it, and has to be exact to tell.
    least = 0.5 - FLOW_GAIN - RIVAL_GAP / DEFAULT_CALIBRATION.aligned.coefficients[-1]
    near, far = least + 0.02, least - 0.02
    for similarity, expected in ((near, True), (far, False)):
        _, followed = compared(monkeypatch, [hypothesis(GOOD), hypothesis(GOOD)], [0.5, similarity])
        assert followed[1] is expected


@pytest.mark.parametrize("count", [1, 2])
def test_as_many_are_compared_as_are_wanted(monkeypatch, count):
    kept, _ = compared(monkeypatch, [hypothesis(GOOD), hypothesis(POOR)], [0.9, 0.0], count)
    assert kept == list(range(count))


def test_where_the_matches_do_not_agree_with_the_aligned_pose_it_keeps_its_own(monkeypatch):
    own, elsewhere, refined = np.eye(4), np.diag([1.0, 1.0, 1.0, 1.0]), SimpleNamespace(rays=None)
    asked, scored_with = [], []

    def align(renderer, observation, T, rounds, *others):
        asked.append(rounds)
        return Alignment(elsewhere if rounds else T, 0.9 if rounds else 0.4)

    def apply(h, alignment, of_refiner, calibration):
        scored_with.append(of_refiner)
        if alignment.T_cam_obj is elsewhere:
            return None
        return SimpleNamespace(T_cam_obj=h.T_cam_obj, score=alignment.similarity)

    monkeypatch.setattr(image_comparison, "align", align)
    monkeypatch.setattr(image_comparison, "apply_alignment", apply)
    monkeypatch.setattr(ImageComparison, "_refined", lambda self, tried: [refined] * len(tried))
    given = hypothesis(GOOD)
    given.T_cam_obj = own
    query = Query(None, None, None, None, None, hypotheses=(given,))
    comparison = ImageComparison(None, 2, 2, DEFAULT_CALIBRATION, lambda _: None, lambda _: nullcontext())
    (found,) = comparison.best_of([query], 1)
    assert asked == [2, 0]
    # What the refiner saw at the pose that was rejected says nothing of the own one.
    assert scored_with == [refined, None]
    assert found.hypotheses[0].T_cam_obj is own
    assert found.score == 0.4
