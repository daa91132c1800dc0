from __future__ import annotations

import numpy as np
import pytest
import trimesh

from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.mesh import Mesh, save_mesh
from vpog_core.types import VPOGError


def write(path, scale=1.0, extents=(0.1, 0.06, 0.04)):
    box = trimesh.creation.box(np.array(extents) * scale)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_mesh(Mesh(box.vertices, box.faces), path)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "objects" / "mug.ply")
    write(tmp_path / "objects" / "drill.glb")
    return tmp_path / "objects"


def settings(folder, text):
    (folder / "objects.yaml").write_text(text)


def error_of(call) -> str:
    with pytest.raises(VPOGError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_meshes_are_found_by_name(folder):
    (folder / "readme.txt").write_text("x")
    library = ObjectLibrary(folder, folder / "cache")
    assert library.ids == ["drill", "mug"]
    assert library.mesh("mug") is library.mesh("mug")


def test_settings_give_unit_alias_and_place(folder):
    write(folder / "cups" / "big.ply", scale=1000.0)
    settings(
        folder,
        'objects:\n  mug: {aliases: [cup, "3", 7]}\n'
        "  big:\n    mesh: cups/big.ply\n    unit: mm\n"
        "    symmetry: {discrete: [{axis: z, order: 2, offset: [10, 0, 0]}]}\n",
    )
    library = ObjectLibrary(folder)
    assert library.ids == ["big", "drill", "mug"]
    assert [library.resolve(name) for name in ("cup", "3", "7", "mug")] == ["mug"] * 4
    assert library.mesh("big").diameter == pytest.approx(np.linalg.norm([0.1, 0.06, 0.04]), rel=1e-6)
    # In the mesh's millimetres: half a turn about a point 10 mm off goes 20 mm far.
    np.testing.assert_allclose(library.symmetry("big").discrete[1][:3, 3], [0.02, 0, 0], atol=1e-12)
    assert library.symmetry("cup").is_trivial


def models_info(folder, text='{"12": {"symmetries_continuous": [{"axis": [0, 0, 1], "offset": [5, 0, 0]}]}}'):
    (folder / "models_info.json").write_text(text)


def test_symmetries_come_from_models_info_beside_the_mesh(folder):
    write(folder / "obj_000012.ply")
    write(folder / "obj_000013.ply")
    models_info(folder)
    library = ObjectLibrary(folder)
    (axis, offset), *rest = library.symmetry("obj_000012").continuous
    np.testing.assert_allclose([axis, offset], [[0, 0, 1], [0.005, 0, 0]])
    assert not rest
    assert library.symmetry("obj_000013").is_trivial
    assert library.symmetry("mug").is_trivial
    assert "'fork'" in error_of(lambda: library.symmetry("fork"))


def test_objects_yaml_has_the_last_word_on_symmetry(folder):
    write(folder / "obj_000012.ply")
    models_info(folder)
    for text, trivial in (("{unit: m}", False), ("{symmetry: {}}", True), ("{symmetry: }", True)):
        settings(folder, f"objects: {{obj_000012: {text}, can: {{mesh: obj_000012.ply}}}}")
        library = ObjectLibrary(folder)
        assert library.symmetry("obj_000012").is_trivial is trivial
        assert not library.symmetry("can").is_trivial


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "not valid JSON"),
        ("[]", "mapping"),
        ('{"12": []}', "mapping"),
        ('{"12": {"symmetries_discrete": [[1, 2]]}}', "'obj_000012': The discrete symmetry"),
    ],
)
def test_a_models_info_that_cannot_be_followed_is_refused(folder, text, part):
    write(folder / "obj_000012.ply")
    models_info(folder, text)
    message = error_of(lambda: ObjectLibrary(folder))
    assert part in message
    assert "models_info.json" in message


def test_a_mesh_under_another_name_is_one_object(folder):
    settings(folder, "objects:\n  cup: {mesh: mug.ply}\n")
    assert ObjectLibrary(folder).ids == ["cup", "drill"]


