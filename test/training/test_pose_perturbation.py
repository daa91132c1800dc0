"""Test that drawn wrong poses are as far from the true one as they are said to be."""

import numpy as np
import pytest

from vpog_core.geometry.se3 import random_rotation, rotation_angle, transform
from vpog_core.training.synthesis.pose_perturbation import (
    MAX_DISTANCE_ERROR,
    OTHER_VIEW,
    PerturbationConfig,
    perturb,
)
from vpog_core.types import VPOGError

CENTER, DIAMETER, DISTANCE = np.array([0.01, -0.02, 0.03]), 0.2, 0.8


def drawn(config: PerturbationConfig, count: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rotations (degrees), relative distances and shifts (diameters, [count, 2]) of drawn poses."""
    rng = np.random.default_rng(1)
    R = random_rotation(rng)
    T = transform(R, np.array([0.0, 0.0, DISTANCE]) - R @ CENTER)
    turns, places = [], []
    for _ in range(count):
        wrong = perturb(rng, T, CENTER, DIAMETER, config)
        turns.append(np.degrees(rotation_angle(wrong[:3, :3], R)))
        places.append(wrong[:3, :3] @ CENTER + wrong[:3, 3])
    places = np.array(places)
    return np.array(turns), places[:, 2] / DISTANCE - 1, places[:, :2] / DIAMETER


def test_errors_have_the_sizes_that_are_asked_for():
    config = PerturbationConfig(
        rotation_deg=30, distance=0.05, shift=0.08, small_fraction=0.0, other_views=0.0
    )
    turns, farther, across = drawn(config)
    assert 29 < turns.max() < 30 + 1e-6
    # Even between zero and the largest: the mean's standard deviation over 2000 is 0.2 degrees.
    assert turns.mean() == pytest.approx(15, abs=0.8)
    # A standard deviation of 2000 draws is known to 1.6 %.
    assert farther.std() == pytest.approx(0.05, rel=0.08)
    assert across.std(axis=0) == pytest.approx(0.08, rel=0.08)
    assert abs(farther.mean()) < 0.005
    assert np.abs(across.mean(axis=0)).max() < 0.008


def test_a_fraction_of_the_errors_is_small_as_in_late_rounds():
    config = PerturbationConfig(
        rotation_deg=40, distance=0.0, shift=0.0, small_fraction=0.4, small=0.1, other_views=0.0
    )
    turns, farther, across = drawn(config)
    # Of the others one in ten is as small: 0.4 + 0.6 / 10.
    assert (turns < 4).mean() == pytest.approx(0.46, abs=0.035)
    np.testing.assert_allclose(farther, 0, atol=1e-9)
    np.testing.assert_allclose(across, 0, atol=1e-9)


def test_other_views_are_turned_by_any_angle_beyond_what_can_be_refined():
    turns, farther, across = drawn(PerturbationConfig(other_views=0.3, small_fraction=0.0))
    other = turns > np.degrees(OTHER_VIEW)
    # The standard deviation of a fraction of 2000 draws is 1 %.
    assert other.mean() == pytest.approx(0.3, abs=0.04)
    assert turns[other].max() > 175
    assert turns[~other].max() < 35 + 1e-6
    # They are at nearly the same place, with the errors of the others.
    assert farther[other].std() == pytest.approx(farther[~other].std(), rel=0.2)
    assert across[other].std() == pytest.approx(across[~other].std(), rel=0.2)


def test_no_errors_leave_the_pose_as_it_is():
    turns, farther, across = drawn(PerturbationConfig(rotation_deg=0, distance=0, shift=0, other_views=0), 10)
    assert turns.max() < 1e-5
    assert max(np.abs(farther).max(), np.abs(across).max()) < 1e-9


def test_the_object_stays_before_the_camera():
    _, farther, _ = drawn(PerturbationConfig(distance=0.2))
    assert np.abs(farther).max() == pytest.approx(MAX_DISTANCE_ERROR)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rotation_deg": -1}, r"perturbation\.rotation_deg is -1: give 0 to 180"),
        ({"rotation_deg": float("nan")}, r"perturbation\.rotation_deg is nan"),
        ({"distance": 0.5}, r"perturbation\.distance is 0\.5: give 0 to 0\.2"),
        ({"shift": 2}, r"perturbation\.shift is 2"),
        ({"small_fraction": 1.5}, r"perturbation\.small_fraction is 1\.5: give 0 to 1"),
        ({"small": -0.1}, r"perturbation\.small is -0\.1"),
        ({"other_views": 2}, r"perturbation\.other_views is 2"),
    ],
)
def test_sizes_that_cannot_be_are_refused(values, sentence):
    with pytest.raises(VPOGError, match=sentence):
        PerturbationConfig(**values)
