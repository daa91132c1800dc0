from __future__ import annotations

import shutil

import numpy as np
import pytest
import trimesh

from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.mesh import Mesh, save_mesh
from vpog_core.types import VPOGError


def box(scale=1.0, extents=(0.1, 0.06, 0.04)):
    made = trimesh.creation.box(np.array(extents) * scale)
    return made.vertices, made.faces


def write(path, scale=1.0, extents=(0.1, 0.06, 0.04)):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_mesh(Mesh(*box(scale, extents)), path)


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


def test_hidden_files_are_passed_over(folder):
    """What a Mac leaves beside each file it copies, and what editors do, is no object and no settings."""
    for name in ("._mug.ply", ".mug.obj", "._objects.yaml", "._models_info.json"):
        (folder / name).write_bytes(b"\x00\x05\x16\x07 Mac OS X")
    assert ObjectLibrary(folder).ids == ["drill", "mug"]


@pytest.mark.parametrize("name", ["objects.yml", "objects.YAML", "Objects.yaml"])
def test_settings_have_several_names(folder, name):
    (folder / name).write_text("objects: {mug: {aliases: [cup]}}")
    assert ObjectLibrary(folder).resolve("cup") == "mug"


def test_settings_are_in_one_file(folder):
    settings(folder, "objects: {}")
    (folder / "objects.yml").write_text("objects: {}")
    assert "both 'objects.yaml' and 'objects.yml'" in error_of(lambda: ObjectLibrary(folder))


AS_WRITTEN = ["000012", "12", "1e3", "1.50", "no", "on", "0x1F", "12_3", "1:30", "2024-01-01", "null", "~"]
"""What YAML would take for numbers, truth values, times and nothing."""


def test_names_are_what_the_file_says(folder):
    lines = "".join(f"  {name}: {{aliases: [+{n}]}}\n" for n, name in enumerate(AS_WRITTEN))
    for name in AS_WRITTEN:
        (folder / "mug.ply").with_stem(name).write_bytes((folder / "mug.ply").read_bytes())
    settings(folder, "objects:\n" + lines)
    library = ObjectLibrary(folder)
    assert library.ids == sorted([*AS_WRITTEN, "drill", "mug"])
    assert [library.resolve(f"+{n}") for n in range(len(AS_WRITTEN))] == AS_WRITTEN


def test_suffixes_may_be_in_capitals(folder):
    (folder / "mug.ply").rename(folder / "mug.PLY")
    (folder / "drill.glb").rename(folder / "drill.Glb")
    settings(folder, "objects: {mug: {unit: m}, borer: {mesh: drill.glb}}")
    library = ObjectLibrary(folder)
    assert library.ids == ["borer", "mug"]
    assert library.mesh("mug").diameter > 0
    assert library.mesh("borer").diameter > 0


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


def test_a_unit_of_all_meshes_stands_beside_the_objects(folder):
    write(folder / "mug.ply", scale=1000.0)
    write(folder / "drill.glb", scale=100.0)
    write(folder / "can.ply", scale=1000.0)
    wanted = Mesh(*box()).diameter
    axis = "{continuous: [{axis: z, offset: [5, 0, 0]}]}"
    settings(folder, f"unit: mm\nobjects:\n  drill: {{unit: cm}}\n  mug: {{symmetry: {axis}}}\n")
    library = ObjectLibrary(folder)
    for name in library.ids:
        assert library.mesh(name).diameter == pytest.approx(wanted)
    np.testing.assert_allclose(library.symmetry("mug").continuous[0][1], [0.005, 0, 0])
    settings(folder, "unit: m")
    library = ObjectLibrary(folder, unit="mm")
    assert library.mesh("mug").diameter == pytest.approx(wanted)
    assert library.mesh("drill").diameter == pytest.approx(0.1 * wanted)
    assert "'inch' is not known" in error_of(lambda: ObjectLibrary(folder, unit="inch"))


@pytest.mark.parametrize("text", ["", "# objects:\n", "objects:\n# none yet\n", "unit: auto\n"])
def test_settings_that_say_nothing_are_none(folder, text):
    settings(folder, text)
    assert ObjectLibrary(folder).ids == ["drill", "mug"]


@pytest.mark.parametrize(("scale", "diameter"), [(1000.0, 123.0), (1.0, 123.0), (20.0, 2466.0)])
def test_auto_takes_millimetres_where_models_info_has_the_diameter(folder, scale, diameter):
    write(folder / "obj_000012.ply", scale=scale)
    models_info(folder, f'{{"12": {{"diameter": {diameter}}}}}')
    # A mesh of 123.3 units that models_info.json calls 123 mm, one in metres, and one of 2.5 m.
    expected = 0.12329 if scale == 1000.0 else 0.12329 * scale
    assert ObjectLibrary(folder).mesh("obj_000012").diameter == pytest.approx(expected, rel=1e-3)


def test_a_mesh_file_alone_is_a_library(folder):
    settings(folder, "objects: {")
    library = ObjectLibrary(folder / "mug.ply", folder / "cache")
    assert library.ids == ["mug"]
    assert library.mesh("mug").diameter == pytest.approx(Mesh(*box()).diameter)


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
        ("objects: {mug: {unit: m}, mug: {unit: mm}}", "'mug' a second time"),
        ("objects: {mug: {unit: m, unit: mm}}", "'unit' a second time"),
        ("objects: {mug: {mesh: [a.ply]}}", "the mesh is a file's name"),
        ("objects: {mug: {symmetry: {discrete: 2024-99-99}}}", "not valid YAML"),
        ("[" * 3000, "not valid YAML"),
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


