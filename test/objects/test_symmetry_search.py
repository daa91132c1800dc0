"""Test the search on meshes whose symmetry is known, by shape and colour together."""

import numpy as np
import pytest
import trimesh

from vpog_core.geometry.se3 import random_rotation, transform, transform_points
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.symmetry_search import find_symmetry
from vpog_core.objects.visible_surface import visible_surface

creation = trimesh.creation


def plain(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(shape.vertices, shape.faces)


def painted(shape: trimesh.Trimesh, color) -> Mesh:
    """Colour each face by `color(centre, normal)`."""
    colors = [color(c, n) for c, n in zip(shape.triangles_center, shape.face_normals, strict=True)]
    vertices, faces = shape.triangles.reshape(-1, 3), np.arange(3 * len(shape.faces)).reshape(-1, 3)
    return Mesh(vertices, faces, vertex_colors=np.repeat(np.uint8(colors), 3, axis=0))


def printed_can() -> Mesh:
    """Return a cylinder with an image around it that does not repeat."""
    can = plain(creation.cylinder(0.03, 0.1, sections=48))
    x, y, z = can.vertices[can.faces].transpose(2, 0, 1)
    around = np.arctan2(y, x) / (2 * np.pi) + 0.5
    seam = np.ptp(around, axis=1) > 0.5
    around[seam] += around[seam] < 0.5
    can.uv = np.stack([around, z / 0.1 + 0.5], axis=-1).astype(np.float32)
    v, u = np.mgrid[0:64, 0:128] / (64, 128)[0]
    can.texture = np.uint8(
        np.stack([120 + 100 * np.sin(np.pi * u), 255 * v, 128 + 0 * u], axis=-1).clip(0, 255)
    )
    return can


def gear(teeth: int) -> Mesh:
    """Return a flat wheel whose teeth are as wide as the gaps, about z."""
    count = 4 * teeth
    angle = 2 * np.pi * np.arange(count) / count
    radius = np.where(np.arange(count) % 4 < 2, 0.05, 0.042)
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle], axis=1)
    half = np.array([0, 0, 0.01])
    i = np.arange(count)
    j, low, high = (i + 1) % count, np.full(count, 2 * count), np.full(count, 2 * count + 1)
    faces = [(i, j, j + count), (i, j + count, i + count), (j, i, low), (i + count, j + count, high)]
    vertices = np.concatenate([ring - half, ring + half, [-half, half]])
    return Mesh(vertices, np.concatenate([np.stack(f, axis=1) for f in faces]))


def mug() -> Mesh:
    wall = creation.annulus(0.036, 0.04, 0.1, sections=48)
    floor = creation.cylinder(0.038, 0.004, sections=48).apply_translation([0, 0, -0.048])
    handle = creation.torus(0.025, 0.006).apply_transform(
        trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0])
    )
    return plain(trimesh.util.concatenate([wall, floor, handle.apply_translation([0.045, 0, 0])]))


def red_top(centre, normal):
    return (200, 30, 30) if normal[2] > 0.9 else (190, 190, 190)


def red_half(centre, normal):
    return (200, 30, 30) if centre[0] > 0 else (190, 190, 190)


@pytest.mark.parametrize(
    ("mesh", "settings", "count"),
    [
        (lambda: plain(creation.box((0.1, 0.06, 0.04))), {"discrete": [("x", 2), ("y", 2)]}, 4),
        (lambda: plain(creation.box((0.06, 0.06, 0.1))), {"discrete": [("z", 4), ("x", 2)]}, 8),
        (lambda: plain(creation.box((0.06, 0.06, 0.06))), {"discrete": [("x", 4), ("y", 4)]}, 24),
        (lambda: painted(creation.box((0.06, 0.06, 0.06)), red_top), {"discrete": [("z", 4)]}, 4),
        (lambda: plain(creation.cylinder(0.03, 0.1)), {"continuous": ["z"], "discrete": [("x", 2)]}, 2),
        (lambda: plain(creation.cone(0.03, 0.1)), {"continuous": ["z"]}, 1),
        (lambda: painted(creation.cylinder(0.03, 0.1, sections=48), red_top), {"continuous": ["z"]}, 1),
        (lambda: painted(creation.cylinder(0.03, 0.1, sections=48), red_half), {"discrete": [("x", 2)]}, 2),
        (printed_can, {}, 1),
        (mug, {}, 1),
        (lambda: plain(creation.icosphere(3, 0.04)), {"continuous": ["x", "y", "z"]}, 1),
    ],
)
def test_shapes_and_colours_of_known_symmetry(mesh, settings, count):
    found = find_symmetry(mesh())
    told = found.settings()
    discrete = [(entry["axis"], entry["order"]) for entry in told.get("discrete", [])]
    continuous = [entry["axis"] for entry in told.get("continuous", [])]
    assert discrete == settings.get("discrete", [])
    assert continuous == settings.get("continuous", [])
    assert len(found.symmetry.discrete) == count


