from __future__ import annotations

import numpy as np
import pytest
import trimesh

from vpog_core.geometry.camera import look_at_crop
from vpog_core.geometry.projection import project
from vpog_core.geometry.se3 import invert, transform, transform_points
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.template_set import (
    build_template_set,
    load_template_set,
    save_template_set,
    template_camera,
)
from vpog_core.objects.viewpoints import upright_rotation, viewpoint_directions
from vpog_core.types import Camera, VPOGError


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    """Return a lopsided wedge, away from its own origin."""
    parts = [trimesh.creation.box((0.1, 0.06, 0.03)), trimesh.creation.icosphere(3, radius=0.03)]
    parts[1].apply_translation([0.05, 0.02, 0.04])
    whole = trimesh.util.concatenate(parts)
    whole.apply_translation([0.2, -0.1, 0.3])
    rng = np.random.default_rng(0)
    return Mesh(
        whole.vertices,
        whole.faces,
        vertex_colors=rng.integers(60, 255, (len(whole.vertices), 3)).astype(np.uint8),
    )


@pytest.fixture(scope="module")
def templates(mesh):
    return build_template_set(mesh, "wedge", size=64, directions=viewpoint_directions()[::20])


@pytest.mark.parametrize("roll", [0.0, 0.9])
def test_template_camera_is_the_look_at_crop_of_an_upright_camera(mesh, roll):
    """Crop and template follow one rule: the same object seen by a real camera gives the same virtual one."""
    direction = np.array([0.5, -0.7, 0.4])
    K, T = template_camera(mesh, direction, 112, roll)
    R = upright_rotation(direction)
    place = mesh.center + 5 * mesh.diameter * direction / np.linalg.norm(direction)
    T_cam_obj = transform(R, -R @ place)
    camera = Camera(np.array([[900, 0, 320.0], [0, 900, 240], [0, 0, 1]]), 640, 480)
    pixels = project(camera, transform_points(T_cam_obj, mesh.vertices))
    virtual = look_at_crop(camera, np.concatenate([pixels.min(0), pixels.max(0)]), 112, roll)
    np.testing.assert_allclose(K, virtual.K, rtol=1e-9)
    np.testing.assert_allclose(T, invert(virtual.T_cam_virt) @ T_cam_obj, atol=1e-9)


def test_object_fills_the_template_and_stays_inside(mesh):
    for direction in viewpoint_directions()[::9]:
        for roll in (0.0, 0.6):
            K, T = template_camera(mesh, direction, 112, roll)
            np.testing.assert_allclose(K[:2, 2], 55.5)
            assert np.linalg.norm(invert(T)[:3, 3] - mesh.center) == pytest.approx(5 * mesh.diameter)
            pixels = transform_points(T, mesh.vertices) @ K.T
            pixels = pixels[:, :2] / pixels[:, 2:]
            assert pixels.min() > -0.5
            assert pixels.max() < 111.5
            if roll == 0.0:
                assert np.linalg.norm(np.ptp(pixels, axis=0)) == pytest.approx(112 / 1.05, rel=0.01)


def test_stored_points_project_to_their_pixel(mesh, templates):
    for view in range(len(templates)):
        rows, columns = np.nonzero(templates.mask[view])
        points = templates.points(view, rows, columns)
        pixels = transform_points(templates.T_virt_obj[view].astype(float), points) @ templates.K[view].T
        error = pixels[:, :2] / pixels[:, 2:] - np.stack([columns, rows], axis=1)
        # float16 rounds coordinates up to 64 mm to 30 micrometres at worst: 0.02 px of a 64 px template.
        assert np.abs(error).max() < 0.03


def test_background_is_black_and_views_differ(templates):
    assert not templates.images[~templates.mask].any()
    assert (templates.mask.mean(axis=(1, 2)) > 0.1).all()
    assert not np.array_equal(templates.images[0], templates.images[1])
    assert (templates.size, len(templates)) == (64, 9)


def test_progress_reaches_the_total(mesh):
    seen = []
    build_template_set(mesh, "wedge", 32, viewpoint_directions()[:20], progress=lambda *at: seen.append(at))
    assert seen[-1] == (20, 20)


def test_file_round_trip_keeps_everything(templates, tmp_path):
    tokens = np.arange(6, dtype=np.float32).reshape(2, 3)
    templates.features = {"tokens": tokens, "half": np.ones((2, 2), np.float16)}
    templates.features_key = "abc"
    save_template_set(templates, tmp_path / "new" / "wedge.safetensors")
    back = load_template_set(tmp_path / "new" / "wedge.safetensors")
    for name in ("images", "coords", "mask", "K", "T_virt_obj", "directions", "center"):
        np.testing.assert_array_equal(getattr(back, name), getattr(templates, name))
        assert getattr(back, name).dtype == getattr(templates, name).dtype
    assert (back.object_id, back.diameter, back.features_key) == ("wedge", templates.diameter, "abc")
    np.testing.assert_array_equal(back.features["tokens"], tokens)
    assert back.features["half"].dtype == np.float16
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["wedge.safetensors"]


def test_cut_foreign_and_ill_fitting_files_are_refused(templates, tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "wedge.safetensors"
    save_template_set(templates, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VPOGError, match="delete the file"):
        load_template_set(path)
    path.write_bytes(whole.replace(b"vpog-templates-", b"vpog-templatex-"))
    with pytest.raises(VPOGError, match="another version"):
        load_template_set(path)
    save_file({"images": np.zeros((2, 4, 4, 3), np.uint8)}, path)
    with pytest.raises(VPOGError, match="delete the file"):
        load_template_set(path)
    templates.mask, mask = templates.mask[:3], templates.mask
    save_template_set(templates, path)
    templates.mask = mask
    with pytest.raises(VPOGError, match="mask is bool"):
        load_template_set(path)
