from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from vpog_core.objects.mesh import Mesh, save_mesh
from vpog_core.objects.mesh_arrays import ARRAYS, read_mesh, write_mesh
from vpog_core.synthetic.objects import make_object
from vpog_core.training.data.mesh_cache import RendererCache
from vpog_core.training.data.mesh_source import ObjectSource
from vpog_core.training.data.object_cache import load_object, prepare_objects
from vpog_core.types import VPOGError
from vpog_core.utils.disk_cache import build_once


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return make_object(900_007, vertices=1000)


@pytest.fixture
def source(mesh, tmp_path) -> ObjectSource:
    save_mesh(mesh, tmp_path / "thing.ply")
    return ObjectSource("meshes", "thing", tmp_path / "thing.ply", "m")


def test_a_changed_mesh_is_read_anew(source, mesh, tmp_path):
    cache_dir = tmp_path / "cache"
    first = load_object(source, cache_dir)
    assert first.mesh.diameter == pytest.approx(mesh.diameter)
    (before,) = cache_dir.glob("*/mesh/mesh.npz")
    written = before.stat().st_mtime_ns
    load_object(source, cache_dir)
    assert list(cache_dir.glob("*/mesh/mesh.npz")) == [before]
    assert before.stat().st_mtime_ns == written
    save_mesh(Mesh(mesh.vertices * 1.5, mesh.faces, vertex_colors=mesh.vertex_colors), source.path)
    grown = load_object(source, cache_dir)
    assert grown.mesh.diameter == pytest.approx(1.5 * first.mesh.diameter, rel=1e-6)


def test_a_changed_texture_is_another_key(tmp_path):
    (tmp_path / "cup.obj").write_text("mtllib cup.mtl\nv 0 0 0\n")
    (tmp_path / "cup.mtl").write_text("newmtl a\nmap_Kd paint.png\n")
    (tmp_path / "paint.png").write_bytes(b"one")
    (tmp_path / "other.png").write_bytes(b"one")
    source = ObjectSource("meshes", "cup", tmp_path / "cup.obj")
    before = source.key()
    (tmp_path / "other.png").write_bytes(b"another")
    assert source.key() == before
    (tmp_path / "paint.png").write_bytes(b"another")
    assert source.key() != before
    assert replace(source, unit="mm").key() != source.key()


def test_meshes_are_kept_whole(tmp_path):
    rng = np.random.default_rng(0)
    mesh = Mesh(
        rng.random((5, 3)), [[0, 1, 2], [2, 3, 4]], uv=rng.random((2, 3, 2)).astype(np.float32),
        texture=rng.integers(0, 255, (4, 6, 3), dtype=np.uint8), base_color=np.uint8([1, 2, 3]),
    )  # fmt: skip
    assert {f.name for f in fields(Mesh)} - {"files", "notes"} == set(ARRAYS)
    write_mesh(mesh, tmp_path / "mesh.npz")
    again = read_mesh(tmp_path / "mesh.npz")
    assert again.vertex_colors is None
    for name in ("vertices", "faces", "uv", "texture", "base_color"):
        assert np.array_equal(getattr(again, name), getattr(mesh, name))


def test_objects_are_prepared_in_parallel_and_errors_name_the_mesh(source, tmp_path):
    seeds = [ObjectSource("procedural", f"seed_{n}", seed=900_020 + n) for n in range(2)]
    prepare_objects([source, *seeds], tmp_path / "cache", processes=2, progress=False)
    for one in (source, *seeds):
        assert load_object(one, tmp_path / "cache").mesh.diameter > 0
    missing = ObjectSource("meshes", "gone", tmp_path / "gone.ply")
    with pytest.raises(VPOGError, match=r"gone\.ply"):
        prepare_objects([missing], tmp_path / "cache", processes=1, progress=False)
    (tmp_path / "bad.ply").write_bytes(b"ply\n")
    with pytest.raises(VPOGError, match=r"bad\.ply' cannot be read"):
        prepare_objects([ObjectSource("meshes", "bad", tmp_path / "bad.ply")], tmp_path / "cache", 1, False)


def test_only_so_many_meshes_stay(source, mesh, tmp_path):
    cache = RendererCache(2)
    files = []
    for n in range(3):
        write_mesh(mesh, tmp_path / f"{n}.npz")
        files.append(tmp_path / f"{n}.npz")
    first, second = cache.get(files[0]), cache.get(files[1])
    assert cache.get(files[0]) is first
    cache.get(files[2])
    assert cache.get(files[0]) is first
    assert cache.get(files[1]) is not second


PARTS = 500


def _make_slowly(folder: str, word: str) -> None:
    def make(partial: Path) -> None:
        for part in range(PARTS):
            (partial / str(part)).write_text(word)
        time.sleep(0.1)

    build_once(Path(folder), make)


def test_two_processes_may_make_the_same_folder(tmp_path):
    folder = tmp_path / "both"
    context = multiprocessing.get_context("fork")
    racers = [context.Process(target=_make_slowly, args=(str(folder), word)) for word in ("one", "two")]
    for racer in racers:
        racer.start()
    while any(racer.is_alive() for racer in racers):
        # It is there whole or not at all.
        assert not folder.is_dir() or len(os.listdir(folder)) == PARTS
    for racer in racers:
        racer.join()
        assert racer.exitcode == 0
    assert len({file.read_text() for file in folder.iterdir()}) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["both"]


def _make_half(folder: str) -> None:
    def make(partial: Path) -> None:
        (partial / "half").touch()
        time.sleep(600)

    build_once(Path(folder), make)


def test_what_a_killed_process_was_making_is_removed_by_the_next_one(tmp_path):
    killed = multiprocessing.get_context("fork").Process(target=_make_half, args=(str(tmp_path / "one"),))
    killed.start()
    while not list(tmp_path.glob("*/half")):
        assert killed.is_alive()
        time.sleep(0.01)
    # While it works, its folder is left alone.
    build_once(tmp_path / "two", lambda partial: None)
    assert len(list(tmp_path.iterdir())) == 2
    killed.kill()
    killed.join()
    build_once(tmp_path / "three", lambda partial: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["three", "two"]


def test_a_failed_attempt_leaves_nothing(tmp_path):
    def fail(partial: Path) -> None:
        (partial / "half").touch()
        raise VPOGError("no")

    with pytest.raises(VPOGError, match="no"):
        build_once(tmp_path / "folder", fail)
    assert list(tmp_path.iterdir()) == []
