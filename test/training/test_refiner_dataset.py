"""Test the refiner's training pairs: the same on every run, with labels confirmed by another projection."""

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from vpog_core.geometry.framing import FRAME_PADDING
from vpog_core.geometry.se3 import rotation_angle
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.symmetry_search import find_symmetry
from vpog_core.training.data.batch import RefinerBatch
from vpog_core.training.data.refiner_dataset import RefinerDataset
from vpog_core.training.losses.refiner import refiner_labels
from vpog_core.training.refiner_figures import TILE, label_row
from vpog_core.training.synthesis.pose_perturbation import PerturbationConfig
from vpog_core.training.synthesis.scene_assets import SceneAssets
from vpog_core.training.synthesis.training_object import TrainingObject

SIZE, COUNT = 64, 12


@pytest.fixture(scope="module")
def items(refiner_pairs):
    return [refiner_pairs[index] for index in range(COUNT)]


@pytest.fixture(scope="module")
def batch(items) -> RefinerBatch:
    return RefinerBatch(**{key: torch.from_numpy(np.stack([i[key] for i in items])) for key in items[0]})


@pytest.fixture(scope="module")
def labels(batch):
    return refiner_labels(batch)


@pytest.fixture(scope="module")
def alone(batch, refiner_objects) -> list[tuple]:
    """Return the mesh of each pair, and its renders alone at the start and at the true pose."""
    out = []
    for n in range(COUNT):
        meshes = [obj.mesh for obj in refiner_objects]
        mesh = meshes[int(np.argmin([abs(m.diameter - float(batch.diameter[n])) for m in meshes]))]
        renderer, K = Renderer(mesh), batch.K[n].double().numpy()
        poses = (batch.T_start[n].double().numpy(), batch.T_true[n].double().numpy())
        out.append((mesh, *(renderer.render(T, K, (SIZE, SIZE)) for T in poses)))
    return out


def test_images_are_exactly_black_beyond_their_border(items):
    cut = [item for item in items if item["image_outside"].any()]
    assert cut
    for item in cut:
        assert not item["image_rgb"][item["image_outside"]].any()
        assert not item["image_depth"][item["image_outside"]].any()


def test_an_item_is_a_function_of_seed_and_index(refiner_pairs, refiner_objects, items):
    assets = SceneAssets([], refiner_objects)
    again = RefinerDataset(refiner_objects, assets, SIZE, PerturbationConfig(), seed=3, length=20)
    other = RefinerDataset(refiner_objects, assets, SIZE, PerturbationConfig(), seed=4)
    assert len(again) == 20
    for index in (7, 2):
        assert all(np.array_equal(again[index][key], items[index][key]) for key in items[index])
    assert not np.array_equal(other[2]["image_rgb"], items[2]["image_rgb"])


def test_photometry_changes_the_image_alone(refiner_objects, items):
    assets = SceneAssets([], refiner_objects)
    plain = RefinerDataset(refiner_objects, assets, SIZE, PerturbationConfig(), seed=3, photometry=False)[1]
    same = {key for key, value in plain.items() if np.array_equal(value, items[1][key])}
    assert same == set(plain) - {"image_rgb"}


def test_the_frame_is_that_of_the_hull_at_the_start(batch, alone):
    for n, (mesh, _, _) in enumerate(alone):
        T, K = batch.T_start[n].double().numpy(), batch.K[n].double().numpy()
        points = (mesh.hull_points @ T[:3, :3].T + T[:3, 3]) @ K.T
        away = np.abs(points[:, :2] / points[:, 2:] - (SIZE - 1) / 2)
        assert away.max() == pytest.approx(SIZE / FRAME_PADDING / 2, rel=1e-4)


def test_poses_differ_as_much_as_the_perturbation_says_or_show_another_view(batch, labels):
    rotations = zip(*(T[:, :3, :3].double().numpy() for T in (batch.T_true, batch.T_start)), strict=True)
    turns = np.array([np.degrees(rotation_angle(*pair)) for pair in rotations])
    same = labels.same_view.numpy()
    assert 10 < turns[same].max() <= 35.01
    assert turns[~same].min() >= 59.99


def test_the_render_is_the_object_alone_at_the_start(batch, alone):
    for n, (_, render, _) in enumerate(alone):
        # Poses and intrinsics are kept in float32: a pixel at an outline may fall on the other side.
        assert (render.mask != (batch.render_depth[n].numpy() > 0)).mean() < 0.002
        normals = batch.render_normals[n].numpy()
        both = render.mask & (normals != 0).any(axis=-1)
        turned = render.normals @ batch.T_start[n, :3, :3].numpy().T
        assert np.median(np.abs(normals - turned)[both]) < 1e-3
        assert (normals[both][:, 2] < 0.2).all()  # towards the camera, but for smooth edges


def test_cells_stand_for_every_fourth_pixel(labels):
    assert labels.pixels.shape == (16, 16, 2)
    for i, j in ((0, 0), (3, 5), (15, 15)):
        assert labels.pixels[i, j].tolist() == [4 * j + 2, 4 * i + 2]


