from __future__ import annotations

import numpy as np
import pytest

from vpog_core.geometry.se3 import (
    random_rotation,
    rotation_angle,
    rotation_x,
    rotation_z,
    transform,
    transform_points,
)
from vpog_core.geometry.symmetry import UPRIGHT, Symmetry
from vpog_core.types import VPOGError

FAR = transform(rotation_x(0.3) @ rotation_z(1.0), [0.1, -0.2, 0.7])


def error_of(call) -> str:
    with pytest.raises(VPOGError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def is_in(T, group, tolerance=1e-9) -> bool:
    return bool((np.abs(np.asarray(group) - T).max(axis=(1, 2)) < tolerance).any())


def poses(count=20, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (
            transform(random_rotation(rng), rng.normal(size=3)),
            transform(random_rotation(rng), rng.normal(size=3)),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("turns", "size"),
    [
        ([], 1),
        ([{"axis": "z", "order": 4}], 4),
        ([{"axis": "z", "order": 2}, {"axis": "x", "order": 2}], 4),  # a book without print
        ([{"axis": "z", "order": 4}, {"axis": "x", "order": 2}], 8),  # a square box
        ([{"axis": "z", "order": 4}, {"axis": [1, 0, 0], "order": 4}], 24),  # a cube
        ([{"axis": "z", "order": 6, "offset": [0.1, 0.2, 0.0]}], 6),
    ],
)
def test_discrete_turns_make_a_group(turns, size):
    group = Symmetry.from_mapping({"discrete": turns}).discrete
    assert len(group) == size
    np.testing.assert_array_equal(group[0], np.eye(4))
    for S in group:
        np.testing.assert_allclose(S[:3, :3] @ S[:3, :3].T, np.eye(3), atol=1e-12)
        assert is_in(np.linalg.inv(S), group)
        assert all(is_in(S @ other, group) for other in group)


def test_an_offset_is_a_point_that_stays():
    symmetry = Symmetry.from_mapping(
        {"discrete": [{"axis": "z", "order": 3, "offset": [10, 20, 5]}]}, unit=0.001
    )
    point = np.array([0.01, 0.02, 0.7])
    for S in symmetry.discrete:
        np.testing.assert_allclose(transform_points(S, point), point, atol=1e-12)


def test_transforms_leave_a_solid_of_revolution_in_place():
    """Points on a cone about an axis off the origin stay on it."""
    axis, offset = np.array([0.6, 0.0, 0.8]), np.array([0.01, 0.02, 0.03])
    symmetry = Symmetry.from_bop({"symmetries_continuous": [{"axis": [6, 0, 8], "offset": [10, 20, 30]}]})
    steps = symmetry.transforms(0.05)
    assert len(steps) == np.ceil(np.pi / 0.05)
    point = np.array([0.1, 0.0, 0.2])
    moved = steps @ [*point, 1.0]
    along = (moved[:, :3] - offset) @ axis
    across = np.linalg.norm(np.cross(moved[:, :3] - offset, axis), axis=1)
    np.testing.assert_allclose(along, along[0], atol=1e-12)
    np.testing.assert_allclose(across, across[0], atol=1e-12)
    # No point travels further from one step to the next than asked: 0.05 of the diameter.
    ring = np.linalg.norm(np.diff(moved[:, :3], axis=0), axis=1)
    assert ring.max() <= 0.05 * 2 * across[0] + 1e-12


def test_transforms_are_the_products_bop_toolkit_makes():
    """The transforms are all turns after two discrete symmetries, of which one is the identity."""
    flip = np.diag([1.0, -1, -1, 1])
    flip[2, 3] = 40.0
    info = {
        "symmetries_discrete": [flip.ravel().tolist()],
        "symmetries_continuous": [{"axis": [0, 0, 1], "offset": [5, 0, 0]}],
    }
    found = Symmetry.from_bop(info).transforms()
    turns = int(np.ceil(np.pi / 0.01))
    assert len(found) == 2 * turns
    np.testing.assert_array_equal(found[0], np.eye(4))
    flip[2, 3] = 0.04
    angle = 2 * np.pi * 7 / turns
    R = rotation_z(angle)
    turn = transform(R, np.array([0.005, 0, 0]) - R @ [0.005, 0, 0])
    assert is_in(turn, found)
    assert is_in(turn @ flip, found)
    assert not is_in(transform(rotation_z(angle + 0.005), turn[:3, 3]), found, 1e-3)


def test_no_symmetry():
    symmetry = Symmetry.none()
    assert symmetry.is_trivial
    np.testing.assert_array_equal(symmetry.transforms(), np.eye(4)[None])
    np.testing.assert_array_equal(symmetry.nearest(FAR), FAR)
    assert Symmetry.from_mapping({}).is_trivial
    assert Symmetry.from_bop({"diameter": 100.0}).is_trivial
    assert not Symmetry.from_mapping({"continuous": [{"axis": "z"}]}).is_trivial


SOLIDS = {
    "square box": {"discrete": [{"axis": "z", "order": 4}, {"axis": "x", "order": 2}]},
    "bottle": {"continuous": [{"axis": [0.1, 0.2, 1.0], "offset": [0.1, 0.0, 0.3]}]},
    "can": {
        "continuous": [{"axis": "z", "offset": [0.1, 0.2, 0]}],
        "discrete": [{"axis": "x", "order": 2, "offset": [0.1, 0.2, 0.05]}],
    },
    "ball": {"continuous": [{"axis": "z", "offset": [0, 0, 0.1]}, {"axis": "x", "offset": [0.3, 0, 0.1]}]},
}


@pytest.mark.parametrize("name", sorted(SOLIDS))
def test_nearest_is_as_near_as_brute_force_finds(name):
    symmetry = Symmetry.from_mapping(SOLIDS[name])
    everything = symmetry.transforms()
    for T, T_ref in poses():
        best = min(rotation_angle((T @ S)[:3, :3], T_ref[:3, :3]) for S in everything)
        found = rotation_angle(symmetry.nearest(T, T_ref)[:3, :3], T_ref[:3, :3])
        assert found <= best + 1e-9
        if name != "ball":  # whose turns about two axes alone are not all there are
            assert found > best - 0.011  # half a step of the brute force, in radians


@pytest.mark.parametrize("name", sorted(SOLIDS))
def test_equivalent_poses_give_one_answer(name):
    """The result is the same pose, whichever of the equivalent poses the solver finds."""
    symmetry = Symmetry.from_mapping(SOLIDS[name])
    some = symmetry.transforms(0.4)
    for T, T_ref in poses(6, seed=1):
        answers = np.stack([symmetry.nearest(T @ S, T_ref) for S in some])
        np.testing.assert_allclose(answers, np.broadcast_to(answers[0], answers.shape), atol=1e-9)
        for R in answers[:, :3, :3]:
            np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-9)


@pytest.mark.parametrize("name", ["square box", "bottle", "can"])
def test_the_nearest_pose_is_an_equivalent_one(name):
    """T^-1 @ nearest is itself a symmetry: points of the axis stay, distances to it stay."""
    symmetry = Symmetry.from_mapping(SOLIDS[name])
    points = np.random.default_rng(2).normal(size=(30, 3)) * 0.1
    for T, T_ref in poses(6, seed=3):
        S = np.linalg.inv(T) @ symmetry.nearest(T, T_ref)
        if symmetry.continuous:
            axis, offset = symmetry.continuous[0]
            moved = transform_points(S, points)
            far = [np.linalg.norm(np.cross(p - offset, axis), axis=1) for p in (points, moved)]
            np.testing.assert_allclose(far[0], far[1], atol=1e-9)
        else:
            assert is_in(S, symmetry.discrete)


def test_a_slowly_turning_box_does_not_flip():
    """The solver's answers jump among the four sides; each frame's nearest to the last one moves smoothly."""
    symmetry = Symmetry.from_mapping({"discrete": [{"axis": "z", "order": 4}]})
    rng, last = np.random.default_rng(4), None
    for step in range(60):
        true = transform(UPRIGHT @ rotation_z(0.1 * step), [0, 0, 0.5])
        now = symmetry.nearest(true @ symmetry.discrete[rng.integers(4)], last)
        if last is not None:
            assert rotation_angle(now[:3, :3], last[:3, :3]) == pytest.approx(0.1, abs=1e-6)
        last = now


def test_without_a_reference_the_answer_is_the_one_nearest_to_upright():
    symmetry = Symmetry.from_mapping({"discrete": [{"axis": "x", "order": 2}]})
    standing = transform(UPRIGHT @ rotation_z(0.4), [0, 0, 0.5])
    np.testing.assert_allclose(symmetry.nearest(standing @ symmetry.discrete[1]), standing, atol=1e-12)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ({"axis": "z"}, "'axis'"),
        ({"discrete": {"axis": "z"}}, "list"),
        ({"discrete": ["z"]}, "{axis: z}"),
        ({"discrete": [{"axis": "z"}]}, "None"),
        ({"discrete": [{"axis": "z", "order": 1}]}, "at least 2"),
        ({"discrete": [{"axis": "z", "order": 2.5}]}, "2.5"),
        ({"discrete": [{"axis": "w", "order": 2}]}, "'w'"),
        ({"discrete": [{"axis": "z", "order": 2, "offest": [0, 0, 0]}]}, "'offest'"),
        ({"continuous": [{"axis": [0, 0, 0]}]}, "direction"),
        ({"continuous": [{"axis": [0, 0, float("nan")]}]}, "3 numbers"),
        ({"continuous": [{"axis": "z"}, {"axis": "x", "offset": [0, 1, 0]}]}, "meet"),
        ({"continuous": [{"axis": "z"}, {"axis": "z", "offset": [0, 1, 0]}]}, "meet"),
        ({"discrete": [{"axis": "z", "order": 7}, {"axis": "x", "order": 7}]}, "more than 120"),
    ],
)
def test_what_is_no_symmetry_is_refused(value, part):
    assert part in error_of(lambda: Symmetry.from_mapping(value))


