from __future__ import annotations

import numpy as np
import pytest
import trimesh

from vpog_core.geometry.se3 import random_rotation, rotation_x, transform, transform_points
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import DEFAULT_LIGHT, Light, Renderer
from vpog_core.objects.template_set import template_camera

K = np.array([[600, 0, 61.5], [0, 590, 57.25], [0, 0, 1.0]])
SIZE = (112, 128)
FLAT = Light(ambient=1.0, diffuse=0.0)


def ball(radius=0.05, subdivisions=5, **kwargs) -> Mesh:
    sphere = trimesh.creation.icosphere(subdivisions, radius=radius)
    return Mesh(sphere.vertices, sphere.faces, **kwargs)


def grid_rays() -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones(SIZE)], axis=-1)


def test_depth_of_a_sphere_is_the_analytic_one():
    center, radius = np.array([0.012, -0.008, 0.7]), 0.05
    out = Renderer(ball(radius, 6)).render(
        transform(random_rotation(np.random.default_rng(0)), center), K, SIZE
    )
    rays = grid_rays()
    a, b, c = (rays**2).sum(-1), rays @ center, center @ center - radius**2
    inside = b * b - a * c
    analytic = np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, 0)
    # The mesh is a polyhedron, 6 micrometres flatter than the sphere; at the rim that counts more.
    core = inside > 0.1 * inside.max()
    assert core.sum() > 2000
    np.testing.assert_allclose(out.depth[core], analytic[core], atol=2e-5)
    assert np.count_nonzero((inside > 0) != out.mask) <= 4


def test_depth_of_a_tilted_plane_is_the_analytic_one():
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], float)
    T = transform(rotation_x(0.6), [0.01, 0.02, 0.9])
    out = Renderer(Mesh(square, [[0, 1, 2], [0, 2, 3]])).render(T, K, SIZE)
    normal, point = T[:3, 2], T[:3, 3]
    analytic = (normal @ point) / (grid_rays() @ normal)
    assert out.mask.all()
    np.testing.assert_allclose(out.depth, analytic, rtol=2e-6)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1.0, 3.0), (40.0, 0.0), (0.1, 0.0)])
def test_coords_project_to_their_own_pixel(scale, shift):
    """This holds for any size of mesh, and for one modelled far from its origin."""
    mesh = ball(0.05 * scale, 3)
    mesh = Mesh(mesh.vertices * [1, 0.6, 1.4] + shift, mesh.faces)
    rng = np.random.default_rng(3)
    for _ in range(5):
        R = random_rotation(rng)
        T = transform(R, np.array([0.02, -0.03, 0.7]) * scale - R @ mesh.center)
        out = Renderer(mesh).render(T, K, SIZE)
        points = transform_points(T, out.coords[out.mask].astype(np.float64))
        pixels = points @ K.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        rows, columns = np.nonzero(out.mask)
        # float32 coordinates 3 m from the origin carry 0.2 micrometres, which is 2e-4 px here.
        np.testing.assert_allclose(pixels, np.stack([columns, rows], axis=1), atol=0.001)
        np.testing.assert_allclose(points[:, 2], out.depth[out.mask], rtol=1e-5)


def test_background_stays_where_nothing_is_hit():
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    out = Renderer(ball(subdivisions=3)).render(transform(np.eye(3), [0, 0, 0.7]), K, SIZE, background=image)
    assert 0.2 < out.mask.mean() < 0.8
    np.testing.assert_array_equal(out.rgb[~out.mask], image[~out.mask])
    for channel in (out.depth, out.coords, out.normals):
        assert not channel[~out.mask].any()


def test_normals_of_a_sphere_point_outwards():
    out = Renderer(ball()).render(transform(np.eye(3), [0, 0, 0.7]), K, SIZE)
    radial = out.coords[out.mask] / 0.05
    # Smoothed normals of 10k faces.
    assert (np.sum(out.normals[out.mask] * radial, axis=1) > 0.999).all()


def test_box_edges_stay_sharp():
    box = trimesh.creation.box((0.06, 0.06, 0.06))
    out = Renderer(Mesh(box.vertices, box.faces)).render(
        transform(random_rotation(np.random.default_rng(2)), [0, 0, 0.6]), K, SIZE
    )
    assert np.allclose(np.abs(out.normals[out.mask]).max(axis=1), 1, atol=1e-5)


