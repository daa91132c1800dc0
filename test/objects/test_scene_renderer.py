import numpy as np
import pytest
import trimesh

from vpog_core.geometry.se3 import random_rotation, transform
from vpog_core.objects.lighting import Illumination, Light
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.scene_renderer import NO_OBJECT, Ground, SceneObject, render_instance_map, render_scene

K = np.array([[150, 0, 55.5], [0, 150, 55.5], [0, 0, 1.0]])
SIZE = (112, 112)
FLAT = Illumination([Light(ambient=1.0, diffuse=0.0)])
WHITE = np.full((*SIZE, 3), 200, np.uint8)


def ball(radius=0.05, color=(200, 60, 60)) -> Renderer:
    sphere = trimesh.creation.icosphere(3, radius=radius)
    return Renderer(Mesh(sphere.vertices, sphere.faces, base_color=np.array(color, np.uint8)))


def at(x, y, z) -> np.ndarray:
    return transform(np.eye(3), [x, y, z])


def picture(objects, light=FLAT, ground=None, seed=0):
    return render_scene(np.random.default_rng(seed), objects, K, SIZE, WHITE, light, ground)


def test_one_actor_alone_is_what_the_renderer_draws():
    rng, renderer = np.random.default_rng(1), ball()
    light = Light(ambient=0.4, diffuse=0.5, direction=(0.5, -0.3, -1))
    T = transform(random_rotation(rng), [0.01, 0.02, 0.4])
    alone = renderer.render(T, K, SIZE, lights=light, background=WHITE)
    shown = picture([SceneObject(renderer, T)], Illumination([light]))
    np.testing.assert_array_equal(shown.instance_map == 0, alone.mask)
    np.testing.assert_allclose(shown.depth, alone.depth, rtol=1e-6)
    # One rounds to whole levels.
    assert np.abs(shown.rgb - alone.rgb).max() <= 0.51


def test_the_nearest_actor_is_seen():
    near, far = SceneObject(ball(0.02, (0, 0, 250)), at(0, 0, 0.3)), SceneObject(ball(0.06), at(0, 0, 0.5))
    for objects, front in (([far, near], 1), ([near, far], 0)):
        shown = picture(objects)
        assert shown.instance_map[55, 55] == front
        assert shown.depth[55, 55] == pytest.approx(0.28, abs=1e-3)
        assert shown.rgb[55, 55, 2] == pytest.approx(250, abs=1)
        assert set(np.unique(shown.instance_map)) == {NO_OBJECT, 0, 1}
        np.testing.assert_array_equal(render_instance_map(objects, K, SIZE), shown.instance_map)


def test_touching_actors_are_cut_where_they_meet():
    """Two balls pass through each other: each pixel shows the one whose own depth is less."""
    objects = [SceneObject(ball(), at(-0.02, 0, 0.4)), SceneObject(ball(), at(0.02, 0.01, 0.41))]
    depths = [picture([a]).depth for a in objects]
    nearest = np.where(np.stack(depths) > 0, np.stack(depths), np.inf)
    shown = picture(objects)
    seen = np.isfinite(nearest).any(axis=0)
    np.testing.assert_array_equal(shown.instance_map[seen], nearest.argmin(axis=0)[seen])
    np.testing.assert_array_equal(shown.depth[seen], nearest.min(axis=0)[seen])


def test_a_scaled_actor_is_a_larger_mesh():
    R = random_rotation(np.random.default_rng(2))
    box = trimesh.creation.box((0.03, 0.05, 0.08))
    small, large = (Renderer(Mesh(box.vertices * s + [0.01 * s, 0, 0], box.faces)) for s in (1.0, 2.5))
    T = transform(R, [0.02, -0.01, 0.6])
    light = Illumination([Light()])
    one, two = picture([SceneObject(small, T, scale=2.5)], light), picture([SceneObject(large, T)], light)
    np.testing.assert_array_equal(one.instance_map, two.instance_map)
    np.testing.assert_allclose(one.depth, two.depth, rtol=1e-5)
    np.testing.assert_allclose(one.rgb, two.rgb, atol=0.1)


