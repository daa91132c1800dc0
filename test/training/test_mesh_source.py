from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from vpog_core.io.image_file import read_photo
from vpog_core.synthetic import objects as synthetic_objects
from vpog_core.training.data.mesh_source import (
    PROCEDURAL_CODE,
    ObjectSource,
    mesh_files,
    photo_files,
    procedural,
    scanned_objects,
    split_held_out,
)
from vpog_core.types import VPOGError

BOX = """mtllib model.mtl
usemtl material_0
v 0 0 0
v 0.2 0 0
v 0 0.1 0
v 0 0 0.1
vt 0 0
vt 1 0
vt 0 1
f 1/1 3/3 2/2
f 1/1 2/2 4/3
f 1/1 4/3 3/2
f 2/2 3/3 4/1
"""


def write_gso(folder: Path, side: int = 8) -> Path:
    """Write an object as Google publishes its scans: the texture lies beside the meshes, not among them."""
    (folder / "meshes").mkdir(parents=True)
    (folder / "materials" / "textures").mkdir(parents=True)
    (folder / "meshes" / "model.obj").write_text(BOX)
    (folder / "meshes" / "model.mtl").write_text("newmtl material_0\nKd 0.5 0.5 0.5\nmap_Kd texture.png\n")
    texture = np.zeros((side, side, 3), np.uint8)
    texture[:, : side // 2] = (255, 0, 0)  # blue, as OpenCV writes it
    cv2.imwrite(str(folder / "materials" / "textures" / "texture.png"), texture)
    (folder / "model.sdf").write_text("<sdf/>")
    return folder


def test_google_scanned_objects_as_published(tmp_path):
    write_gso(tmp_path / "Cup")
    write_gso(tmp_path / "Ball")
    (tmp_path / "readme.txt").touch()
    sources = scanned_objects(str(tmp_path))
    assert [s.name for s in sources] == ["Ball", "Cup"]
    mesh = sources[0].load()
    assert np.ptp(mesh.vertices, axis=0) == pytest.approx([0.2, 0.1, 0.1])
    assert mesh.texture[0, 0].tolist() == [0, 0, 255]
    assert mesh.texture[0, -1].tolist() == [0, 0, 0]


def test_scans_without_their_texture_say_so(tmp_path):
    (write_gso(tmp_path / "Cup") / "materials" / "textures" / "texture.png").unlink()
    with pytest.raises(VPOGError, match=r"model\.obj' asks for 'texture\.png', which is not there"):
        scanned_objects(str(tmp_path))[0].load()


def test_a_new_texture_of_a_scan_is_another_key(tmp_path):
    write_gso(tmp_path / "Cup")
    before = scanned_objects(str(tmp_path))[0].key()
    texture = tmp_path / "Cup" / "materials" / "textures" / "texture.png"
    cv2.imwrite(str(texture), np.full((9, 9, 3), 7, np.uint8))
    assert scanned_objects(str(tmp_path))[0].key() != before


def test_large_textures_are_brought_down(tmp_path):
    write_gso(tmp_path / "Cup", side=2048)
    assert scanned_objects(str(tmp_path))[0].load().texture.shape == (1024, 1024, 3)


def test_models_as_megapose_shows_them(tmp_path):
    """GSO models are centred and scaled to -0.1 to 0.1 on the longest side, ShapeNet's times 0.1."""
    path = write_gso(tmp_path / "Cup") / "meshes" / "model.obj"
    textures = tmp_path / "Cup" / "materials" / "textures"
    scan = ObjectSource("bop", "a", path, "m", textures, megapose="gso").load()
    np.testing.assert_allclose(scan.bounds, [[-0.1, -0.05, -0.05], [0.1, 0.05, 0.05]], atol=1e-12)
    shape = ObjectSource("bop", "b", path, "m", textures, megapose="shapenet").load()
    np.testing.assert_allclose(shape.bounds, [[0, 0, 0], [0.02, 0.01, 0.01]], atol=1e-12)


def test_one_in_so_many_is_held_out():
    names = [f"{i:02d}" for i in range(30)]
    train, held_out = split_held_out(names, 14)
    assert held_out == ["00", "14", "28"]
    assert sorted(train + held_out) == names
    assert split_held_out(names, 0) == (names, [])
    assert split_held_out(["only"], 14) == (["only"], [])


def test_procedural_objects_carry_photographs(tmp_path):
    for n in range(2):
        cv2.imwrite(str(tmp_path / f"{n}.png"), np.full((4, 4, 3), 9 * n, np.uint8))
    (tmp_path / "licence.txt").touch()
    photos = photo_files(str(tmp_path))
    assert [p.name for p in photos] == ["0.png", "1.png"]
    sources = procedural(range(5), photos)
    assert [s.seed for s in sources] == [0, 1, 2, 3, 4]
    assert [s.photo and s.photo.name for s in sources] == ["0.png", None, None, "1.png", None]
    assert len({s.key() for s in sources}) == 5
    assert sources[0].key() != procedural(range(1), [])[0].key()
    assert photo_files("") == []


def test_folders_that_are_of_no_use_are_named(tmp_path):
    for read in (mesh_files, scanned_objects, photo_files):
        with pytest.raises(VPOGError, match=r"no folder '.*/nowhere'"):
            read(str(tmp_path / "nowhere"))
        with pytest.raises(VPOGError, match=f"'{tmp_path}' holds no"):
            read(str(tmp_path))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(VPOGError, match=r"broken\.jpg' cannot be read"):
        read_photo(tmp_path / "broken.jpg")


def test_keys_of_procedural_objects_follow_all_the_code_that_makes_them():
    """Every module of its package that `synthetic.objects` imports is part of the key."""
    folder = Path(synthetic_objects.__file__).parent
    found, missing = set(), {"objects"}
    while missing:
        found |= missing
        text = "\n".join((folder / f"{name}.py").read_text() for name in missing)
        named = re.findall(
            r"from vpog_core\.synthetic\.(\w+) import|from vpog_core\.synthetic import (\w+)", text
        )
        missing = {a or b for a, b in named} - found
    assert found == set(PROCEDURAL_CODE)
