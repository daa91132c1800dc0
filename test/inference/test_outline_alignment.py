"""Test the alignment of outlines on real renders of objects in one colour, in front of a busy wall."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from vpog_core.geometry.projection import project
from vpog_core.geometry.se3 import difference, transform_points
from vpog_core.inference.observation import Observation
from vpog_core.inference.outline_alignment import (
    MAX_POINTS,
    align_outline,
    find_edges,
    find_outline,
)
from vpog_core.inference.rendered_view import RenderedView
from vpog_core.objects.mesh import Mesh

from .shots import Shot, covered, perturbed, shot_of

UNSURE = np.diag([0.01, 0.01, 0.03, 0.05, 0.05, 0.05]) ** 2
"""The covariance of a pose that is off by centimetres and degrees, as a network's is."""


def bracket() -> trimesh.Trimesh:
    """Return an angle with a post, which looks different from everywhere."""
    parts = [
        trimesh.creation.box((0.12, 0.05, 0.02)),
        trimesh.creation.box((0.02, 0.05, 0.08)).apply_translation((0.05, 0, 0.05)),
        trimesh.creation.cylinder(0.012, 0.06, sections=48).apply_translation((-0.03, 0, 0.04)),
    ]
    return trimesh.util.concatenate(parts)


@pytest.fixture(scope="module")
def plain() -> Shot:
    made = bracket()
    colors = np.tile(np.uint8([190, 60, 50]), (len(made.vertices), 1))
    return shot_of(Mesh(np.asarray(made.vertices), np.asarray(made.faces), vertex_colors=colors))


def view_of(shot: Shot, T: np.ndarray) -> RenderedView:
    return RenderedView.of(shot.renderer, shot.observation, T)


@pytest.mark.parametrize(("degrees", "farther"), [(3.0, 1.03), (3.0, 0.97), (5.0, 1.0)])
def test_a_plain_object_comes_back(plain, degrees, farther):
    """Edges are exact to some tenths of a pixel of 256."""
    start = perturbed(plain, degrees, farther)
    found = align_outline(plain.renderer, plain.observation, start, UNSURE)
    turn, scale, off = plain.error(found)
    assert np.degrees(turn) < 0.6
    assert scale < 0.006
    assert off < 0.15 * plain.error(start)[2]


def test_what_stands_in_front_has_edges_of_its_own(plain):
    image, _ = covered(plain, plain.observation.image)
    start = perturbed(plain, 3.0, 1.02)
    found = align_outline(plain.renderer, replace(plain.observation, image=image), start, UNSURE)
    assert plain.error(found)[2] < 0.4 * plain.error(start)[2]


@pytest.mark.parametrize("axis", [(0.6, -0.5, 0.62), (-0.2, 0.9, 0.4), (0.1, 0.1, -1.0)])
def test_the_border_of_the_image_is_no_edge(plain, axis):
    """The image ends two pixels below the object: taken for an edge, its border moves the pose by 2 %."""
    pixels = project(plain.observation.camera, transform_points(plain.T_true, plain.mesh.hull_points))
    height = int(np.ceil(pixels[:, 1].max())) + 2
    camera = replace(plain.observation.camera, height=height)
    cut = Observation(np.ascontiguousarray(plain.observation.image[:height]), camera)
    start = perturbed(plain, 3.0, 1.02, axis)
    assert plain.error(align_outline(plain.renderer, cut, start, UNSURE))[2] < 0.008


def test_a_pose_that_is_known_exactly_hardly_moves(plain):
    start = perturbed(plain, 1.0, 1.0)
    known = align_outline(plain.renderer, plain.observation, start, np.diag(np.full(6, 1e-5)) ** 2)
    free = align_outline(plain.renderer, plain.observation, start, UNSURE)
    moved = [np.linalg.norm(difference(T, start)[3:]) for T in (known, free)]
    assert moved[0] < 0.05 * moved[1]


def test_the_true_pose_stays(plain):
    found = align_outline(plain.renderer, plain.observation, plain.T_true, UNSURE)
    assert plain.error(found)[2] < 0.004


def test_without_edges_the_pose_stays(plain):
    start = perturbed(plain)
    blank = replace(plain.observation, image=np.full((480, 640, 3), 120, np.uint8))
    assert align_outline(plain.renderer, blank, start, UNSURE) is start


def test_where_the_image_may_not_be_used_there_is_no_outline(plain):
    nothing = replace(plain.observation, mask=np.zeros((480, 640), dtype=bool))
    start = perturbed(plain)
    assert align_outline(plain.renderer, nothing, start, UNSURE) is start


def test_an_outline_lies_at_the_rim_and_before_what_is_far_behind(plain):
    view = view_of(plain, plain.T_true)
    outline = find_outline(view)
    assert len(outline.pixels) <= MAX_POINTS
    np.testing.assert_allclose(np.linalg.norm(outline.normals, axis=1), 1.0, atol=1e-6)
    # Three pixels along the normal the object ends, or its surface lies farther away.
    inside, outside = (np.round(outline.pixels + k * outline.normals).astype(int).T[::-1] for k in (0, 3))
    depth = np.where(view.render.mask, view.render.depth, np.inf)
    farther = depth[tuple(outside)] > depth[tuple(inside)] + 0.02 * plain.mesh.diameter
    # Normals are blurred where outlines turn.
    assert farther.mean() > 0.9


def test_a_face_seen_nearly_from_the_side_is_no_outline():
    """Its depth changes from pixel to pixel, but its points lie in one plane."""
    board = trimesh.creation.box((0.2, 0.2, 0.01))
    shot = shot_of(Mesh(np.asarray(board.vertices), np.asarray(board.faces)))
    view = view_of(shot, shot.T_true)
    pixels = find_outline(view).pixels
    middle = view.render.mask.copy()
    middle[1:-1, 1:-1] &= view.render.mask[2:, 1:-1] & view.render.mask[:-2, 1:-1]
    middle[1:-1, 1:-1] &= view.render.mask[1:-1, 2:] & view.render.mask[1:-1, :-2]
    assert not middle[pixels[:, 1], pixels[:, 0]].any()


def test_edges_are_found_to_a_tenth_of_a_pixel(plain):
    """The step of a blurred ramp is placed by the pixels around it."""
    view = view_of(plain, plain.T_true)
    outline = find_outline(view)
    edges = find_edges(view.grey, outline, 3, 1.5)
    # In the render itself the outline lies half a pixel outside, wherever faces and background differ.
    off = np.abs(edges.offset[edges.found] - 0.5)
    assert edges.found.mean() > 0.8
    assert np.median(off) < 0.35
