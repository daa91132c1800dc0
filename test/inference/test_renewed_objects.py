"""Test that a folder is read anew: unchanged objects are kept, and old and new ones are not mixed."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from vpog_core.inference.estimator import PoseEstimator
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.mesh import load_mesh, save_mesh
from vpog_core.types import Camera, Detection

CAMERA = Camera(np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), 64, 48)
BOX = np.array([10.0, 10, 40, 40])


@pytest.fixture(scope="module")
def made(workshop, tmp_path_factory):
    """Return a cache that holds `thing` and `second`, in a folder of the two."""
    root = tmp_path_factory.mktemp("renewed")
    folder = shutil.copytree(workshop["objects"], root / "objects")
    shutil.copy(folder / "thing.ply", folder / "second.ply")
    arguments = {**workshop, "objects": folder, "cache_dir": root / "cache", "device": "cpu"}
    PoseEstimator(**arguments).onboard()
    return arguments


@pytest.fixture
def estimator(made, tmp_path):
    folder = shutil.copytree(made["objects"], tmp_path / "objects")
    estimator = PoseEstimator(**{**made, "objects": folder})
    estimator.onboard()
    estimator.renderer("thing")
    return estimator


def renewed(estimator):
    library = estimator.library
    return estimator.objects.renewed(ObjectLibrary(library.folder, library.cache_dir))


def test_what_has_not_changed_is_taken_as_it_is(estimator):
    old = estimator.objects
    (estimator.library.folder / "objects.yaml").write_text(
        "objects:\n  thing: {aliases: [gadget], symmetry: {continuous: [{axis: z}]}}\n"
    )
    store, changed = renewed(estimator)
    assert changed == set()
    assert store.get("thing") is old.get("thing")
    assert store.renderer(store.get("thing")) is old.renderer(old.get("thing"))
    # What is said of an object is new, and the old library does not know it.
    assert len(store.library.symmetry("thing").continuous) == 1
    assert not old.library.symmetry("thing").continuous


def test_changed_and_removed_objects_are_named_and_not_open(estimator):
    folder, old = estimator.library.folder, estimator.objects
    mesh = load_mesh(folder / "thing.ply")
    save_mesh(replace(mesh, vertices=mesh.vertices * 1.5), folder / "thing.ply")
    (folder / "second.ply").unlink()
    shutil.copy(folder / "thing.ply", folder / "third.ply")
    store, changed = renewed(estimator)
    assert changed == {"thing", "second"}
    assert store.library.ids == ["thing", "third"]
    assert not any(store.is_open(name) or store.is_cached(name) for name in store.library.ids)
    # The old objects are answered until the new ones take their place, with the old mesh.
    assert estimator.library.mesh("thing").diameter == pytest.approx(mesh.diameter, rel=1e-5)
    assert old.is_open("second")
    estimator.objects = store
    assert estimator.library.mesh("thing").diameter == pytest.approx(1.5 * mesh.diameter, rel=1e-5)


def test_a_mesh_that_cannot_be_read_any_more_leaves_its_object_as_it_was(estimator):
    path = estimator.library.folder / "thing.ply"
    path.write_bytes(path.read_bytes()[:300])
    old = estimator.objects.get("thing")
    store, changed = renewed(estimator)
    assert changed == set()
    assert store.get("thing") is old
    assert "thing.ply" in store.outdated["thing"]
    assert "'thing' goes on with the mesh it had." in store.outdated["thing"]
    estimator.objects = store
    (found,) = estimator.estimate(np.zeros((48, 64, 3), np.uint8), CAMERA, [Detection("gadget", BOX)])
    assert found.match is not None


def test_an_object_that_fails_is_left_out_and_tried_again_when_the_folder_is_read_anew(estimator):
    folder = estimator.library.folder
    (folder / "cut.ply").write_bytes((folder / "thing.ply").read_bytes()[:300])
    store, _ = renewed(estimator)
    assert "cut.ply" in store.onboard_or_leave_out("cut")
    assert "cut" in store.left_out
    estimator.objects = store
    shutil.copy(folder / "thing.ply", folder / "cut.ply")
    store, _ = renewed(estimator)
    assert store.onboard_or_leave_out("cut") == ""
    assert store.is_open("cut")
