"""Test that look-alike poses are told apart, on renders of a package with nearly one print on two sides."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import trimesh

from vpog_core.geometry.se3 import rotation_y, rotation_z, transform
from vpog_core.inference.disambiguation import disambiguate, preference
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.rendered_view import RenderedView
from vpog_core.objects.mesh import Mesh

from .shots import Shot, covered, shot_of

HALF_TURN = transform(rotation_z(np.pi), np.zeros(3))


def package(word: bool) -> Mesh:
    """Return a box whose print is the same after half a turn; with a word on one side, nearly the same."""
    made = trimesh.creation.box((0.1, 0.06, 0.14))
    for _ in range(6):
        made = made.subdivide()
    x, y, z = made.triangles_center.T
    # A print in blocks of 5 mm, which half a turn about z brings to the other side.
    side = np.where(np.abs(made.face_normals[:, 1]) > 0.5, x * np.sign(y), y * np.sign(x))
    column, row = np.floor(side / 0.005).astype(int), np.floor(z / 0.005).astype(int)
    colors = np.random.default_rng(0).integers(40, 220, (64, 64, 3))[column % 64, row % 64]
    colors[np.abs(made.face_normals[:, 2]) > 0.5] = 150
    if word:
        # Stripes of 2 mm on a tenth of one side.
        here = (y < -0.0299) & (np.abs(x) < 0.025) & (np.abs(z - 0.03) < 0.014)
        colors[here] = np.where(np.floor(x / 0.002).astype(int) % 2 == 0, 230, 20)[here, None]
    corners = made.triangles.reshape(-1, 3)
    return Mesh(
        corners,
        np.arange(len(corners)).reshape(-1, 3),
        vertex_colors=np.repeat(colors, 3, axis=0).astype(np.uint8),
    )


@pytest.fixture(scope="module")
def printed() -> Shot:
    return shot_of(package(word=True))


def preferred(shot: Shot, T: np.ndarray, T_other: np.ndarray) -> float | None:
    """Return how much the image of a shot prefers a pose to another."""
    view = RenderedView.of(shot.renderer, shot.observation, T)
    size = view.virtual.size
    T_virt_cam = np.linalg.inv(view.virtual.T_cam_virt)
    return preference(view, shot.renderer.render(T_virt_cam @ T_other, view.virtual.K, (size, size)))


def hypothesis(T: np.ndarray, score: float, has_flow: bool = True) -> PoseHypothesis:
    crop = SimpleNamespace(virtual=SimpleNamespace(T_cam_virt=np.eye(4)))
    pnp = SimpleNamespace(T_virt_obj=T)
    return PoseHypothesis(crop, None, None, None, pnp, None, score, has_flow=has_flow)


def scores(shot: Shot, *hypotheses: PoseHypothesis) -> list[float]:
    return [h.score for h in disambiguate(shot.renderer, shot.observation, hypotheses)]


def test_the_image_prefers_the_side_that_it_shows(printed):
    turned = printed.T_true @ HALF_TURN
    assert preferred(printed, printed.T_true, turned) > 0.25
    assert preferred(printed, turned, printed.T_true) < -0.25


def test_it_does_so_where_a_part_is_hidden(printed):
    image, _ = covered(printed, printed.observation.image)
    shot = replace(printed, observation=replace(printed.observation, image=image))
    assert preferred(shot, shot.T_true, shot.T_true @ HALF_TURN) > 0.1


def test_the_true_pose_comes_to_score_higher_and_both_share_the_score(printed):
    wrong, right = hypothesis(printed.T_true @ HALF_TURN, 0.95), hypothesis(printed.T_true, 0.93)
    wrong_score, right_score = scores(printed, wrong, right)
    assert right_score > 2 * wrong_score
    assert wrong_score + right_score == pytest.approx(0.95)


def test_a_pose_of_another_outline_keeps_its_score(printed):
    other = printed.T_true @ transform(rotation_y(np.radians(60)), np.zeros(3))
    assert preferred(printed, printed.T_true, other) is None
    given = hypothesis(printed.T_true, 0.9), hypothesis(other, 0.89)
    assert scores(printed, *given) == [0.9, 0.89]


def test_where_nothing_tells_them_apart_both_keep_their_scores():
    shot = shot_of(package(word=False))
    given = hypothesis(shot.T_true, 0.9), hypothesis(shot.T_true @ HALF_TURN, 0.85)
    assert scores(shot, *given) == [0.9, 0.85]


@pytest.mark.parametrize(("best", "rival"), [(False, True), (True, False)])
def test_poses_that_are_not_exact_are_not_compared(printed, best, rival):
    given = hypothesis(printed.T_true @ HALF_TURN, 0.95, best), hypothesis(printed.T_true, 0.93, rival)
    assert scores(printed, *given) == [0.95, 0.93]


def test_a_pose_far_below_the_best_is_not_compared(printed):
    given = hypothesis(printed.T_true @ HALF_TURN, 0.95), hypothesis(printed.T_true, 0.1)
    assert scores(printed, *given) == [0.95, 0.1]


def test_nothing_or_no_pose_is_left_as_it_is(printed):
    nothing = PoseHypothesis(None, None, None, None, None, None, 0.0)
    assert scores(printed) == []
    assert scores(printed, nothing) == [0.0]