def overhead(shadow: bool, occlusion: float = 0.0) -> Illumination:
    """Make light that falls straight down."""
    light = Light(ambient=0.5, diffuse=0.5, direction=(0, 0, -1))
    return Illumination([light], shadow=shadow, softness=0.01, occlusion=occlusion)


TABLE = Ground(np.array([0, 0, -1.0]), -0.5)


def test_the_shadow_lies_where_the_lamp_casts_it():
    """The ball is 0.1 m over the table, the lamp 45 degrees to the left: the shadow is 0.1 m to the right."""
    light = Light(ambient=0.5, diffuse=0.7071, direction=(-1, 0, -1))
    lamp = Illumination([light], shadow=True, softness=0.01)
    shown = picture([SceneObject(ball(0.02), at(-0.05, 0, 0.4))], lamp, TABLE)
    column = round(150 * 0.05 / 0.5 + 55.5)
    assert shown.instance_map[55, column] == NO_OBJECT
    # 0.5 ambient and 0.7071 cos 45 = 0.5 direct: half of the light is gone there.
    assert shown.rgb[55, column] == pytest.approx(100, abs=3)
    dark = (shown.rgb[..., 0] < 150) & (shown.instance_map == NO_OBJECT)
    rows, columns = np.nonzero(dark)
    assert rows.mean() == pytest.approx(55.5, abs=0.7)
    assert columns.mean() == pytest.approx(column, abs=1.5)
    # An ellipse of half axes 6 px and 6 / cos 45 px.
    assert dark.sum() == pytest.approx(np.pi * 6 * 8.5, rel=0.2)
    assert (shown.rgb[5:20] == 200).all()


def test_without_shadows_the_ground_stays_as_it_is():
    shown = picture([SceneObject(ball(0.02), at(-0.05, 0, 0.4))], overhead(False), TABLE)
    assert (shown.rgb[shown.instance_map == NO_OBJECT] == 200).all()


def test_actors_shadow_each_other_and_the_lit_side_is_lit():
    """A small ball lies between the lamp and a large one."""
    lamp = Illumination(
        [Light(ambient=0.2, diffuse=0.8, direction=(-1, 0, -0.3))], shadow=True, softness=0.01
    )
    large, small = SceneObject(ball(0.05), at(0.02, 0, 0.5)), SceneObject(ball(0.015), at(-0.08, 0, 0.45))
    alone, both = picture([large], lamp), picture([large, small], lamp)
    same = (alone.instance_map == 0) & (both.instance_map == 0)
    darker = same & (both.rgb[..., 0] < alone.rgb[..., 0] - 20)
    assert 30 < darker.sum() < 0.3 * same.sum()
    assert (both.rgb[..., 0] <= alone.rgb[..., 0] + 10)[same].all()


def test_corners_are_darker_where_things_touch():
    """Occlusion of a ball on the table is strong at the contact and gone a diameter away."""
    low = Ground(np.array([0, -1.0, 0]), -0.05)
    shown = picture([SceneObject(ball(), at(0, 0, 0.4))], overhead(False, occlusion=0.9), low)
    foot = round(150 * 0.05 / 0.4 + 55.5)
    assert shown.rgb[foot, 55].mean() < 130
    assert (shown.rgb[foot + 4 :, :8] > 190).all()


def test_sky_is_not_shaded():
    horizon = Ground(np.array([0, -1.0, 0]), -0.05)
    shown = picture([SceneObject(ball(0.02), at(0, 0.03, 0.4))], overhead(True, 0.9), horizon)
    assert (shown.rgb[:50] == 200).all()


def test_the_same_generator_spreads_the_same_rays():
    objects = [SceneObject(ball(), at(0, 0, 0.4))]
    one, two = (picture(objects, overhead(True, 0.8), TABLE, seed=3).rgb for _ in range(2))
    assert np.array_equal(one, two)
