import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vpog_core.evaluation.calibration_fit import (
    SIGNS,
    CalibrationSamples,
    best_of_each,
    calibration_error,
    coverage,
    fit,
    fit_best,
    squared_distance,
)
from vpog_core.geometry.se3 import transform
from vpog_core.inference.calibration import (
    FEATURES,
    Calibration,
)
from vpog_core.types import VPOGError


def made_up(count: int, seed: int, factor: float = 3.0) -> CalibrationSamples:
    """Return CalibrationSamples whose true probability and covariance are known; wrong ones are far off."""
    rng = np.random.default_rng(seed)
    score_features = rng.normal(size=(count, len(FEATURES))) * [0.8, 0.3, 0.2] + [4.0, -0.4, 0.6]
    logit = -3.0 + score_features @ [0.9, 2.0, -1.0]
    correct = rng.random(count) < 1 / (1 + np.exp(-logit))
    distance = factor * rng.chisquare(6, count)
    distance[~correct] *= 50
    return CalibrationSamples(score_features, correct, distance)


def test_a_fit_is_honest_on_other_answers():
    """The fit uses 400 poses and is checked on 2000, where ten bins of 200 leave 0.03 by chance alone."""
    calibration, others = fit(made_up(400, 0), SIGNS["matched"]), made_up(2000, 1)
    probability = calibration.probability(others.score_features)
    assert calibration_error(probability, others.correct) < 0.07
    even = Calibration(0.0, (0.0,) * 3).probability(others.score_features)
    assert calibration_error(even, others.correct) > 0.1
    # And sharp: the sure ones are correct more often than the unsure ones.
    sure = probability > np.median(probability)
    assert others.correct[sure].mean() > others.correct[~sure].mean() + 0.2
    assert calibration.num_samples == 400


def test_no_feature_counts_for_what_it_speaks_against():
    """Errors of a few poses happen to be larger where they are correct."""
    answers = made_up(60, 5)
    answers.score_features[:, 2] += 0.3 * answers.correct
    support, agreement, error = fit(answers, SIGNS["matched"]).coefficients
    assert min(support, agreement) >= 0
    assert error == 0


def with_alternatives(count: int, seed: int) -> tuple[CalibrationSamples, np.ndarray]:
    """Return four poses of each of `count` detections: one near the truth, mostly correct, and three wrong.

    The better one of two looks, on average, more similar; what is correct looks anything but perfect.
    """
    rng = np.random.default_rng(seed)
    correct = np.zeros((count, 4), dtype=bool)
    correct[:, 0] = rng.random(count) < 0.8
    features = rng.normal(size=(count, 4, 3)) + 1.5 * correct[..., None] * [1, 1, -1]
    detection = np.repeat(np.arange(count), 4)
    distance = rng.chisquare(6, 4 * count)
    return CalibrationSamples(features.reshape(-1, 3), correct.ravel(), distance), detection


def test_the_best_pose_of_a_detection_is_the_one_of_the_highest_score():
    score, detection = np.array([0.2, 0.9, 0.5, 0.4, 0.1]), np.array([7, 7, 3, 3, 9])
    assert best_of_each(score, detection).tolist() == [False, True, True, False, True]


def test_the_score_is_a_probability_for_the_best_pose_of_a_detection():
    """A fit to all poses alike is too low for the best, as three quarters of all are wrong."""
    (samples, detection), (others, of_others) = with_alternatives(400, 0), with_alternatives(2000, 1)
    errors = {}
    for name, calibrator in {
        "all": fit(samples, SIGNS["matched"]),
        "best": fit_best(samples, detection, SIGNS["matched"]),
    }.items():
        score = calibrator.probability(others.score_features)
        best = best_of_each(score, of_others)
        errors[name] = calibration_error(score[best], others.correct[best])
        assert others.correct[best].mean() > 0.6
    # By chance 2000 poses in ten bins leave 0.03.
    assert errors["best"] < 0.05
    assert errors["all"] > 2 * errors["best"]


def test_all_poses_of_a_detection_tell_how_they_are_ranked():
    """The best ones alone are few: with forty detections a fit to them chooses wrong ones more often."""
    others, of_others = with_alternatives(1000, 100)
    chosen = {"all": [], "best": []}
    for seed in range(20):
        samples, detection = with_alternatives(40, seed)
        ranking = fit(samples, SIGNS["matched"])
        best = samples[best_of_each(ranking.logit(samples.score_features), detection)]
        for name, calibrator in {
            "all": fit_best(samples, detection, SIGNS["matched"]),
            "best": fit(best, SIGNS["matched"]),
        }.items():
            first = best_of_each(calibrator.logit(others.score_features), of_others)
            chosen[name].append(others.correct[first].mean())
    assert np.mean(chosen["all"]) > np.mean(chosen["best"]) + 0.005


def test_covariances_get_the_size_of_the_errors_of_right_poses():
    calibration, others = fit(made_up(4000, 2, factor=3.0), SIGNS["matched"]), made_up(4000, 3, factor=3.0)
    # The median of some 2000 distances is known to 2 %.
    assert calibration.covariance == pytest.approx(3.0, rel=0.06)
    assert coverage(others, calibration.covariance, 0.5) == pytest.approx(0.5, abs=0.08)
    assert coverage(others, calibration.covariance, 0.9) == pytest.approx(0.9, abs=0.06)
    assert coverage(others, 1.0, 0.9) < 0.6


def test_calibration_error_of_known_cases():
    correct = np.array([True, False] * 10)
    assert calibration_error(np.full(20, 0.5), correct) == pytest.approx(0.0)
    assert calibration_error(np.full(20, 1.0), correct) == pytest.approx(0.5)
    assert calibration_error(np.where(correct, 0.95, 0.05), correct) == pytest.approx(0.05)
    assert calibration_error(np.zeros(0), np.zeros(0, dtype=bool)) == 0.0


def test_squared_distance_is_in_standard_deviations():
    sigma = np.array([0.01, 0.02, 0.03, 0.1, 0.2, 0.05])
    for axis in range(6):
        step = np.zeros(6)
        step[axis] = 2 * sigma[axis]
        T = transform(Rotation.from_rotvec([0.4, -1.0, 2.0]).as_matrix(), [0.1, 0.2, 0.7])
        moved = transform(Rotation.from_rotvec(step[3:]).as_matrix() @ T[:3, :3], T[:3, 3] + step[:3])
        assert squared_distance(T, np.diag(sigma**2), moved) == pytest.approx(4.0)


def test_too_little_to_fit_by_is_refused():
    with pytest.raises(VPOGError, match="more scenes"):
        fit(made_up(20, 0), SIGNS["matched"])
    moved = made_up(100, 0)
    moved.distance[:] = np.nan
    with pytest.raises(VPOGError, match="covariance"):
        fit(moved, SIGNS["matched"])
    sure = made_up(100, 0)
    sure.correct[:] = True
    with pytest.raises(VPOGError, match="100 of 100"):
        fit(sure, SIGNS["matched"])
