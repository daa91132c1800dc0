from dataclasses import replace

import cv2
import numpy as np
import pytest
import trimesh

from vpog_core.geometry.camera import BOX_PADDING, rotation_towards
from vpog_core.geometry.se3 import rotation_angle, rotation_z, transform
from vpog_core.objects.lighting import Environment, Illumination
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Light, Renderer
from vpog_core.objects.scene_renderer import SceneObject
from vpog_core.objects.template_set import template_camera
from vpog_core.synthetic.objects import make_object
from vpog_core.training.synthesis import query_composer, query_layout
from vpog_core.training.synthesis.occlusion import MIN_VISIBLE, CoverParams
from vpog_core.training.synthesis.query_composer import (
    QueryParams,
    Sprite,
    compose,
    random_illumination,
    similarity,
)
from vpog_core.training.synthesis.query_layout import LayoutParams, detected_box, lay_out
from vpog_core.training.synthesis.scene_assets import SceneAssets, random_surface, read_environments
from vpog_core.types import VPOGError

SIZE = 112
NEVER, ALWAYS = CoverParams(covered=0.0), CoverParams(covered=1.0)
ALONE = LayoutParams(
    ground=0.0, cover=NEVER, visible_box=0.0, box_noise=(0.0,), box_noise_probabilities=(1.0,), border=0.0
)
PLAIN = QueryParams(ALONE, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, sprites=0, blurred_background=0.0, moved_outline=0.0)


class PlainStage:
    """Provides a grey background, grey squares and boxes."""

    def __init__(self):
        box = trimesh.creation.box((0.1, 0.06, 0.04))
        self.box = Renderer(Mesh(box.vertices, box.faces))

    def background(self, rng, size):
        return np.full((size, size, 3), 90, np.uint8)

    def sprite(self, rng):
        return Sprite(np.full((64, 64, 3), 30, np.uint8), np.full((64, 64), 255, np.uint8))

    def renderer(self, rng):
        return self.box

    def hand(self, rng):
        return self.box

    def environment(self, rng):
        return None


@pytest.fixture(scope="module")
def assets():
    return PlainStage()


@pytest.fixture(scope="module")
def renderer():
    return Renderer(make_object(900_002, vertices=4000))


def posed(renderer, roll=0.0, distance=4.0) -> np.ndarray:
    T = template_camera(renderer.mesh, np.array([0.6, -0.7, 0.4]), SIZE, distance=distance)[1]
    return transform(rotation_z(roll), np.zeros(3)) @ T


def layout_params(**changes) -> QueryParams:
    return replace(PLAIN, layout=replace(ALONE, **changes))


def composed(renderer, assets, seed, params=None, roll=0.4):
    return compose(np.random.default_rng(seed), renderer, posed(renderer, roll), SIZE, assets, params)


@pytest.mark.parametrize("seed", range(6))
def test_depth_is_what_the_crops_camera_sees_of_the_object(renderer, assets, seed):
    """Where the object shows, its depth is exact, and there is none elsewhere."""
    query = composed(renderer, assets, seed, roll=seed)
    alone = renderer.render(query.T_virt_obj, query.K, (SIZE, SIZE))
    shown = query.depth > 0
    assert shown.sum() > 200
    assert (alone.mask | ~shown).all()
    np.testing.assert_allclose(query.depth[shown], alone.depth[shown], rtol=1e-6)


def test_the_picture_lies_where_the_camera_says(renderer, assets, monkeypatch):
    """The image and a finer render by the crop's camera, in even light, register to an eighth of a pixel."""
    flat = Light(ambient=1.0, diffuse=0.0)
    monkeypatch.setattr(query_composer, "random_illumination", lambda *_: Illumination([flat]))
    for seed in range(3):
        query = composed(renderer, assets, seed, PLAIN, roll=-2.0)
        again = renderer.render(
            query.T_virt_obj, query.K, (SIZE, SIZE), flat, background=(90, 90, 90), supersample=2
        )
        gray = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float64) for p in (query.rgb, again.rgb)]
        shift, response = cv2.phaseCorrelate(*gray)
        assert np.hypot(*shift) < 0.125
        assert response > 0.3
        assert np.abs(gray[0] - gray[1]).mean() < 1.5


