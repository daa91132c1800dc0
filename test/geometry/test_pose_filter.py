"""Test the pose filter on synthetic sequences of poses whose truth is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vpog_core.geometry.pose_filter import GATE, start, update
from vpog_core.geometry.se3 import covariance_at, difference, moved, rotation_y, rotation_z, transform
from vpog_core.geometry.symmetry import Symmetry

NONE = Symmetry.none()
PERIOD_S = 1 / 30
SIGMA = np.array([0.002, 0.002, 0.006, 0.02, 0.02, 0.02])
"""Metres and radians of a pose's error, the depth the least sure, as of the estimator's poses."""
COVARIANCE = np.diag(SIGMA**2)
MOTIONS = {
    "at rest": np.zeros(6),
    "steady": np.array([0.2, -0.1, 0.05, 0.0, 0.8, 0.3]),
}
"""Metres and radians per second."""


def truth(velocity: np.ndarray, frames: int) -> list[np.ndarray]:
    poses = [transform(rotation_y(0.4), [0.0, 0.1, 0.7])]
    for _ in range(frames - 1):
        poses.append(moved(poses[-1], velocity * PERIOD_S))
    return poses


def run(measured, symmetry: Symmetry = NONE, covariance=COVARIANCE) -> list:
    states = [start(measured[0], covariance, 0.0)]
    for n, T in enumerate(measured[1:], 1):
        states.append(update(states[-1], T, covariance, n * PERIOD_S, symmetry))
    return states


def jitter(poses, true) -> np.ndarray:
    """Compute the RMS [2] of the error's change from one image to the next, metres and radians."""
    errors = np.array([difference(T, T_true) for T, T_true in zip(poses, true, strict=True)])
    steps = np.diff(errors, axis=0).reshape(-1, 2, 3)
    return np.sqrt((steps**2).sum(axis=2).mean(axis=0))


@pytest.mark.parametrize("motion", MOTIONS)
def test_poses_jitter_less_and_lag_behind_nothing(motion, record_property):
    rng = np.random.default_rng(0)
    true = truth(MOTIONS[motion], 150)
    measured = [moved(T, SIGMA * rng.standard_normal(6)) for T in true]
    filtered = [state.T for state in run(measured)]
    before, after = jitter(measured[20:], true[20:]), jitter(filtered[20:], true[20:])
    record_property("jitter", f"{motion}: {before} -> {after}")
    print(f"{motion}: {1e3 * before[0]:.1f} mm, {np.rad2deg(before[1]):.2f} deg -> "
          f"{1e3 * after[0]:.1f} mm, {np.rad2deg(after[1]):.2f} deg")  # fmt: skip
    assert (after < before / 2).all()
    lag = np.mean([difference(T, T_true) for T, T_true in zip(filtered[20:], true[20:], strict=True)], axis=0)
    # The mean of 130 errors that hang together over some ten images.
    assert (np.abs(lag) < SIGMA / 2).all()


def test_errors_are_as_large_as_their_covariance_says():
    rng = np.random.default_rng(1)
    true = truth(MOTIONS["steady"], 400)
    states = run([moved(T, SIGMA * rng.standard_normal(6)) for T in true])
    errors = [difference(s.T, T) for s, T in zip(states, true, strict=True)][50:]
    distances = [e @ np.linalg.solve(s.covariance, e) for e, s in zip(errors, states[50:], strict=True)]
    # Six on average where it is exact; less, since objects are taken to accelerate and these do not.
    assert 1.0 < np.mean(distances) < 7.0


def test_one_wrong_pose_is_left_out_and_a_second_one_is_believed():
    true = truth(np.zeros(6), 30)
    flipped = true[0] @ transform(rotation_z(np.pi), np.zeros(3))
    once = run([*true[:10], flipped, *true[11:]])
    assert all(np.linalg.norm(difference(s.T, true[0])) < 1e-6 for s in once)
    twice = run([*true[:10], flipped, flipped])
    np.testing.assert_allclose(twice[10].T, true[0], atol=1e-6)
    np.testing.assert_allclose(twice[11].T, flipped, atol=1e-9)


def test_two_wrong_poses_that_disagree_confirm_nothing():
    true = truth(np.zeros(6), 10)
    wrong = [true[0] @ transform(rotation_z(turn), np.zeros(3)) for turn in (2.0, -2.0)]
    np.testing.assert_allclose(run([*true, *wrong])[-1].T, true[0], atol=1e-6)


def test_a_wide_covariance_opens_the_gate():
    true = truth(np.zeros(6), 10)
    off = moved(true[0], np.array([0.0, 0.0, 0.2, 0.0, 0.0, 0.0]))
    far = run([*true, off])[-1]
    assert far.jump is not None
    unsure = update(run(true)[-1], off, COVARIANCE + np.diag([0, 0, 0.1**2, 0, 0, 0]), 10 * PERIOD_S, NONE)
    assert unsure.jump is None
    assert GATE > 0


@pytest.mark.parametrize(
    "symmetry",
    [{"continuous": [{"axis": "z", "offset": [0.01, 0, 0]}]}, {"discrete": [{"axis": "z", "order": 2}]}],
)
def test_equivalent_poses_of_a_symmetric_object_are_no_jumps(symmetry):
    symmetry = Symmetry.from_mapping(symmetry)
    true = truth(MOTIONS["steady"], 30)
    turns = symmetry.transforms(0.05)
    rng = np.random.default_rng(2)
    states = run([T @ turns[rng.integers(len(turns))] for T in true], symmetry)
    assert all(state.jump is None for state in states)
    steps = [difference(b.T, a.T) for a, b in pairwise(states)]
    assert np.abs(steps).max() < 0.05


def test_poses_without_covariance_are_filtered_too():
    true = truth(MOTIONS["at rest"], 10)
    np.testing.assert_allclose(run(true, covariance=None)[-1].T, true[-1], atol=1e-9)


def test_a_covariance_at_another_origin_is_that_of_the_moved_poses():
    rng = np.random.default_rng(3)
    T, arm = truth(np.zeros(6), 1)[0], np.array([0.1, -0.2, 0.05])
    at = transform(np.eye(3), T[:3, :3].T @ arm)
    steps = 0.01 * rng.standard_normal((20000, 6))
    errors = np.array([difference(moved(T, step) @ at, T @ at) for step in steps])
    # Of 20,000 samples; the turns of 0.01 rad leave the linear by as little.
    np.testing.assert_allclose(np.cov(errors.T), covariance_at(1e-4 * np.eye(6), arm), atol=4e-6)