def test_nearest_surface_wins():
    near, far = trimesh.creation.box((0.04, 0.04, 0.02)), trimesh.creation.box((0.1, 0.1, 0.02))
    vertices = np.concatenate([near.vertices - (0, 0, 0.1), far.vertices - (0, 0, -0.1)])
    colors = np.repeat(np.array([[255, 0, 0], [0, 0, 255]], np.uint8), 8, axis=0)
    mesh = Mesh(vertices, np.concatenate([near.faces, far.faces + 8]), vertex_colors=colors)
    out = Renderer(mesh).render(transform(np.eye(3), [0, 0, 0.8]), K, SIZE, FLAT)
    assert tuple(out.rgb[57, 61]) == (255, 0, 0)
    assert out.depth[57, 61] == pytest.approx(0.69, abs=1e-5)
    assert tuple(out.rgb[57, 61 + 28]) == (0, 0, 255)


def test_vertex_colours_are_blended_by_barycentrics():
    triangle = np.array([[-0.1, -0.1, 0], [0.1, -0.1, 0], [0, 0.1, 0]])
    mesh = Mesh(triangle, [[0, 1, 2]], vertex_colors=np.eye(3, dtype=np.uint8) * 240)
    out = Renderer(mesh).render(transform(np.eye(3), [0, 0, 2.0]), K, SIZE, FLAT)
    weights = np.linalg.solve(np.vstack([triangle.T[:2], np.ones(3)]), np.array([0.01, 0.0, 1]))
    pixel = np.round(np.array([0.01 / 2 * 600 + 61.5, 57.25])).astype(int)
    # Rounded to the nearest pixel: up to half a pixel, 1.7 mm of 200 mm, moves a colour by 3.
    np.testing.assert_allclose(out.rgb[pixel[1], pixel[0]], weights * 240, atol=4)


def test_light_comes_from_its_side_and_has_its_colour():
    T = transform(np.eye(3), [0, 0, 0.7])
    red = Light(ambient=0.0, direction=(-1, 0, -0.2), diffuse=1.0, color=(1, 0, 0))
    blue = Light(ambient=0.0, direction=(1, 0, -0.2), diffuse=1.0, color=(0, 0, 1))
    rgb = Renderer(ball()).render(T, K, SIZE, [red, blue]).rgb.astype(int)
    left, right = rgb[57, 61 - 30], rgb[57, 61 + 30]
    assert left[0] > 100 > left[2]
    assert right[2] > 100 > right[0]
    assert not rgb[..., 1].any()


def test_highlight_adds_light():
    T = transform(np.eye(3), [0, 0, 0.7])
    renderer = Renderer(ball(base_color=np.array([60, 60, 60], np.uint8)))
    dull = renderer.render(T, K, SIZE, Light()).rgb.astype(int)
    shiny = renderer.render(T, K, SIZE, Light(specular=0.8)).rgb.astype(int)
    assert (shiny >= dull).all()
    assert (shiny - dull).max() > 100
    assert np.count_nonzero(shiny.sum(-1) > dull.sum(-1) + 90) < 0.3 * np.count_nonzero(dull.any(-1))


def test_supersampling_keeps_geometry_and_softens_the_rim():
    T = transform(random_rotation(np.random.default_rng(0)), [0, 0, 0.7])
    renderer = Renderer(ball(base_color=np.array([200, 200, 200], np.uint8)))
    plain = renderer.render(T, K, SIZE, FLAT)
    soft = renderer.render(T, K, SIZE, FLAT, supersample=3)
    np.testing.assert_array_equal(plain.depth, soft.depth)
    assert set(np.unique(plain.rgb)) == {0, 200}
    rim = (soft.rgb[..., 0] > 0) & (soft.rgb[..., 0] < 200)
    assert 40 < rim.sum() < 300
    # The area covered is the disc's, to half a per cent.
    angle = np.arcsin(0.05 / 0.7)
    disc = np.pi * 600 * 590 * np.tan(angle) ** 2
    assert soft.rgb[..., 0].sum() / 200 == pytest.approx(disc, rel=0.005)


def test_object_behind_or_beside_the_camera():
    renderer = Renderer(ball(subdivisions=3))
    for place in ([0, 0, -0.5], [5, 0, 0.7]):
        out = renderer.render(transform(np.eye(3), place), K, SIZE, supersample=2)
        assert not out.mask.any()
        assert not out.rgb.any()