def test_unknown_class_lists_the_known_ones(folder):
    text = error_of(lambda: ObjectLibrary(folder).resolve("fork"))
    assert "fork" in text
    assert "drill, mug" in text


def test_millimetres_are_refused_with_the_unit_to_set(folder):
    write(folder / "mug.ply", scale=1000.0)
    assert "unit: mm" in error_of(lambda: ObjectLibrary(folder).mesh("mug"))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("objects: [mug]", "one mapping"),
        ("mug: {}", "one mapping"),
        ("objects: {mug: {unit: inch}}", "'inch'"),
        ("objects: {mug: {untis: mm}}", "'untis'"),
        ("objects: {mug: {aliases: cup}}", "aliases"),
        ("objects: {mug: {mesh: ../other.ply}}", "outside"),
        ("objects: {mug: {mesh: /etc/hostname}}", "outside"),
        ("objects: {mug: {mesh: none.ply}}", "no mesh 'none.ply'"),
        ("objects: {fork: {unit: mm}}", "no mesh 'fork'"),
        ("objects: {mug: {aliases: [x]}, drill: {aliases: [x]}}", "alias 'x'"),
        ("objects: {mug: {aliases: [drill]}}", "alias 'drill'"),
        ("objects: {mug: 3}", "mapping"),
        ("objects: {mug: {symmetry: z}}", "object 'mug': symmetry is a mapping"),
        ("objects: {mug: {symmetry: {axis: z}}}", "object 'mug': The key 'axis'"),
        ("objects: {mug: {", "not valid YAML"),
        ("objects: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused_by_name(folder, text, part):
    settings(folder, text)
    assert part in error_of(lambda: ObjectLibrary(folder))


def test_missing_empty_and_double(tmp_path, folder):
    assert "create it" in error_of(lambda: ObjectLibrary(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    assert "holds no mesh" in error_of(lambda: ObjectLibrary(tmp_path / "empty"))
    write(folder / "mug.glb")
    assert "both" in error_of(lambda: ObjectLibrary(folder))


def test_templates_are_built_once_and_again_when_the_mesh_changes(folder, tmp_path, monkeypatch):
    from vpog_core.objects import library as module

    built = []
    real = module.build_template_set

    def few(mesh, object_id, size, progress=None):
        built.append(object_id)
        return real(mesh, object_id, size, directions=np.eye(3))

    monkeypatch.setattr(module, "build_template_set", few)
    first = ObjectLibrary(folder, tmp_path / "cache").templates("mug", 32)
    again = ObjectLibrary(folder, tmp_path / "cache").templates("mug", 32)
    np.testing.assert_array_equal(first.images, again.images)
    assert built == ["mug"]
    write(folder / "mug.ply", extents=(0.1, 0.1, 0.02))
    changed = ObjectLibrary(folder, tmp_path / "cache").templates("mug", 32)
    assert built == ["mug", "mug"]
    assert changed.diameter != first.diameter
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(b"broken")
    ObjectLibrary(folder, tmp_path / "cache").templates("mug", 32)
    assert len(built) == 3


def test_no_place_for_a_cache_is_no_error(folder, tmp_path):
    (tmp_path / "file").write_text("x")
    library = ObjectLibrary(folder, tmp_path / "file" / "cache")
    templates = library.templates("drill", 16)
    assert len(templates) == 162
    assert library.store(templates) is False


def test_texture_changes_the_cache_key(tmp_path):
    import cv2

    corners = "".join(f"v {x} {y} 0\n" for x, y in ((0, 0), (0.1, 0), (0, 0.1))) + "vt 0 0\nvt 1 0\nvt 0 1\n"
    (tmp_path / "card.obj").write_text("mtllib card.mtl\nusemtl a\n" + corners + "f 1/1 2/2 3/3\n")
    (tmp_path / "card.mtl").write_text("newmtl a\nmap_Kd card.png\n")
    keys = []
    for value in (10, 200):
        cv2.imwrite(str(tmp_path / "card.png"), np.full((4, 4, 3), value, np.uint8))
        keys.append(ObjectLibrary(tmp_path, tmp_path / "cache").templates_path("card", 16))
    assert keys[0] != keys[1]
