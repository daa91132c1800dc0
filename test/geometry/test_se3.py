import numpy as np
import pytest

from vpog_core.geometry.se3 import (
    at_point,
    invert,
    is_within,
    quaternion_xyzw,
    random_rotation,
    rotation_about,
    rotation_angle,
    rotation_from_quaternion,
    rotation_from_vector,
    rotation_x,
    rotation_y,
    rotation_z,
    skew,
    transform,
    transform_points,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("make", "start", "end"),
    [
        (rotation_x, [0, 1, 0], [0, 0, 1]),
        (rotation_y, [0, 0, 1], [1, 0, 0]),
        (rotation_z, [1, 0, 0], [0, 1, 0]),
    ],
)
def test_quarter_turns_follow_the_right_hand(make, start, end):
    np.testing.assert_allclose(make(np.pi / 2) @ start, end, atol=1e-15)


def test_invert_undoes_a_transform(rng):
    T = transform(random_rotation(rng), rng.normal(size=3))
    np.testing.assert_allclose(invert(T) @ T, np.eye(4), atol=1e-14)


def test_transform_points_takes_any_batch_and_equals_homogeneous_products(rng):
    T = transform(random_rotation(rng), rng.normal(size=3))
    points = rng.normal(size=(2, 5, 3))
    homogeneous = np.concatenate([points, np.ones((2, 5, 1))], axis=-1)
    np.testing.assert_allclose(transform_points(T, points), (homogeneous @ T.T)[..., :3], atol=1e-14)
    assert transform_points(T, points[0, 0]).shape == (3,)


@pytest.mark.parametrize("angle", [1e-9, 1e-4, 1.0, np.pi - 1e-6, np.pi])
def test_rotation_angle_is_exact_from_tiny_to_half_turns(rng, angle):
    R = random_rotation(rng)
    axis = rng.normal(size=3)
    turned = rotation_from_vector(axis / np.linalg.norm(axis) * angle) @ R
    # The arc sine is flat at half a turn: its square root costs half the digits there.
    assert rotation_angle(turned, R) == pytest.approx(angle, rel=1e-6, abs=1e-7 if angle > 3 else 1e-15)


def test_quaternion_round_trip_for_random_and_half_turns(rng):
    rotations = [random_rotation(rng) for _ in range(50)]
    rotations += [
        np.eye(3),
        rotation_x(np.pi),
        rotation_y(np.pi),
        rotation_z(np.pi),
        rotation_z(np.pi - 1e-9),
    ]
    for R in rotations:
        q = quaternion_xyzw(R)
        assert np.linalg.norm(q) == pytest.approx(1.0, abs=1e-12)
        assert q[3] >= 0
        np.testing.assert_allclose(rotation_from_quaternion(q), R, atol=1e-12)


def test_quaternion_order_is_xyzw():
    h = np.sqrt(0.5)
    np.testing.assert_allclose(quaternion_xyzw(rotation_z(np.pi / 2)), [0, 0, h, h], atol=1e-12)
    np.testing.assert_allclose(rotation_from_quaternion([2.0, 0, 0, 2.0]), rotation_x(np.pi / 2), atol=1e-12)


def test_rotation_from_vector_known_small_and_large():
    np.testing.assert_allclose(rotation_from_vector([0, 0, 0.7]), rotation_z(0.7), atol=1e-15)
    tiny = rotation_from_vector([1e-13, 0, 0])
    np.testing.assert_allclose(tiny, np.eye(3) + skew([1e-13, 0, 0]), atol=1e-26)
    np.testing.assert_allclose(rotation_from_vector([0, 2 * np.pi, 0]), np.eye(3), atol=1e-14)


def test_a_rotation_about_an_axis_leaves_the_axis_where_it_is():
    axis, point = np.array([0, 0, 1.0]), np.array([1.0, 2.0, 3.0])
    T = rotation_about(axis, point, np.pi / 2)
    np.testing.assert_allclose(transform_points(T, point + 5 * axis), point + 5 * axis, atol=1e-12)
    np.testing.assert_allclose(transform_points(T, point + np.eye(3)[0]), point + np.eye(3)[1], atol=1e-12)


def test_random_rotations_are_rotations_spread_evenly(rng):
    rotations = np.stack([random_rotation(rng) for _ in range(2000)])
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (2000, 3, 3)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0, atol=1e-12)
    # Entries of a uniform rotation have mean 0 and variance 1/3; four standard errors of 2000 draws.
    assert np.abs(rotations.mean(axis=0)).max() < 4 / np.sqrt(3 * 2000)
    assert np.abs(rotations.var(axis=0) - 1 / 3).max() < 0.03


@pytest.mark.parametrize("origin", [0.0, 0.35, 0.6])
def test_a_turn_about_the_middle_is_judged_alike_wherever_the_origin_lies(origin):
    """A mesh in the coordinates of its assembly, even with the origin at the camera."""
    middle = np.array([0.0, 0.0, origin])
    place = transform(np.eye(3), [0.0, 0.0, 0.6])
    before = place @ transform(np.eye(3), -middle)
    for degrees, shift, expected in ((19.0, 0.05, True), (21.0, 0.05, False), (10.0, 0.1, False)):
        after = transform(rotation_y(np.radians(degrees)), [shift, 0.0, 0.6]) @ transform(np.eye(3), -middle)
        assert is_within(before, after, middle, np.radians(20.0), 0.15) is expected


def test_a_pose_and_its_covariance_are_those_of_another_point(rng):
    T = transform(random_rotation(rng), rng.normal(size=3))
    sigma, point = np.diag(rng.uniform(0.5, 2.0, 6) * 1e-4), np.array([0.3, -0.2, 0.1])
    drawn = rng.multivariate_normal(np.zeros(6), sigma, 20_000)
    moved, covariance = at_point(T, sigma, point)
    np.testing.assert_allclose(moved[:3, 3], transform_points(T, point))
    # Turned about its origin, a pose moves the point as the lever says.
    lever = moved[:3, 3] - T[:3, 3]
    shifts = drawn[:, :3] + np.cross(drawn[:, 3:], lever)
    # The mean of 20,000 squares is known to a hundredth.
    np.testing.assert_allclose(np.cov(shifts.T), covariance[:3, :3], atol=0.05 * covariance[:3, :3].max())
    back, same = at_point(moved, covariance, -point)
    np.testing.assert_allclose(back, T, atol=1e-12)
    np.testing.assert_allclose(same, sigma, atol=1e-12)