def test_camera_inside_the_object_sees_its_walls():
    out = Renderer(ball(1.0, 3)).render(np.eye(4), K, SIZE)
    assert out.mask.all()
    assert out.depth.min() > 0.9


def test_fine_texture_far_away_is_averaged_not_sampled():
    """A chequerboard of one-texel cells, seen with many texels in a pixel, is an even grey."""
    square = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    uv = (square[:, :2] + 0.5)[faces].astype(np.float32)
    board = ((np.indices((1024, 1024)).sum(axis=0) % 2) * 255).astype(np.uint8)
    mesh = Mesh(square, faces, uv=uv, texture=np.repeat(board[..., None], 3, axis=2))
    out = Renderer(mesh).render(transform(np.eye(3), [0, 0, 8.0]), K, SIZE, FLAT)
    inner = out.rgb[30:80, 40:80, 0]
    assert inner.std() < 3
    assert inner.mean() == pytest.approx(127, abs=3)


FROZEN = """
0.000 0.000 0.000  0.000 0.000 0.000  0.000 0.000 0.000  0.000 0.000 0.000
186.578 37.953 195.812  152.031 110.125 217.000  96.641 175.625 216.719  26.453 201.469 181.906
126.000 37.250 27.188  180.500 200.000 114.906  105.344 200.000 60.078  13.016 103.125 8.156
0.000 0.000 0.000  0.000 0.000 0.000  0.000 0.000 0.000  0.000 0.000 0.000
"""


def template_of_a_known_box(**options):
    """Return a box with a colour for each corner, by the rule of all templates."""
    box = trimesh.creation.box((0.1, 0.06, 0.04))
    colors = np.array([[(i & 4) * 60, (i & 2) * 120, (i & 1) * 240] for i in range(8)], np.uint8)
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * (0.05, 0.03, 0.02)
    order = [int(np.argmin(np.linalg.norm(corners - v, axis=1))) for v in box.vertices]
    mesh = Mesh(box.vertices, box.faces, vertex_colors=colors[order])
    K_template, T = template_camera(mesh, np.array([0.5, 0.7, 0.4]), 112)
    return Renderer(mesh).render(T, K_template, (112, 112), **options)


def test_templates_look_as_they_always_did():
    """Means of 8 x 8 pixel blocks of a template are frozen: networks were trained on them.

    Compared to a twentieth of a grey level, which is what another processor's rounding may change.
    """
    view = template_of_a_known_box()
    blocks = view.rgb.astype(float).reshape(14, 8, 14, 8, 3).mean(axis=(1, 3))[2:12:3, 2:12:3].reshape(-1, 3)
    np.testing.assert_allclose(blocks, np.array(FROZEN.split(), float).reshape(-1, 3), atol=0.05)


def test_the_default_light_is_one_plain_lamp():
    plain = template_of_a_known_box().rgb
    assert np.array_equal(plain, template_of_a_known_box(lights=Light()).rgb)
    assert np.array_equal(plain, template_of_a_known_box(lights=[DEFAULT_LIGHT]).rgb)
    assert not np.array_equal(plain, template_of_a_known_box(lights=Light(diffuse=0.59)).rgb)


def test_blocked_rays_are_those_that_meet_the_mesh():
    renderer, T = Renderer(ball(0.05, 4)), transform(random_rotation(np.random.default_rng(0)), [0.1, 0, 0.5])
    points = np.array([[0.1, 0, 0.3], [0.1, 0.049, 0.3], [0.1, 0.052, 0.3], [0.1, 0, 0.7]], np.float32)
    ahead = np.tile(np.array([[0, 0, 1.0]], np.float32), (4, 1))
    assert renderer.blocked(T, points, ahead).tolist() == [True, True, False, False]
    # The first is 0.15 m before the ball.
    assert renderer.blocked(T, points, ahead, reach=0.16).tolist() == [True, False, False, False]
    assert not renderer.blocked(T, points, ahead, reach=0.14).any()


def test_a_library_of_thousands_of_objects_can_be_rendered():
    """Embree crashes the process at about a thousand devices: scenes share one."""
    box = ball(subdivisions=1)
    renderers = [Renderer(box) for _ in range(1200)]

    K, T = template_camera(box, np.array([1.0, 0.5, 0.2]), 16)
    assert renderers[0].render(T, K, (16, 16)).mask.sum() == renderers[-1].render(T, K, (16, 16)).mask.sum()
