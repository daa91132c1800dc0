"""Filter the poses of one object: a Kalman filter of constant velocity on rotations and translations.

The state is a pose and its velocity; their errors are twelve numbers (position, turn, velocity, turn rate,
all about the axes of the camera frame), for which the equations are the usual linear ones: Sola et al., A
micro Lie theory for state estimation in robotics (https://arxiv.org/abs/1812.01537), section V, with
SO(3) x R^3 in place of SE(3), as the covariance of a ROS pose has it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vpog_core.geometry.se3 import covariance_at, difference, moved
from vpog_core.geometry.symmetry import Symmetry

GATE = 22.46
"""Squared Mahalanobis distance, six degrees of freedom, that one correct pose in a thousand exceeds."""
MIN_SIGMA = np.array([0.001] * 3 + [0.01] * 3)
"""Lower bound of a pose's standard deviations, metres and radians. An estimate's covariance tells how well
its correspondences determine it, and not what they have in common."""
UNKNOWN_SIGMA = np.array([0.01] * 3 + [0.1] * 3)
"""Standard deviations assumed for a pose without a covariance, metres and radians."""
START_SIGMA = np.array([0.5] * 3 + [2.0] * 3)
"""Standard deviations of the velocity of a new object, metres and radians per second."""
ACCELERATION = np.array([1.0] * 3 + [4.0] * 3)
"""Standard deviations of accelerations, metres and radians per second squared: of objects in hands, on belts,
and of cameras on arms."""


@dataclass(frozen=True)
class FilterState:
    """Holds what is known of an object at a time.

    Attributes:
        T: [4, 4] pose; velocity: [6] metres and radians per second.
        P: [12, 12] covariance of the errors of pose and velocity; time: seconds.
        jump: a pose (T [4, 4], R [6, 6], time) far from what was expected, that waits for one more like it.
    """

    T: np.ndarray
    velocity: np.ndarray
    P: np.ndarray
    time: float
    jump: tuple[np.ndarray, np.ndarray, float] | None = None

    @property
    def covariance(self) -> np.ndarray:
        """The covariance [6, 6] of the pose."""
        return self.P[:6, :6]


def start(T: np.ndarray, covariance: np.ndarray | None, time: float) -> FilterState:
    """Begin with a pose [4, 4] and its covariance [6, 6]; None: it is not known."""
    P = np.zeros((12, 12))
    P[:6, :6], P[6:, 6:] = _measured(covariance), np.diag(START_SIGMA**2)
    return FilterState(T, np.zeros(6), P, time)


def update(
    state: FilterState, T: np.ndarray, covariance: np.ndarray | None, time: float, symmetry: Symmetry
) -> FilterState:
    """Update the state by the pose of a later image.

    A pose outside of the gate is a jump: the prediction is kept until a second pose confirms it, from which
    the filter is then reset. Of poses that look alike for a symmetric object the one nearest to the
    prediction is taken.

    Args:
        T: [4, 4] measured pose; covariance: [6, 6] of it, or None.
        time: seconds; not before the state's.
    """
    expected = predict(state, time)
    T, covariance = _nearest(T, covariance, expected.T, symmetry)
    R = _measured(covariance)
    error = difference(T, expected.T)
    S = expected.covariance + R
    if error @ np.linalg.solve(S, error) > GATE:
        if state.jump is not None and _confirms(T, R, time, state.jump, symmetry):
            return start(T, covariance, time)
        return replace(expected, jump=(T, R, time))
    K = np.linalg.solve(S, expected.P[:6]).T
    change = K @ error
    # Joseph's form stays symmetric and positive in spite of rounding.
    A = np.eye(12)
    A[:, :6] -= K
    P = A @ expected.P @ A.T + K @ R @ K.T
    return FilterState(moved(expected.T, change[:6]), expected.velocity + change[6:], P, time)


def predict(state: FilterState, time: float) -> FilterState:
    """Predict a state at a later time, at constant velocity."""
    dt = max(0.0, time - state.time)
    F = np.eye(12)
    F[:6, 6:] = dt * np.eye(6)
    q = np.diag(ACCELERATION**2)
    Q = np.block([[q * dt**4 / 4, q * dt**3 / 2], [q * dt**3 / 2, q * dt**2]])
    P = F @ state.P @ F.T + Q
    return replace(state, T=moved(state.T, state.velocity * dt), P=P, time=max(time, state.time))


def _confirms(T: np.ndarray, R: np.ndarray, time: float, jump: tuple, symmetry: Symmetry) -> bool:
    """Tell whether a pose agrees with the jump before it, within the motion that the filter allows."""
    T_jump, R_jump, time_jump = jump
    dt = time - time_jump
    T, _ = _nearest(T, None, T_jump, symmetry)
    error = difference(T, T_jump)
    S = R + R_jump + np.diag((START_SIGMA * dt) ** 2)
    return bool(error @ np.linalg.solve(S, error) <= GATE)


def _nearest(
    T: np.ndarray, covariance: np.ndarray | None, T_ref: np.ndarray, symmetry: Symmetry
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the equivalent of a pose that is nearest to a reference, with its covariance."""
    nearest = symmetry.nearest(T, T_ref)
    if covariance is not None:
        covariance = covariance_at(covariance, nearest[:3, 3] - T[:3, 3])
    return nearest, covariance


def _measured(covariance: np.ndarray | None) -> np.ndarray:
    """Return the covariance [6, 6] that a measured pose is taken to have."""
    if covariance is None or not np.isfinite(covariance).all():
        return np.diag(UNKNOWN_SIGMA**2)
    return covariance + np.diag(MIN_SIGMA**2)
