"""Test a library of many cached objects: nothing is read before it is requested."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from vpog_core.inference import object_store
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.objects.library import ObjectLibrary
from vpog_core.types import Camera, Detection

CAMERA = Camera(np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), 64, 48)


@pytest.fixture
def cached(workshop, tmp_path, monkeypatch):
    """Return a folder of two objects and its cache, whose objects stay closed."""
    monkeypatch.setattr(object_store, "MAX_OPENED_AT_START", 1)
    folder = shutil.copytree(workshop["objects"], tmp_path / "objects")
    shutil.copy(folder / "thing.ply", folder / "second.ply")
    made = {**workshop, "objects": folder, "cache_dir": tmp_path / "cache", "device": "cpu"}
    PoseEstimator(**made).onboard()
    return made


def read_meshes(monkeypatch) -> list[str]:
    """Return the names of the meshes read from now on."""
    read, original = [], ObjectLibrary._read_mesh

    def reading(library, object_id):
        read.append(object_id)
        return original(library, object_id)

    monkeypatch.setattr(ObjectLibrary, "_read_mesh", reading)
    return read


def test_objects_in_the_cache_are_opened_when_they_are_asked_for(cached, monkeypatch):
    read = read_meshes(monkeypatch)
    monkeypatch.setattr(object_store, "describe_templates", lambda *_: pytest.fail("encoded again"))
    estimator = PoseEstimator(**cached)
    assert estimator.onboard() == {}
    assert read == []
    found = estimator.estimate(
        np.zeros((48, 64, 3), np.uint8), CAMERA, [Detection("second", np.array([10.0, 10, 40, 40]))]
    )
    assert found[0].match is not None
    assert read == ["second"]


def test_a_mesh_that_changed_is_read_and_told_of(cached, monkeypatch):
    (cached["objects"] / "second.ply").write_bytes(b"ply\nthis is none")
    read = read_meshes(monkeypatch)
    left_out = PoseEstimator(**cached).onboard()
    assert list(left_out) == ["second"]
    assert "second.ply" in left_out["second"]
    assert read == ["second"]


def test_other_weights_open_and_describe_the_objects_again(cached):
    estimator = PoseEstimator(**cached)
    estimator.objects.key = "other weights"
    told = []
    estimator.onboard(progress=lambda *step: told.append(step))
    assert list(dict.fromkeys(name for _, _, name in told)) == [
        "meshes (reading)",
        "second (describing views), object 1 of 2",
        "thing (describing views), object 2 of 2",
    ]


def test_what_onboarding_does_is_told(workshop, tmp_path):
    told = []
    estimator = PoseEstimator(**{**workshop, "cache_dir": tmp_path / "new"}, device="cpu")
    estimator.onboard(progress=lambda *step: told.append(step))
    steps = list(dict.fromkeys(name for _, _, name in told))
    assert steps == ["thing (rendering views)", "thing (describing views)"]
    assert all(0 < done <= total for done, total, _ in told)