def test_the_outline_moves_by_a_pixel_at_most_and_labels_stay(renderer, assets):
    grown = []
    for seed in range(12):
        as_is = composed(renderer, assets, seed, PLAIN)
        moved = composed(renderer, assets, seed, replace(PLAIN, moved_outline=1.0))
        np.testing.assert_array_equal(moved.depth, as_is.depth)
        own = as_is.depth > 0
        change = np.abs(moved.rgb.astype(int) - as_is.rgb).max(axis=-1)
        rim = cv2.morphologyEx(own.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        assert change.max() > 3
        assert not change[~rim].any()
        grown.append(bool(change[~own].any()))
        # It spreads over one side alone.
        assert change[own].any() != change[~own].any()
    # Both ways happen; twelve seeds give the same one once in two thousand.
    assert len(set(grown)) == 2


def test_the_camera_is_the_given_one_turned_towards_the_box(renderer, assets):
    """The camera turns by the few degrees to the box's middle, without roll: the drawn roll stays."""
    T = posed(renderer, 1.3)
    query = compose(np.random.default_rng(0), renderer, T, SIZE, assets, PLAIN)
    np.testing.assert_allclose(query.K[:2, 2], (SIZE - 1) / 2)
    turn = query.T_virt_obj @ np.linalg.inv(T)
    np.testing.assert_allclose(turn[:3, 3], 0, atol=1e-12)
    assert np.degrees(rotation_angle(turn[:3, :3], np.eye(3))) < 4
    np.testing.assert_allclose(turn[:3, :3], rotation_towards(turn[2, :3]), atol=1e-9)


def test_the_object_fills_the_crop_as_a_detectors_box_does(renderer, assets):
    """The exact box's diagonal times 1.05 is the crop's side, and its middle is the crop's."""
    query = composed(renderer, assets, 0, PLAIN)
    row, column = np.nonzero(query.depth)
    diagonal = np.hypot(np.ptp(row) + 1, np.ptp(column) + 1)
    assert diagonal == pytest.approx(SIZE / BOX_PADDING, rel=0.02)
    for line in (row, column):
        assert (line.min() + line.max()) / 2 == pytest.approx((SIZE - 1) / 2, abs=1)


def test_boxes_err_as_the_table_says():
    rng, box = np.random.default_rng(0), np.array([[-0.1, -0.2], [0.1, 0.2]])
    params = replace(ALONE, box_noise=(0.04, 0.2), box_noise_probabilities=(0.8, 0.2))
    boxes = np.stack([detected_box(rng, box, params) for _ in range(3000)])
    error = (boxes - box) / (box[1] - box[0])
    expected = np.sqrt(0.8 * 0.04**2 + 0.2 * 0.2**2)
    assert error.std() == pytest.approx(expected, rel=0.05)
    assert abs(error.mean()) < 0.01
    assert (boxes[:, 1] > boxes[:, 0]).all()


@pytest.mark.parametrize("kind", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_covers_leave_as_much_as_is_wanted(renderer, assets, kind):
    """All of 30 to 95 % visible comes about, and never much less; the layout knows what is left."""
    params, fractions, said = layout_params(cover=CoverParams(1.0, (0.3, 0.95), kind)), [], []
    for seed in range(30):
        query = composed(renderer, assets, seed, params)
        alone = renderer.render(query.T_virt_obj, query.K, (SIZE, SIZE)).mask.sum()
        fractions.append((query.depth > 0).sum() / alone)
        layout = lay_out(np.random.default_rng(seed), renderer, posed(renderer, 0.4), assets, params.layout)
        said.append(layout.visible)
    # The coarse image has 48 pixels a side, of which silhouettes round off a few per cent.
    np.testing.assert_allclose(fractions, said, atol=0.06)
    assert min(fractions) > MIN_VISIBLE * 0.9
    assert min(fractions) < 0.5
    assert np.std(fractions) > 0.12


def test_what_hides_too_much_is_taken_away(renderer, assets, monkeypatch):
    """A wall before all of the object goes; a neighbour of the size of a crumb stays."""

    def wall(rng, target, *_):
        other = assets.box
        middle = renderer.mesh.center @ target.T_cam_obj[:3, :3].T + target.T_cam_obj[:3, 3]
        scale = 3 * renderer.mesh.diameter / other.mesh.diameter
        return SceneObject(other, transform(rotation_z(0.0), 0.6 * middle), scale)

    def crumb(rng, target, ground, other):
        middle = target.T_cam_obj[:3, 3] - [0.4 * renderer.mesh.diameter, 0, 0]
        return SceneObject(other, transform(rotation_z(0.0), middle), 0.1)

    monkeypatch.setattr(query_layout, "cover", wall)
    monkeypatch.setattr(query_layout, "_neighbour", crumb)
    params = replace(ALONE, ground=1.0, neighbours=(0.0, 1.0))
    layout = lay_out(np.random.default_rng(0), renderer, posed(renderer), assets, params)
    assert [obj.scale for obj in layout.objects] == [1.0, 0.1]


def test_the_box_of_the_visible_part_is_smaller(renderer, assets):
    """The same draws with either box show that a hidden part makes the crop of the visible one closer."""
    nearer = []
    for seed in range(15):
        whole, visible = (
            composed(renderer, assets, seed, layout_params(cover=ALWAYS, visible_box=v)) for v in (0.0, 1.0)
        )
        nearer.append(visible.K[0, 0] / whole.K[0, 0])
    # The coarse mask rounds a box outwards by up to a pixel of 48.
    assert min(nearer) > 0.93
    assert max(nearer) > 1.1


def test_the_object_stands_on_the_ground_and_neighbours_beside_it(renderer, assets):
    params = replace(ALONE, ground=1.0, neighbours=(0.0, 0.0, 0.0, 1.0))
    counts = []
    for seed in range(8):
        layout = lay_out(np.random.default_rng(seed), renderer, posed(renderer), assets, params)
        counts.append(len(layout.objects))
        for obj in layout.objects:
            points = obj.renderer.mesh.hull_points * obj.scale
            height = (points @ obj.T_cam_obj[:3, :3].T + obj.T_cam_obj[:3, 3]) @ layout.ground.normal
            assert height.min() == pytest.approx(layout.ground.offset, abs=1e-9)
        # The camera is above the ground, and the ground's normal is up.
        assert layout.ground.offset < 0
        assert layout.up[1] < 0
    assert max(counts) == 4


def test_the_images_border_cuts_the_crop(renderer, assets):
    """Beyond the border nothing is seen, and colours go on; the crop is fitted to the box inside."""
    cut = 0
    for seed in range(12):
        params = layout_params(border=1.0, border_place=(0.1, 0.3))
        query = composed(renderer, assets, seed, params, roll=0.0)
        beyond = query.outside
        alone = renderer.render(query.T_virt_obj, query.K, (SIZE, SIZE)).mask
        assert 0.02 < beyond.mean() < 0.7
        assert not query.depth[beyond].any()
        assert query.rgb[beyond].min() > 0
        assert (query.depth[alone & ~beyond] > 0).all()
        # A straight edge: each row (or column) is beyond it from one side on.
        lines = (
            beyond
            if np.abs(np.diff(beyond.mean(axis=0))).sum() > np.abs(np.diff(beyond.mean(axis=1))).sum()
            else beyond.T
        )
        assert (np.abs(np.diff(lines.astype(int), axis=1)).sum(axis=1) <= 1).all()
        row, column = np.nonzero(alone & ~beyond)
        assert np.hypot(np.ptp(row) + 1, np.ptp(column) + 1) < 1.1 * SIZE
        whole = composed(renderer, assets, seed, PLAIN, roll=0.0)
        assert not whole.outside.any()
        areas = [(q.depth > 0).sum() / q.K[0, 0] ** 2 for q in (query, whole)]
        cut += areas[0] < 0.93 * areas[1]
    assert cut > 8


def test_shadows_fall_on_the_ground(renderer, assets):
    """Of the same draws, those with shadows are darker somewhere beside the object, and nowhere lighter."""
    params = layout_params(ground=1.0, neighbours=(1.0,))
    darker = 0
    for seed in range(6):
        off, on = (
            composed(renderer, assets, seed, replace(params, shadow=s)).rgb.astype(int) for s in (0.0, 1.0)
        )
        depth = composed(renderer, assets, seed, params).depth
        beside = cv2.dilate((depth > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
        difference = (on - off).sum(axis=-1)[beside]
        assert difference.max() <= 3
        darker += (difference < -30).sum() > 30
    assert darker >= 4


def test_illumination_follows_the_odds():
    room, up, rng = Environment(np.ones((16, 32, 3))), np.array([0, -1.0, 0]), np.random.default_rng(0)
    drawn = [random_illumination(rng, up, room, QueryParams(environment=0.3, shadow=0.8)) for _ in range(400)]
    assert np.mean([d.environment is not None for d in drawn]) == pytest.approx(0.3, abs=0.1)
    assert np.mean([d.shadow for d in drawn]) == pytest.approx(0.8, abs=0.1)
    for d in drawn[:20]:
        np.testing.assert_allclose(d.R_env_cam @ d.R_env_cam.T, np.eye(3), atol=1e-6)
        assert np.linalg.det(d.R_env_cam) == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(d.R_env_cam @ up, [0, 1, 0], atol=1e-6)
        assert d.lights[0].diffuse == max(li.diffuse for li in d.lights)


def test_similarity_maps_its_points():
    matrix = similarity(2.0, np.pi / 2, np.array([3.0, 4.0]), np.array([10.0, 20.0]))
    np.testing.assert_allclose(matrix @ [3, 4, 1], [10, 20, 1], atol=1e-12)
    np.testing.assert_allclose(matrix @ [4, 4, 1], [10, 22, 1], atol=1e-12)


def test_the_same_generator_composes_the_same(renderer, assets):
    one, two, other = (composed(renderer, assets, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.rgb, two.rgb)
    assert np.array_equal(one.depth, two.depth)
    assert not np.array_equal(one.depth, other.depth)


def test_surfaces_are_of_many_kinds():
    rng = np.random.default_rng(0)
    surfaces = np.stack([random_surface(rng, 64) for _ in range(40)])
    assert surfaces.shape == (40, 64, 64, 3)
    assert surfaces.dtype == np.uint8
    assert np.ptp(surfaces.mean(axis=(1, 2, 3))) > 120
    contrast = surfaces.std(axis=(1, 2)).mean(axis=1)
    assert contrast.min() < 15
    assert contrast.max() > 40


def test_environment_maps_are_read_in_rgb(tmp_path):
    red = np.zeros((16, 32, 3), np.float32)
    red[..., 2] = 3.0
    cv2.imwrite(str(tmp_path / "red.hdr"), red)
    (tmp_path / "notes.txt").write_text("no map")
    (found,) = read_environments(str(tmp_path))
    light = found.diffuse(np.array([[0, 1, 0]], np.float32))[0]
    assert light[0] > 4 * light[2]
    assert SceneAssets([], [], [found]).environment(np.random.default_rng(0)) is found
    assert SceneAssets([], []).environment(np.random.default_rng(0)) is None
    assert read_environments("") == []


def test_unreadable_environment_maps_are_refused(tmp_path):
    with pytest.raises(VPOGError, match=r"nowhere.*data\.hdri"):
        read_environments(str(tmp_path / "nowhere"))
    (tmp_path / "broken.hdr").write_bytes(b"#?RADIANCE\nnot really")
    with pytest.raises(VPOGError, match=r"broken\.hdr"):
        read_environments(str(tmp_path))
