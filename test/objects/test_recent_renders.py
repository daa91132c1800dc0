"""Test which renders of an object are made once."""

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


def test_old_renders_are_dropped(renderer):
    recent = RecentRenders(renderer)
    first = recent.render(pose(renderer), K, SIZE)
    for n in range(CAPACITY):
        recent.render(pose(renderer, 2.0 + 0.1 * n), K, SIZE)
    assert recent.render(pose(renderer), K, SIZE) is not first
