"""Test what hypotheses are recorded of: objects of seeds and of mesh files, and their images."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
import yaml

from vpog_core.evaluation import recorded_objects
from vpog_core.evaluation.heldout_image import SIZE, heldout_camera
from vpog_core.evaluation.recorded_objects import (
    ObjectSources,
    check_numbers,
    find_meshes,
    find_photos,
    make_images,
    make_variants,
    write_library,
)
from vpog_core.geometry.boxes import outer_box
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.renderer import Renderer
from vpog_core.types import VPOGError


@pytest.fixture(scope="module")
def meshes(tmp_path_factory) -> list[Path]:
    """Write a brick of 40 cm, and a file that holds no mesh."""
    folder = tmp_path_factory.mktemp("meshes")
    trimesh.creation.box((0.4, 0.1, 0.2)).export(folder / "brick.ply")
    (folder / "broken.ply").write_bytes(b"ply")
    (folder / ".hidden.ply").write_bytes(b"")
    return find_meshes(folder)


def test_every_second_object_is_of_a_mesh_file_and_all_files_are_used(meshes):
    sources = ObjectSources(tuple(meshes))
    assert [sources.mesh_file(number) for number in (0, 2, 4)] == [None] * 3
    assert {sources.mesh_file(number) for number in (1, 3)} == set(meshes)
    assert sources.mesh_file(5) == sources.mesh_file(1)
    assert ObjectSources().mesh_file(1) is None


def test_both_variants_have_one_shape_of_usual_size_and_the_seed_decides_the_paint(meshes):
    made = {seed: make_variants(ObjectSources(tuple(meshes[:1]), seed=seed), 1) for seed in range(4)}
    textured, plain = made[0].values()
    assert list(made[0]) == ["object_00001_textured", "object_00001_plain"]
    np.testing.assert_array_equal(textured.vertices, plain.vertices)
    # The geometric mean of 14 cm and the brick's diameter, 0.458 m.
    assert plain.diameter == pytest.approx(np.sqrt(0.14 * np.linalg.norm((0.4, 0.1, 0.2))))
    assert plain.texture is None
    assert plain.vertex_colors is None

    def paint(mesh) -> bytes:
        return (mesh.vertex_colors if mesh.texture is None else mesh.texture).tobytes()

    looks = {paint(mesh["object_00001_textured"]) for mesh in made.values()}
    assert len(looks) == 4
    again = make_variants(ObjectSources(tuple(meshes[:1])), 1)
    assert paint(again["object_00001_textured"]) == paint(textured)


def test_textures_and_symmetries_are_in_the_library(meshes, tmp_path, monkeypatch):
    monkeypatch.setattr(recorded_objects, "TEXTURES", ("print",))
    write_library(tmp_path, make_variants(ObjectSources(tuple(meshes[:1])), 1))
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".glb", ".ply", ".yaml"]
    settings = yaml.safe_load((tmp_path / "objects.yaml").read_text())["objects"]
    assert "symmetry" in settings["object_00001_plain"]
    library = ObjectLibrary(tmp_path, tmp_path / "cache")
    assert len(library.symmetry("object_00001_plain").discrete) == 4, "a brick looks alike after half turns"
    assert library.mesh("object_00001_textured").texture is not None


def test_photographs_are_on_the_paint(meshes, tmp_path, monkeypatch):
    monkeypatch.setattr(recorded_objects, "TEXTURES", ("photo",))
    cv2.imwrite(str(tmp_path / "red.png"), np.full((50, 70, 3), (0, 0, 200), np.uint8))
    sources = ObjectSources(tuple(meshes[:1]), tuple(find_photos(tmp_path)))
    texture = make_variants(sources, 1)["object_00001_textured"].texture
    assert (texture == (200, 0, 0)).all()


def test_images_show_the_object_in_its_box():
    (mesh, _) = make_variants(ObjectSources(), 0).values()
    renderer, counts = Renderer(mesh), {"clean": 2, "occluded": 1}
    images, again = (list(make_images(np.random.default_rng(5), renderer, 0, counts)) for _ in range(2))
    assert 2 <= len(images) <= 3
    for one, same in zip(images, again, strict=True):
        np.testing.assert_array_equal(one.image, same.image)
        np.testing.assert_array_equal(one.box, same.box)
    for view in images[:2]:
        mask = renderer.render(view.T_cam_obj, heldout_camera().K, SIZE).mask
        box = outer_box(mask)
        assert np.abs(view.box - box).max() <= 0.05 * (box[2:] - box[:2]).max()


@pytest.mark.parametrize("limit", [{"MIN_VISIBLE": 1.01}, {"MIN_PIXELS": 480 * 640}])
def test_images_that_show_too_little_are_left_out(limit, monkeypatch):
    for name, value in limit.items():
        monkeypatch.setattr(recorded_objects, name, value)
    (mesh, _) = make_variants(ObjectSources(), 0).values()
    assert not list(make_images(np.random.default_rng(5), Renderer(mesh), 0, {"clean": 1}))


def test_folders_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(VPOGError, match=r"There is no folder 'none': give --meshes one that is there\."):
        find_meshes("none")
    with pytest.raises(VPOGError, match=r"of --photos holds none of \.jpg, .*: check it\."):
        find_photos(tmp_path)


def test_more_objects_than_there_are_seeds_are_refused():
    check_numbers(range(6000))
    with pytest.raises(VPOGError, match=r"ask for fewer\."):
        check_numbers(range(6000, 7000))
