"""Test objects added by untrusted clients: what is written, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vpog_core.objects import added_object
from vpog_core.objects.added_object import check_mesh
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.mesh import save_mesh
from vpog_core.synthetic.objects import make_object
from vpog_core.types import VPOGError


@pytest.fixture(scope="module")
def meshes():
    return [make_object(seed, vertices=300) for seed in (900_031, 900_032)]


@pytest.fixture
def folder(tmp_path, meshes) -> Path:
    folder = tmp_path / "objects"
    (folder / "cups").mkdir(parents=True)
    for mesh, name in zip(meshes, ("carton.ply", "cups/mug.ply"), strict=True):
        save_mesh(mesh, folder / name)
    (tmp_path / "outside.ply").write_bytes((folder / "carton.ply").read_bytes())
    return folder


@pytest.fixture
def data(folder) -> bytes:
    return (folder / "cups" / "mug.ply").read_bytes()


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def add(folder, name="mug", mesh="cups/mug.ply", data=b"", unit="", symmetry="") -> None:
    check_mesh(folder, name, mesh, data, unit, symmetry).write()


def test_bytes_become_an_object_of_the_folder(folder, data):
    add(folder, "coffee mug", "whatever.ply", data, "m", "{continuous: [{axis: z}]}")
    library = ObjectLibrary(folder)
    assert library.ids == ["carton", "coffee mug"]
    assert len(library.symmetry("coffee mug").continuous) == 1
    assert (folder / "coffee mug.ply").read_bytes() == data


def test_a_file_of_the_folder_becomes_an_object(folder):
    before = files(folder)
    add(folder, unit="m")
    assert files(folder).keys() - before.keys() == {"objects.yaml"}
    library = ObjectLibrary(folder)
    assert library.entries["mug"].mesh == folder / "cups" / "mug.ply"
    assert library.entries["mug"].unit == "m"


def test_what_objects_yaml_says_stays_comments_too(folder):
    text = "# Ours.\nobjects:\n    carton: {unit: m}  # the big one\n    # the end\n"
    (folder / "objects.yaml").write_text(text)
    add(folder, "007")
    assert (folder / "objects.yaml").read_text().startswith(text)
    assert ObjectLibrary(folder).ids == ["007", "carton"]


@pytest.mark.parametrize("text", ["# Ours.\n", "unit: mm\n", "objects:\n", "# None yet.\nobjects:\n"])
def test_a_file_without_objects_takes_the_first(folder, text):
    (folder / "objects.yaml").write_text(text)
    add(folder, unit="m")
    assert (folder / "objects.yaml").read_text().startswith(text)
    assert ObjectLibrary(folder).entries["mug"].unit == "m"


@pytest.mark.parametrize("mesh", ["cups/mug.ply", "pot.ply"])
def test_of_two_that_are_added_under_one_name_the_first_stays(folder, data, mesh):
    """Several nodes may share a folder: both are checked before either is written."""
    sent = data if mesh == "pot.ply" else b""
    first, second = (check_mesh(folder, "pot", mesh, sent, "m", "") for _ in range(2))
    first.write()
    before = files(folder)
    with pytest.raises(VPOGError, match="There is an object or an alias 'pot' already"):
        second.write()
    assert files(folder) == before
    assert ObjectLibrary(folder).mesh("pot").diameter == first.diameter


def test_a_file_without_room_for_a_line_is_left_alone(folder, data):
    (folder / "objects.yaml").write_text("{objects: {carton: {unit: m}}}\n")
    before = files(folder)
    with pytest.raises(VPOGError, match=r'add the line `"pot": .*` to it yourself'):
        add(folder, "pot", "pot.ply", data)
    assert files(folder) == before


NAMES = [
    "",
    ".",
    "..",
    "../mug",
    "a/b",
    "a\\b",
    "/etc/passwd",
    ".mug",
    "mug ",
    "mug.",
    "x" * 65,
    "a\0b",
    "a\nb",
    "a:b",
    "$(id)",
]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_refused(folder, data, name):
    before = files(folder.parent)
    with pytest.raises(VPOGError, match="cannot be the name of an object"):
        add(folder, name, "mug.ply", data)
    assert files(folder.parent) == before


@pytest.mark.parametrize(
    ("mesh", "sentence"),
    [
        ("", "no path below"),
        ("../outside.ply", "no path below"),
        ("cups/../../outside.ply", "no path below"),
        ("/dev/zero.ply", "no path below"),
        ("cups/.mug.ply", "no path below"),
        ("cups\\mug.ply", "characters that are refused"),
        ("C:/mug.ply", "characters that are refused"),
        ("cups/mug\0.ply", "characters that are refused"),
        ("x" * 5000 + ".ply", "There is no mesh"),
        ("cups/mug.exe", "is not one of .ply"),
        ("link.ply", "leads out of the objects folder"),
        ("door/outside.ply", "leads out of the objects folder"),
        ("loop.ply", "There is no mesh"),
        ("zero.ply", "leads out of the objects folder"),
        ("pipe.ply", "is no file"),
        ("folder.ply", "is no file"),
        ("carton.ply", "is the mesh of the object 'carton' already"),
    ],
)
def test_paths_that_leave_the_folder_or_are_no_files_are_refused(folder, mesh, sentence):
    (folder / "link.ply").symlink_to(folder.parent / "outside.ply")
    (folder / "door").symlink_to(folder.parent)
    (folder / "loop.ply").symlink_to("loop.ply")
    (folder / "zero.ply").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.ply")
    (folder / "folder.ply").mkdir()
    with pytest.raises(VPOGError, match=sentence):
        add(folder, "pot", mesh)
    assert not (folder / "objects.yaml").exists()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"name": "carton"}, "There is an object or an alias 'carton' already"),
        ({"unit": "ft"}, "The unit 'ft' is not known"),
        ({"unit": "mm"}, "cups/mug.ply' is .* across, read in mm"),
        ({"symmetry": "round"}, "The symmetry is a mapping"),
        ({"symmetry": "{continuous: [{axis: w}]}"}, "axis of a symmetry"),
        ({"symmetry": "a: &x [1]\nb: *x"}, "YAML anchors"),
        ({"symmetry": "{" * 900}, "not valid YAML"),
        ({"symmetry": " " * 3000 + "a" * 3000}, "has 6000 characters"),
        ({"mesh": "mug.ply", "data": b"ply\nthis is none"}, "^The mesh 'mug.ply' cannot be read"),
        ({"mesh": "../../mug", "data": b"ply"}, "is not one of .ply"),
    ],
)
def test_what_cannot_be_used_is_told_and_changes_nothing(folder, given, sentence):
    before = files(folder)
    with pytest.raises(VPOGError, match=sentence):
        add(folder, **given)
    assert files(folder) == before


def test_large_meshes_and_large_folders_are_refused(folder, data, monkeypatch):
    monkeypatch.setattr(added_object, "MAX_BYTES", len(data) - 1)
    with pytest.raises(VPOGError, match="simplify it"):
        add(folder, data=data)
    monkeypatch.setattr(added_object, "MAX_OBJECTS", 1)
    with pytest.raises(VPOGError, match="holds 1 objects"):
        add(folder, "pot")


def test_a_name_that_is_a_link_in_the_folder_is_not_written_through(folder, data):
    (folder / "mug.ply").symlink_to(folder.parent / "elsewhere.ply")
    with pytest.raises(VPOGError, match=r"There is a file 'mug\.ply' in the objects folder already"):
        add(folder, "mug", "mug.ply", data)
    assert not (folder.parent / "elsewhere.ply").exists()