@pytest.mark.parametrize(
    "numbers",
    [
        np.eye(4).ravel()[:12],
        np.diag([1.0, 1, -1, 1]).ravel(),
        (2 * np.eye(4)).ravel(),
        np.full(16, np.nan),
    ],
)
def test_a_bop_symmetry_must_be_rigid(numbers):
    text = error_of(lambda: Symmetry.from_bop({"symmetries_discrete": [list(numbers)]}))
    assert "discrete symmetry" in text


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"discrete": [{"axis": "z", "order": 4}, {"axis": "x", "order": 2}]},
        {"continuous": [{"axis": [1, 2, 3]}]},
        {"continuous": [{"axis": "z"}], "discrete": [{"axis": "x", "order": 2}]},
        {"continuous": [{"axis": "z"}, {"axis": "x"}]},
    ],
)
def test_the_least_angle_is_that_to_the_nearest_pose(settings):
    symmetry = Symmetry.from_mapping(settings)
    ones, others = (np.stack(p) for p in zip(*poses(6), strict=True))
    angles = symmetry.least_angles(ones[:, :3, :3], others[:, :3, :3])
    for i, one in enumerate(ones):
        for j, other in enumerate(others):
            nearest = symmetry.nearest(one, other)
            wanted = rotation_angle(nearest[:3, :3], other[:3, :3])
            assert angles[i, j] == pytest.approx(wanted, abs=1e-6)