def test_the_flow_leads_each_cell_to_where_its_surface_point_is_projected(batch, labels, alone):
    """The point comes from the renderer's object coordinates, the pixel from K and T_true by hand."""
    worst = 0.0
    for n, (_, render, _) in enumerate(alone):
        on_object = labels.on_object[n].numpy() & render.mask[2::4, 2::4]
        points = render.coords[2::4, 2::4][on_object].astype(np.float64)
        T, K = batch.T_true[n].double().numpy(), batch.K[n].double().numpy()
        p = (points @ T[:3, :3].T + T[:3, 3]) @ K.T
        found = (labels.pixels + labels.flow[n]).numpy()[on_object]
        worst = max(worst, np.abs(found - p[:, :2] / p[:, 2:]).max())
        np.testing.assert_allclose(labels.points[n].numpy()[on_object], points, atol=2e-5)
    assert worst < 0.02  # float32 depths and poses, at distances of some metres


def test_visible_is_what_the_image_shows_at_that_place(batch, labels, alone):
    """A cell is visible only where the image shows the object, and there the cell's own surface point."""
    hidden_by_others = 0
    for n, (mesh, _, whole) in enumerate(alone):
        on_object, visible = labels.on_object[n].numpy(), labels.visible[n].numpy()
        if not labels.same_view[n]:
            continue
        place = (labels.pixels + labels.flow[n]).numpy()
        inside = ((place >= -0.5) & (place < SIZE - 0.5)).all(axis=-1)
        x, y = np.round(place).astype(int).clip(0, SIZE - 1).transpose(2, 0, 1)
        shown = batch.image_depth[n].numpy()[y, x] > 0
        assert not (visible & ~(on_object & inside & shown)).any()
        # Half a pixel on a slanted surface, and the depth tolerance of 2 % of the diameter along it.
        pixel = batch.T_true[n, :3, 3].norm().item() / batch.K[n, 0, 0].item()
        apart = np.linalg.norm(whole.coords[y, x] - labels.points[n].numpy(), axis=-1)
        assert (apart[visible] < 0.06 * mesh.diameter + 4 * pixel).mean() > 0.99
        # What is the same surface, and shown, is visible; thin parts and grazing views are the exception.
        same = on_object & inside & (apart < 0.01 * mesh.diameter)
        assert visible[same & shown].mean() > 0.98
        hidden_by_others += int((same & ~shown).sum())
    assert hidden_by_others > 20  # the pairs do hold occluders


def test_of_poses_that_look_alike_the_nearest_is_the_target():
    """A plain can is not turned about its axis, and the target looks as the drawn pose does."""
    can = trimesh.creation.cylinder(0.03, 0.1, sections=64)
    renderer = Renderer(Mesh(can.vertices, can.faces))
    symmetry = find_symmetry(renderer.mesh).symmetry
    sets = []
    for known in (Symmetry.none(), symmetry):
        obj = TrainingObject("can", lambda: renderer, find_symmetries=lambda of=known: (of, of))
        wide = PerturbationConfig(rotation_deg=120, distance=0.0, shift=0.0, small_fraction=0.0)
        sets.append(RefinerDataset([obj], SceneAssets([], [obj]), SIZE, wide, seed=1))
    spins = []
    for index in range(4):
        drawn, nearest = (data[index] for data in sets)
        same = {key for key, value in drawn.items() if np.array_equal(value, nearest[key])}
        assert same == set(drawn) - {"T_true"}
        T_drawn, T_near, T_start = drawn["T_true"], nearest["T_true"], drawn["T_start"]
        angles = [rotation_angle(T[:3, :3], T_start[:3, :3]) for T in (T_drawn, T_near)]
        assert angles[1] <= angles[0] + 1e-6
        renders = [renderer.render(T, drawn["K"], (SIZE, SIZE)).mask for T in (T_drawn, T_near)]
        # The can has 64 sides: its outline differs by less than a pixel, at few of them.
        assert (renders[0] != renders[1]).mean() < 0.01
        spins.append(spin(T_near, T_start))
    assert max(spins) < 1e-3


def spin(T_a: np.ndarray, T_b: np.ndarray) -> float:
    """Return how far an object is turned about its own z between two poses, beside the tilt of that axis."""
    R = Rotation.from_matrix(T_b[:3, :3].T @ T_a[:3, :3])
    z, w = R.as_quat()[2:]
    return abs(2 * np.arctan2(z, w)) if abs(w) > 1e-9 else 0.0


def test_a_row_shows_the_pair_and_its_labels(batch):
    row = label_row(batch, 2)
    assert row.shape[1] > 6 * TILE
    assert row.dtype == np.uint8
    tiles = [row[30:200, 6 + k * 230 : 6 + k * 230 + TILE] for k in range(6)]
    assert all(tile.std() > 5 for tile in tiles)
