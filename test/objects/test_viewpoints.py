from __future__ import annotations

import numpy as np
import pytest

from vpog_core.geometry.se3 import random_rotation, rotation_angle, rotation_z
from vpog_core.objects.viewpoints import (
    align_roll,
    nearest_viewpoints,
    split_view,
    upright_rotation,
    viewpoint_directions,
)


def test_162_unit_directions_spread_evenly():
    directions = viewpoint_directions()
    assert directions.shape == (162, 3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(directions.sum(axis=0), 0, atol=1e-12)
    cosine = directions @ directions.T
    np.fill_diagonal(cosine, -1)
    angle = np.degrees(np.arccos(cosine.max(axis=1)))
    # Twice subdivided icosahedron: nearest neighbours at 15.86 and 16.41 degrees, none nearer.
    assert angle.min() > 15.8
    assert angle.max() < 16.5


def test_every_direction_is_near_a_viewpoint():
    rng = np.random.default_rng(0)
    for _ in range(200):
        direction = random_rotation(rng)[0]
        nearest = viewpoint_directions()[nearest_viewpoints(direction)[0]]
        assert np.degrees(np.arccos(np.clip(direction @ nearest, -1, 1))) < 11.0


def test_nearest_viewpoints_are_sorted_and_start_with_itself():
    directions = viewpoint_directions()
    for index in (0, 57, 161):
        found = nearest_viewpoints(directions[index], 7)
        assert found[0] == index
        assert (np.diff(directions[found] @ directions[index]) <= 1e-12).all()


def test_callers_cannot_spoil_the_directions():
    viewpoint_directions()[:] = 0
    assert np.abs(viewpoint_directions()).max() > 0.9


@pytest.mark.parametrize("direction", [*viewpoint_directions()[::13], (0, 0, 1), (0, 0, -1), (3, 0, 0)])
def test_upright_camera_looks_back_with_up_in_the_image(direction):
    direction = np.asarray(direction, float)
    R = upright_rotation(direction)
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1)
    np.testing.assert_allclose(R @ direction / np.linalg.norm(direction), [0, 0, -1], atol=1e-12)
    up = R @ ([0, 0, 1] if abs(direction[2]) < 0.999 * np.linalg.norm(direction) else [0, 1, 0])
    assert up[1] < 0
    assert abs(up[0]) < 1e-12


def test_split_view_round_trip():
    rng = np.random.default_rng(1)
    for _ in range(50):
        R = random_rotation(rng)
        direction, roll = split_view(R)
        np.testing.assert_allclose(rotation_z(roll) @ upright_rotation(direction), R, atol=1e-12)


@pytest.mark.parametrize("direction", [(0, 0, 1), (0, 0, -1), (0.6, 0, 0.8)])
def test_split_view_finds_the_roll(direction):
    R = rotation_z(0.7) @ upright_rotation(np.array(direction, float))
    found, roll = split_view(R)
    np.testing.assert_allclose(found, direction, atol=1e-12)
    assert roll == pytest.approx(0.7)


def test_align_roll_undoes_a_roll_and_is_the_best_one():
    rng = np.random.default_rng(2)
    R = random_rotation(rng)
    assert align_roll(R, rotation_z(1.1) @ R) == pytest.approx(1.1)
    other = random_rotation(rng)
    best = rotation_angle(rotation_z(align_roll(R, other)) @ R, other)
    assert all(best <= rotation_angle(rotation_z(r) @ R, other) + 1e-9 for r in np.linspace(-3.1, 3.1, 60))
