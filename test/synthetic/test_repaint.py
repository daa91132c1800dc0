"""Test that any mesh takes any appearance, and keeps its shape."""

import numpy as np
import pytest
import trimesh

from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.repaint import APPEARANCES, repainted

SIZE = 96
DIRECTION = (0.6, -0.7, 0.5)


def box(size=(0.1, 0.06, 0.04), **colors) -> Mesh:
    shape = trimesh.creation.box(size)
    return Mesh(shape.vertices, shape.faces, **colors)


def view(renderer: Renderer, direction=DIRECTION):
    K, T = template_camera(renderer.mesh, direction, SIZE)
    return renderer.render(T, K, (SIZE, SIZE))


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)]


@pytest.mark.parametrize("look", APPEARANCES)
def test_the_shape_stays_and_the_colours_are_others(look, photos):
    """One object is without a texture and has twelve triangles, one has coloured vertices."""
    for mesh in (box(), make_object(900_010, vertices=1500)):
        renderer = Renderer(mesh)
        before = view(renderer)
        one, other = (view(repainted(np.random.default_rng(seed), renderer, look, photos)) for seed in (1, 2))
        for after in (one, other):
            np.testing.assert_array_equal(after.depth, before.depth)
            assert (after.rgb != before.rgb).any()
        assert (one.rgb != other.rgb).any()
        again = repainted(np.random.default_rng(1), renderer, look, photos)
        np.testing.assert_array_equal(view(again).rgb, one.rgb)
        np.testing.assert_array_equal(view(renderer).rgb, before.rgb)  # the renderer itself is as it was


def test_plain_paint_is_one_colour():
    renderer = Renderer(make_object(900_010, vertices=1500))
    surface = repainted(np.random.default_rng(0), renderer, "plain").surface
    middle, footprint = np.full((50, 3), 1 / 3, np.float32), np.full(50, 1e-3, np.float32)
    assert len(np.unique(surface.color(np.arange(50), middle, footprint), axis=0)) == 1


def test_decals_leave_the_rest_as_it_was():
    """Over many draws a part of what is seen has another colour, neither nothing nor all."""
    renderer = Renderer(box(base_color=np.uint8([200, 60, 40])))
    before = view(renderer)
    changed = [
        (view(repainted(np.random.default_rng(seed), renderer, "decals")).rgb != before.rgb).any(axis=2)
        for seed in range(12)
    ]
    fractions = [c.sum() / before.mask.sum() for c in changed]
    assert 0.05 < np.mean(fractions) < 0.7
    assert not any(c[~before.mask].any() for c in changed)


def test_what_is_printed_is_not_mirrored():
    """A mark in the right upper corner of each tile is on the right above, seen from outside."""
    from vpog_core.synthetic.repaint import TILE, _BoxMapping
    from vpog_core.synthetic.textures import SIDES

    renderer = Renderer(box((0.1, 0.1, 0.1)))

    class Straight:
        """Draws no turned frame."""

        def random(self):
            return 1.0

    mapping = _BoxMapping(Straight(), renderer.mesh)
    tile = np.zeros((TILE, TILE, 3), np.uint8)
    tile[: TILE // 2, TILE // 2 :] = 255
    marked = renderer.repainted(renderer.surface.painted(texture=mapping.texture([tile] * 6)))
    for normal, sign, _, _, up in SIDES:
        direction = np.eye(3)[normal] * sign
        rgb = view(marked, direction).rgb
        rows, columns = np.nonzero(rgb.max(axis=2) > 60)
        assert columns.mean() > SIZE / 2 + 5
        # Templates are upright: above is +z, and +y at the poles, as `SIDES` has it.
        assert up == (1 if normal == 2 else 2)
        assert rows.mean() < SIZE / 2 - 5