def test_templates_of_an_earlier_shape_are_removed_unless_they_are_in_use(folder, tmp_path, monkeypatch):
    import vpog_core.objects.library as module

    real = module.build_template_set
    monkeypatch.setattr(module, "build_template_set", lambda *a, **o: real(*a, directions=np.eye(3), **o))
    cache, copy = tmp_path / "cache", shutil.copytree(folder, tmp_path / "copy")

    def cached() -> set[str]:
        return {path.name for path in cache.glob("*.safetensors")}

    ObjectLibrary(folder, cache).templates("mug", 32)
    ObjectLibrary(copy, cache).templates("mug", 32)
    (first,) = cached()
    write(folder / "mug.ply", extents=(0.1, 0.1, 0.02))
    ObjectLibrary(folder, cache).templates("mug", 32)
    assert len(cached()) == 2  # The copy still has the first shape.
    assert first in cached()
    write(copy / "mug.ply", extents=(0.1, 0.1, 0.02))
    ObjectLibrary(copy, cache).templates("mug", 32)
    assert len(cached()) == 1
    assert first not in cached()


def test_no_place_for_a_cache_is_no_error(folder, tmp_path):
    (tmp_path / "file").write_text("x")
    library = ObjectLibrary(folder, tmp_path / "file" / "cache")
    templates = library.templates("drill", 16)
    assert len(templates) == 162
    library.store(templates)


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


@pytest.mark.parametrize("place", ["card.PNG", "skins/card.png"])
def test_a_texture_in_other_case_or_in_a_folder_below_changes_the_cache_key(tmp_path, place):
    import cv2

    corners = "".join(f"v {x} {y} 0\n" for x, y in ((0, 0), (0.1, 0), (0, 0.1))) + "vt 0 0\nvt 1 0\nvt 0 1\n"
    (tmp_path / "card.obj").write_text("mtllib CARD.mtl\nusemtl a\n" + corners + "f 1/1 2/2 3/3\n")
    (tmp_path / "card.MTL").write_text(f"newmtl a\nmap_Kd {place.lower()}\n")
    (tmp_path / place).parent.mkdir(exist_ok=True)
    keys = []
    for value in (10, 200):
        (tmp_path / place).write_bytes(cv2.imencode(".png", np.full((4, 4, 3), value, np.uint8))[1].tobytes())
        keys.append(ObjectLibrary(tmp_path, tmp_path / "cache").templates_path("card", 16))
    assert keys[0] != keys[1]


def test_broken_meshes_are_told_apart_from_the_others(folder, monkeypatch):
    (folder / "cut.ply").write_bytes((folder / "mug.ply").read_bytes()[:200])
    write(folder / "point.ply", scale=1e-12)
    library = ObjectLibrary(folder)
    broken = library.broken()
    assert sorted(broken) == ["cut", "point"]
    for object_id, sentence in broken.items():
        assert f"{object_id}.ply" in sentence
        assert "\n" not in sentence
    # It is not read again for each detection of it.
    (folder / "cut.ply").unlink()
    assert error_of(lambda: library.mesh("cut")) == broken["cut"]


def test_whatever_a_reader_raises_is_a_sentence(folder, monkeypatch):
    from vpog_core.objects import library_entries as module

    def load(path, unit):
        raise IndexError("index 7 is out of bounds")

    monkeypatch.setattr(module, "load_mesh", load)
    assert "'mug.ply' cannot be read (IndexError: index 7" in error_of(
        lambda: ObjectLibrary(folder).mesh("mug")
    )


@pytest.mark.parametrize("late", ["while rendering", "before rendering", "before the last write"])
def test_a_mesh_that_changes_meanwhile_is_not_cached_as_the_new_one(folder, tmp_path, monkeypatch, late):
    """Exporting a mesh again while it is onboarded leaves no templates of the old shape for the new one."""
    from vpog_core.objects import library as module

    real = module.build_template_set

    def few(mesh, object_id, size, progress=None):
        if late == "while rendering":
            write(folder / "mug.ply", extents=(0.1, 0.1, 0.02))
        return real(mesh, object_id, size, directions=np.eye(3))

    monkeypatch.setattr(module, "build_template_set", few)
    library = ObjectLibrary(folder, tmp_path / "cache")
    before = library.mesh("mug").diameter
    if late == "before rendering":
        write(folder / "mug.ply", extents=(0.1, 0.1, 0.02))
    templates = library.templates("mug", 32)
    if late == "before the last write":
        write(folder / "mug.ply", extents=(0.1, 0.1, 0.02))
        library.store(templates)
    assert templates.diameter == before
    # Another start reads the new mesh, and makes its templates.
    again = ObjectLibrary(folder, tmp_path / "cache")
    assert again.cached_templates("mug", 32) is None
    assert again.templates("mug", 32).diameter == again.mesh("mug").diameter != before


def test_a_mesh_without_a_surface_is_refused(folder):
    (folder / "line.obj").write_text("v 0 0 0\nv 0.05 0.05 0.05\nv 0.1 0.1 0.1\nf 1 2 3\n")
    assert "has no surface" in error_of(lambda: ObjectLibrary(folder).mesh("line"))


def test_a_mesh_that_is_gone_is_a_sentence(folder):
    library = ObjectLibrary(folder)
    (folder / "mug.ply").unlink()
    assert "mug.ply" in error_of(lambda: library.templates_path("mug", 16))
