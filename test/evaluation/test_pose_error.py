import numpy as np
import pytest

from vpog_core.evaluation.pose_error import (
    add,
    adds,
    mspd,
    mssd,
    rotation_error,
    translation_error,
)
from vpog_core.geometry.se3 import random_rotation, rotation_z, transform

K = np.array([[500.0, 0, 320], [0, 500.0, 240], [0, 0, 1]])
SQUARE = np.array([[1, 1, 0], [1, -1, 0], [-1, -1, 0], [-1, 1, 0]]) * 0.05
HALF_TURN = transform(rotation_z(np.pi), np.zeros(3))


@pytest.fixture
def pose():
    return transform(random_rotation(np.random.default_rng(0)), [0.1, -0.05, 0.8])


def moved(T, by):
    return transform(np.eye(3), by) @ T


ERRORS = {
    "add": lambda a, b: add(a, b, SQUARE),
    "adds": lambda a, b: adds(a, b, SQUARE),
    "mssd": lambda a, b: mssd(a, b, SQUARE),
    "mspd": lambda a, b: mspd(a, b, SQUARE, K),
    "rotation": rotation_error,
    "translation": translation_error,
}


@pytest.mark.parametrize("name", ERRORS)
def test_the_true_pose_has_no_error(name, pose):
    assert ERRORS[name](pose, pose) == pytest.approx(0.0, abs=1e-12)


def test_a_shift_is_the_error_of_every_distance(pose):
    shifted = moved(pose, [0.003, 0.004, 0.0])
    for name in ("add", "mssd", "translation"):
        assert ERRORS[name](shifted, pose) == pytest.approx(0.005, rel=1e-9)
    assert ERRORS["adds"](shifted, pose) == pytest.approx(0.005, rel=1e-9)
    assert rotation_error(shifted, pose) == pytest.approx(0.0, abs=1e-12)


def test_add_and_adds_known_value_for_a_turned_square(pose):
    """A quarter turn moves each corner along one side (0.1 m) and onto another corner."""
    turned = pose @ transform(rotation_z(np.pi / 2), np.zeros(3))
    assert add(turned, pose, SQUARE) == pytest.approx(0.1, rel=1e-9)
    assert adds(turned, pose, SQUARE) == pytest.approx(0.0, abs=1e-12)
    assert mssd(turned, pose, SQUARE) == pytest.approx(0.1, rel=1e-9)
    assert rotation_error(turned, pose) == pytest.approx(np.pi / 2, rel=1e-9)


def test_adds_looks_from_the_true_points():
    """The estimate covers one of two true points: the mean counts the other's way to the nearest."""
    points = np.array([[0.0, 0, 0], [0.3, 0, 0]])
    estimate = transform(np.eye(3), [0.3, 0, 0])
    assert adds(estimate, np.eye(4), points) == pytest.approx(0.15)


def test_maximum_errors_take_the_worst_point():
    """Turned about one corner, the opposite one moves most, by 2 r sin(angle / 2)."""
    corner = (
        transform(np.eye(3), SQUARE[0])
        @ transform(rotation_z(0.1), np.zeros(3))
        @ transform(np.eye(3), -SQUARE[0])
    )
    ahead = transform(np.eye(3), [0, 0, 1.0])
    chord = 2 * 0.1 * np.sqrt(2) * np.sin(0.05)
    assert mssd(ahead @ corner, ahead, SQUARE) == pytest.approx(chord, rel=1e-9)
    assert mspd(ahead @ corner, ahead, SQUARE, K) == pytest.approx(500 * chord, rel=1e-9)
    assert add(ahead @ corner, ahead, SQUARE) < chord


def test_projection_error_ignores_what_a_camera_cannot_see():
    ahead = transform(np.eye(3), [0, 0, 1.0])
    nearer = transform(np.eye(3), [0, 0, 0.99])
    # Points 0.0707 m off the axis move by 500 * 0.05 * (1 / 0.99 - 1) in x and y.
    assert mspd(nearer, ahead, SQUARE, K) == pytest.approx(np.sqrt(2) * 500 * 0.05 * (1 / 0.99 - 1), rel=1e-9)
    assert mspd(nearer, ahead, np.zeros((1, 3)), K) == pytest.approx(0.0, abs=1e-9)
    assert mspd(transform(np.eye(3), [0, 0, -1.0]), ahead, SQUARE, K) == np.inf


def test_symmetries_take_the_nearest_equivalent(pose):
    turned = pose @ HALF_TURN
    assert mssd(turned, pose, SQUARE) == pytest.approx(0.1 * np.sqrt(2), rel=1e-9)
    for error in (
        mssd(turned, pose, SQUARE, [np.eye(4), HALF_TURN]),
        mspd(turned, pose, SQUARE, K, [np.eye(4), HALF_TURN]),
        rotation_error(turned, pose, [np.eye(4), HALF_TURN]),
    ):
        assert error == pytest.approx(0.0, abs=1e-7)
    assert mssd(pose, pose, SQUARE, [HALF_TURN, np.eye(4)]) == pytest.approx(0.0, abs=1e-12)
