from __future__ import annotations

import numpy as np
import pytest
import trimesh

from vpog_core.objects.renderer import Light, Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.synthetic import fields
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.prints import make_print, palette
from vpog_core.synthetic.shapes import RECIPES, make_shape
from vpog_core.synthetic.textures import image_texture, print_box


def open_edges(faces: np.ndarray) -> int:
    """Return the directed edges without their opposite; where two sheets touch, four faces share an edge."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    ways = edges[:, 0] * 10_000_000 + edges[:, 1], edges[:, 1] * 10_000_000 + edges[:, 0]
    return int((np.sort(ways[0]) != np.sort(ways[1])).sum())


@pytest.mark.parametrize(
    ("field", "half", "volume"),
    [
        (fields.box((0.03, 0.02, 0.05)), (0.04, 0.03, 0.06), 8 * 0.03 * 0.02 * 0.05),
        (fields.cylinder(0.03, 0.04), (0.04, 0.04, 0.05), np.pi * 0.03**2 * 0.08),
        (fields.capsule((0, 0, 0), (0, 0, 1e-6), 0.03), (0.04, 0.04, 0.04), 4 / 3 * np.pi * 0.03**3),
        (
            fields.superquadric((0.02, 0.03, 0.04), 1, 1),
            (0.05, 0.05, 0.05),
            4 / 3 * np.pi * 0.02 * 0.03 * 0.04,
        ),
        (fields.torus(0.03, 0.01), (0.05, 0.05, 0.02), 2 * np.pi**2 * 0.03 * 0.01**2),
        (fields.polygon([(0, 0), (0.04, 0), (0, 0.03)], 0.02), (0.05, 0.05, 0.03), 0.5 * 0.04 * 0.03 * 0.04),
        (
            fields.lathe(np.array([-0.03, 0.03]), np.array([0.01, 0.03])),
            (0.04, 0.04, 0.04),
            np.pi * 0.06 / 3 * (1e-4 + 3e-4 + 9e-4),
        ),
    ],
    ids=["box", "cylinder", "ball", "ellipsoid", "torus", "prism", "cone"],
)
def test_surface_of_a_field_is_closed_and_has_its_volume(field, half, volume):
    vertices, faces = fields.surface(field, half, 6000)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert open_edges(faces) == 0
    # Sharp edges are cut by half a cell: 1 to 2 per cent of these volumes.
    assert mesh.volume == pytest.approx(volume, rel=0.025)


def test_holes_and_joints():
    plate, drill = fields.box((0.04, 0.04, 0.01)), fields.cylinder(0.01, 0.03)
    vertices, faces = fields.surface(fields.cut(plate, drill), (0.05, 0.05, 0.02), 6000)
    holed = trimesh.Trimesh(vertices, faces, process=False)
    assert holed.is_watertight
    assert holed.euler_number == 0
    balls = [
        fields.placed(fields.capsule((0, 0, 0), (0, 0, 1e-6), 0.02), t=(x, 0, 0)) for x in (-0.015, 0.015)
    ]
    vertices, faces = fields.surface(fields.union(balls, 0.005), (0.05, 0.03, 0.03), 4000)
    assert trimesh.Trimesh(vertices, faces, process=False).body_count == 1


@pytest.mark.parametrize("kind", RECIPES)
def test_every_kind_makes_a_sound_textured_object(kind):
    for seed in (900001, 900002):
        shape = make_shape(seed, kind, vertices=5000)
        assert 2000 < len(shape.vertices) < 12000
        assert open_edges(shape.faces) == 0
        assert trimesh.Trimesh(shape.vertices, shape.faces, process=False).volume > 0
        np.testing.assert_allclose(np.linalg.norm(shape.normals, axis=1), 1, atol=1e-6)
        mesh = make_object(seed, kind=kind, vertices=5000)
        assert 0.05 < mesh.diameter < 0.3
        np.testing.assert_allclose(mesh.center, 0, atol=1e-9)
        assert mesh.vertex_colors.shape == mesh.vertices.shape
        assert mesh.vertex_colors.dtype == np.uint8


def test_same_seed_same_object_other_seed_other_object():
    one, same, other = make_object(900003), make_object(900003), make_object(900004)
    np.testing.assert_array_equal(one.vertices, same.vertices)
    np.testing.assert_array_equal(one.vertex_colors, same.vertex_colors)
    assert one.vertices.shape != other.vertices.shape or not np.allclose(one.vertices, other.vertices)


def test_most_objects_look_different_from_the_other_side():
    """The mean colours over the common silhouette differ, so that views can be told apart."""
    told_apart = 0
    for seed in range(900010, 900022):
        mesh = make_object(seed, vertices=4000)
        renderer = Renderer(mesh)
        views = []
        for direction in ((1, 0.3, 0.4), (-1, -0.3, 0.4)):
            K, T = template_camera(mesh, np.array(direction), 64)
            views.append(renderer.render(T, K, (64, 64), Light(ambient=1, diffuse=0)))
        both = views[0].mask & views[1].mask
        contrast = np.abs(views[0].rgb.astype(int) - views[1].rgb)[both].mean()
        overlap = both.sum() / (views[0].mask | views[1].mask).sum()
        told_apart += contrast > 12 or overlap < 0.85
    assert told_apart >= 9


def test_photo_shows_on_the_object():
    photo = np.zeros((64, 64, 3), np.uint8)
    photo[..., 1] = 255
    shape = make_shape(900005, "blocks", 3000)
    colors = image_texture(shape.vertices, shape.normals, photo)
    np.testing.assert_allclose(colors, np.tile([0, 255, 0], (len(shape.vertices), 1)))
    used = 0
    for seed in range(6):
        plain = make_object(seed, kind="blob", vertices=3000).vertex_colors
        used += (
            np.abs(make_object(seed, photo, "blob", 3000).vertex_colors.astype(int) - plain).max(axis=1) > 30
        ).mean() > 0.1
    assert used >= 3


def test_prints_have_contrast_and_are_repeatable():
    one, two = (
        make_print(np.random.default_rng(5), 120, 90, palette(np.random.default_rng(1))) for _ in range(2)
    )
    np.testing.assert_array_equal(one, two)
    assert one.shape == (120, 90, 3)
    assert one.std() > 15


def test_print_reads_from_outside_on_every_side(monkeypatch):
    """Each panel is dark on the left and bright on the right, as seen from outside with up up."""
    from vpog_core.synthetic import textures

    panel = np.zeros((32, 32, 3), np.uint8)
    panel[:, 16:] = 200
    panel[:16] += 50
    monkeypatch.setattr(textures, "_panel", lambda *_: panel)
    shape = make_shape(900006, "package", 8000)
    mesh_colors = print_box(
        np.random.default_rng(0), shape.vertices, shape.normals, palette(np.random.default_rng(0))
    )
    from vpog_core.objects.mesh import Mesh

    mesh = Mesh(shape.vertices, shape.faces, vertex_colors=mesh_colors.astype(np.uint8))
    for direction in np.concatenate([np.eye(3), -np.eye(3)])[[0, 1, 3, 4]]:
        K, T = template_camera(mesh, direction, 64)
        out = Renderer(mesh).render(T, K, (64, 64), Light(ambient=1, diffuse=0))
        rows, columns = np.nonzero(out.mask)
        row, quarter = int(np.median(rows)), (columns.max() - columns.min()) // 4
        middle = (columns.min() + columns.max()) // 2
        left, right = out.rgb[row, middle - quarter, 0], out.rgb[row, middle + quarter, 0]
        assert int(right) - int(left) > 120