@pytest.mark.parametrize("teeth", [5, 8, 12, 20])
def test_a_gear_has_as_many_turns_as_teeth_and_may_be_flipped(teeth):
    found = find_symmetry(gear(teeth))
    told = found.settings()["discrete"]
    assert told[0] == {"axis": "z", "order": teeth}
    assert len(found.symmetry.discrete) == 2 * teeth
    # A flip is about the middle of a tooth or a gap, which come every half pitch.
    flip = np.arctan2(told[1]["axis"][1], told[1]["axis"][0]) if told[1]["axis"] != "x" else 0.0
    half_pitch = np.pi / teeth
    first = np.pi / (4 * teeth)
    assert abs((flip - first + half_pitch / 2) % half_pitch - half_pitch / 2) < np.radians(1.5)


@pytest.mark.parametrize(
    ("points", "count"),
    [
        (np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.03, 12),
        (creation.icosahedron().vertices * 0.04, 60),
    ],
)
def test_regular_bodies(points, count):
    assert len(find_symmetry(plain(trimesh.convex.convex_hull(points))).symmetry.discrete) == count


def test_a_body_that_lies_anywhere_has_its_axes_and_its_middle_there():
    rng = np.random.default_rng(2)
    T = transform(random_rotation(rng), np.array([0.02, -0.01, 0.3]))
    box = creation.box((0.06, 0.06, 0.1))
    found = find_symmetry(Mesh(transform_points(T, box.vertices), box.faces))
    expected = (
        T
        @ Symmetry.from_mapping({"discrete": [{"axis": "z", "order": 4}, {"axis": "x", "order": 2}]}).discrete
        @ np.linalg.inv(T)
    )
    assert len(found.symmetry.discrete) == 8
    for S in found.symmetry.discrete:
        assert min(np.abs(S - E).max() for E in expected) < 1e-6


def test_settings_are_in_the_unit_of_the_file_and_read_back_as_the_same_group():
    cone = creation.cone(0.03, 0.1).apply_translation([0.01, 0.02, 0.0])
    found = find_symmetry(plain(cone))
    told = found.settings("mm")
    assert told["continuous"][0]["axis"] == "z"
    np.testing.assert_allclose(told["continuous"][0]["offset"], [10, 20, 0], atol=1e-3)
    axis, offset = Symmetry.from_mapping(told, unit=0.001).continuous[0]
    np.testing.assert_allclose(np.cross(axis, offset - found.symmetry.continuous[0][1]), 0, atol=1e-8)


def test_a_small_difference_that_a_camera_sees_counts():
    """A pointer on a knob, a thousandth of its volume, is all that tells how it is turned."""
    knob = creation.cylinder(0.03, 0.02, sections=48)
    pointer = creation.box((0.02, 0.006, 0.004)).apply_translation([0.018, 0, 0.011])
    assert find_symmetry(plain(trimesh.util.concatenate([knob, pointer]))).settings() == {}


def test_what_lies_inside_does_not_count():
    shell = creation.cylinder(0.03, 0.1, sections=48)
    inside = creation.box((0.02, 0.01, 0.01)).apply_translation([0.01, 0, 0.02])
    found = find_symmetry(plain(trimesh.util.concatenate([shell, inside])))
    assert found.settings()["continuous"] == [{"axis": "z"}]


def test_faces_that_are_turned_inside_out_are_seen_from_outside():
    box = creation.box((0.1, 0.06, 0.04))
    mesh = Mesh(box.vertices, box.faces[:, ::-1])
    surface = visible_surface(mesh, 500, np.random.default_rng(0))
    assert len(surface.points) == 500
    assert ((surface.points * surface.normals).sum(axis=1) > 0).all()
    assert len(find_symmetry(mesh).symmetry.discrete) == 4


def test_a_flat_sheet_may_be_turned_over():
    sheet = Mesh(np.array([[0, 0, 0], [0.1, 0, 0], [0.1, 0.06, 0], [0, 0.06, 0.0]]), [[0, 1, 2], [0, 2, 3]])
    assert len(find_symmetry(sheet).symmetry.discrete) == 4
