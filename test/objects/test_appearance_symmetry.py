"""Test that colours remove symmetries of a shape, if they can be told apart."""

import numpy as np
import pytest
import trimesh

from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.appearance_symmetry import appearance_symmetry
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer

BOX = Symmetry.from_mapping({"discrete": [{"axis": "z", "order": 2}, {"axis": "x", "order": 2}]})
CAN = Symmetry.from_mapping({"continuous": [{"axis": "z"}], "discrete": [{"axis": "x", "order": 2}]})


def painted(shape: trimesh.Trimesh, color) -> Renderer:
    """Return a fine mesh, each vertex in the colour [3] of its place."""
    for _ in range(3):
        shape = shape.subdivide()
    colors = np.array([color(p) for p in shape.vertices]).clip(0, 255).astype(np.uint8)
    return Renderer(Mesh(shape.vertices, shape.faces, vertex_colors=colors))


def of_box(color) -> Symmetry:
    return appearance_symmetry(painted(trimesh.creation.box((0.1, 0.07, 0.04)), color), BOX)


def of_can(color) -> Symmetry:
    return appearance_symmetry(painted(trimesh.creation.cylinder(0.03, 0.1, sections=48), color), CAN)


def test_one_colour_keeps_all():
    assert len(of_box(lambda p: (180, 90, 30)).discrete) == 4
    can = of_can(lambda p: (180, 90, 30))
    assert (len(can.discrete), len(can.continuous)) == (2, 1)


def test_a_print_leaves_what_it_repeats():
    ends = of_box(lambda p: (220, 30, 30) if abs(p[0]) > 0.03 else (30, 30, 220))
    assert len(ends.discrete) == 4  # both ends of x alike
    top = of_box(lambda p: (220, 30, 30) if p[2] > 0.01 else (30, 30, 220))
    assert len(top.discrete) == 2  # the turn about z
    np.testing.assert_allclose(top.discrete[1][:3, :3], np.diag([-1, -1, 1]), atol=1e-9)
    corner = of_box(lambda p: (220, 30, 30) if (p > 0).all() else (30, 30, 220))
    assert corner.is_trivial
    # What a camera hardly tells apart under changing light is no difference.
    faint = of_box(lambda p: (120, 120, 120) if p[2] > 0.01 else (130, 130, 130))
    assert len(faint.discrete) == 4


def test_of_a_can_bands_leave_the_axis_and_labels_do_not():
    bands = of_can(lambda p: (220, 30, 30) if p[2] > 0.02 else (230, 230, 230))
    assert (len(bands.discrete), len(bands.continuous)) == (1, 1)
    label = of_can(lambda p: (20, 20, 90) if p[0] > 0.01 else (230, 230, 230))
    assert not label.continuous
    assert len(label.discrete) == 2  # the turn about x, which it has as well
    twice = of_can(lambda p: (20, 20, 90) if abs(p[0]) > 0.02 and p[2] > -0.03 else (230, 230, 230))
    assert not twice.continuous
    assert len(twice.discrete) == 2  # half a turn about z
    np.testing.assert_allclose(twice.discrete[1][:3, :3], np.diag([-1, -1, 1]), atol=1e-9)


def test_of_a_shape_without_symmetry_nothing_is_asked():
    assert appearance_symmetry(None, Symmetry.none()).is_trivial


@pytest.mark.parametrize("shape", [BOX, CAN])
def test_what_is_left_is_a_group(shape):
    box = shape is BOX
    found = (of_box if box else of_can)(lambda p: (40 * (p[0] > 0), 40, 200))
    for one in found.discrete:
        for other in found.discrete:
            assert min(np.abs(one @ other - S).max() for S in found.discrete) < 1e-6
