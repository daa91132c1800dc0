"""Test which renders of an object are made once."""

from itertools import pairwise

import numpy as np
import pytest

from vpog_core.geometry.se3 import rotation_x, transform
from vpog_core.objects.recent_renders import CAPACITY, RecentRenders
from vpog_core.objects.renderer import Renderer
from vpog_core.synthetic.objects import make_object

K = np.array([[300.0, 0, 47.5], [0, 300.0, 47.5], [0, 0, 1]])
SIZE = (96, 96)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(make_object(900_001, vertices=4000))


def pose(renderer: Renderer, turn: float = 1.9) -> np.ndarray:
    R = rotation_x(turn)
    return transform(R, np.array([0, 0, 3.0]) * renderer.mesh.diameter - R @ renderer.mesh.center)


def test_the_same_view_is_the_same_render(renderer):
    recent, T = RecentRenders(renderer), pose(renderer)
    first = recent.render(T, K, SIZE)
    # Poses that have been through other frames differ in their last digits.
    again = recent.render(np.linalg.inv(np.linalg.inv(T)), K * (1 + 1e-15), SIZE)
    assert again is first
    np.testing.assert_array_equal(first.rgb, renderer.render(T, K, SIZE).rgb)


@pytest.mark.parametrize("change", ["pose", "camera", "size"])
def test_another_view_is_rendered(renderer, change):
    recent, T = RecentRenders(renderer), pose(renderer)
    recent.render(T, K, SIZE)
    other = {
        "pose": (pose(renderer, 1.9001), K, SIZE),
        "camera": (T, K * [[1.001], [1.001], [1]], SIZE),
        "size": (T, K, (95, 96)),
    }[change]
    np.testing.assert_array_equal(recent.render(*other).depth, renderer.render(*other).depth)


def counted(renderer: Renderer, monkeypatch) -> list:
    """Return a list that grows with each render."""
    made, real = [], renderer.render
    monkeypatch.setattr(renderer, "render", lambda *view: made.append(view) or real(*view))
    return made


@pytest.mark.parametrize("instances", [1, 5, 12])
def test_each_instance_takes_one_render_an_image(renderer, monkeypatch, instances):
    """An image begins with the renders at the last poses, and makes those at the new ones."""
    recent, made = RecentRenders(renderer), counted(renderer, monkeypatch)
    images = [[pose(renderer, 0.1 * n + 0.001 * image) for n in range(instances)] for image in range(4)]
    for before, after in pairwise(images):
        for T in (*before, *after):
            recent.render(T, K, SIZE)
    assert len(made) == 4 * instances


def test_the_render_not_asked_for_longest_is_dropped(renderer, monkeypatch):
    recent, made = RecentRenders(renderer), counted(renderer, monkeypatch)
    poses = [pose(renderer, 0.1 * n) for n in range(CAPACITY + 1)]
    for T in (*poses[:-1], poses[0], poses[-1]):
        recent.render(T, K, SIZE)
    assert len(made) == CAPACITY + 1
    # The first was asked for again before the last came, so that the second went.
    recent.render(poses[0], K, SIZE)
    assert len(made) == CAPACITY + 1
    recent.render(poses[1], K, SIZE)
    assert len(made) == CAPACITY + 2


def test_an_array_that_changes_later_changes_no_kept_view(renderer):
    recent, T, K_own = RecentRenders(renderer), pose(renderer), K.copy()
    first = recent.render(T, K_own, SIZE)
    T[:3, 3] *= 1.1
    K_own[0, 0] *= 1.1
    assert recent.render(pose(renderer), K, SIZE) is first
