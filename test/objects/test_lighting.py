import numpy as np
import pytest

from vpog_core.objects.lighting import GAMMA, Environment, Illumination, Light, Material, shade

LINE = np.linspace(-1, 1, 41)
UP, DOWN, AHEAD = (np.array([v], np.float32) for v in ([0, 1, 0], [0, -1, 0], [0, 0, 1]))


def sky(height=64) -> np.ndarray:
    """Return light of 1 from above, 0 from below."""
    radiance = np.zeros((height, 2 * height, 3), np.float32)
    radiance[: height // 2] = 1.0
    return radiance


def directions(count=200) -> np.ndarray:
    d = np.random.default_rng(0).normal(size=(count, 3))
    return (d / np.linalg.norm(d, axis=1, keepdims=True)).astype(np.float32)


def test_even_light_is_one_in_every_direction():
    room = Environment(np.full((32, 64, 3), 7.0))
    for light in (room.diffuse(directions()), room.mirrored(directions())):
        # The sum over a map of 32 rows is that near to the integral.
        np.testing.assert_allclose(light, 1.0, atol=0.01)


def test_irradiance_of_a_half_sky_is_the_analytic_one():
    """E(n) = pi (1 + cos t) / 2, which is exactly what orders 0 and 1 hold; its mean, pi / 2, is made 1."""
    n = np.stack([np.sqrt(1 - LINE**2), LINE, 0 * LINE], axis=1)
    light = Environment(sky()).diffuse(n)
    expected = np.maximum(1 + LINE, 0.02) ** (1 / GAMMA)
    np.testing.assert_allclose(light, np.repeat(expected[:, None], 3, axis=1), atol=0.03)


def test_irradiance_of_a_second_order_room_is_the_analytic_one():
    """L = 1 + 0.9 P2(cos t): the cosine lobe keeps a quarter of P2 (pi / 4 over pi)."""
    polar = (np.arange(64) + 0.5) * np.pi / 64
    radiance = np.broadcast_to((1 + 0.45 * (3 * np.cos(polar) ** 2 - 1))[:, None, None], (64, 128, 3))
    n = np.stack([np.sqrt(1 - LINE**2), LINE, 0 * LINE], axis=1)
    expected = (1 + 0.25 * 0.45 * (3 * LINE**2 - 1)) ** (1 / GAMMA)
    np.testing.assert_allclose(Environment(radiance).diffuse(n)[:, 0], expected, atol=0.005)


def test_a_coloured_wall_shines_from_its_own_side():
    """The map is red on its right quarter (x) and blue on its left."""
    radiance = np.full((64, 128, 3), 0.1, np.float32)
    radiance[:, 80:112] = (4, 0.1, 0.1)
    radiance[:, 16:48] = (0.1, 0.1, 4)
    room = Environment(radiance)
    right, left = np.array([[1, 0, 0]], np.float32), np.array([[-1, 0, 0]], np.float32)
    for light in (room.diffuse, room.mirrored):
        assert light(right)[0, 0] > 1.3 * light(right)[0, 2]
        assert light(left)[0, 2] > 1.3 * light(left)[0, 0]
        assert light(AHEAD)[0, 0] == pytest.approx(light(AHEAD)[0, 2], rel=0.05)


def test_a_sun_leaves_no_hole_on_the_other_side():
    radiance = np.full((64, 128, 3), 0.2, np.float32)
    radiance[8:10, 60:62] = 50_000.0
    light = Environment(radiance).diffuse(directions())
    assert light.min() > 0.1
    assert np.isfinite(light).all()


def test_environment_turns_with_its_rotation():
    turned = np.array([[1, 0, 0], [0, -1, 0], [0, 0, -1.0]])
    light = Illumination([Light(ambient=1.0)], Environment(sky()), R_env_cam=turned)
    assert light.ambient(DOWN)[0, 0] > 1.2 > 0.3 > light.ambient(UP)[0, 0]


GREY, FACING = np.full((1, 3), 100.0, np.float32), np.array([[0, 0, -1]], np.float32)


def test_shares_of_light_dim_their_own_part():
    """Ambient light of 0.4 and direct light of 0.5 are each multiplied by their own visibility."""
    light = Illumination([Light(ambient=0.4, diffuse=0.5, direction=(0, 0, -1))])
    for key, open_sky, expected in ((1, 1, 90), (0, 1, 40), (1, 0, 50), (0.5, 0.5, 45)):
        out = shade(GREY, FACING, FACING, light, Material(), np.array([key]), np.array([open_sky]))
        np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_only_the_key_light_is_shadowed():
    lamps = [Light(ambient=0.0, diffuse=d, direction=(0, 0, -1)) for d in (0.5, 0.3)]
    out = shade(GREY, FACING, FACING, Illumination(lamps), Material(), np.zeros(1))
    np.testing.assert_allclose(out, 30, rtol=1e-5)


def test_highlights_lie_where_the_lamp_is_mirrored_and_vanish_in_shadow():
    light = Illumination([Light(ambient=0.0, diffuse=0.0, direction=(0, 0, -1))])
    material = Material(specular=0.5, shininess=50)
    np.testing.assert_allclose(shade(GREY, FACING, FACING, light, material), 127.5, rtol=1e-5)
    tilted = np.array([[0.6, 0, -0.8]], np.float32)
    assert shade(GREY, tilted, FACING, light, material).max() < 1
    assert shade(GREY, FACING, FACING, light, material, np.zeros(1)).max() == 0


def test_metal_mirrors_in_its_own_colour_and_gloss_at_the_rim():
    room = Illumination([Light(ambient=1.0, diffuse=0.0)], Environment(np.ones((32, 64, 3))))
    copper = np.array([[200, 120, 80]], np.float32)
    np.testing.assert_allclose(shade(copper, FACING, FACING, room, Material(metal=1.0)), copper, rtol=0.02)
    flat, rim = (
        shade(copper, n, FACING, room, Material(gloss=1.0)) - copper
        for n in (FACING, np.array([[0.9987, 0, -0.05]], np.float32))
    )
    assert flat.max() < 0.05 * 255  # Schlick: 4 % straight on
    assert rim.min() > 0.6 * 255
