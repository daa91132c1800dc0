from __future__ import annotations

import shutil

import numpy as np
import pytest

import vpog_core.inference.object_store as object_store_module
from vpog_core.cancellation import Cancelled, stop_when
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.objects.library import ObjectLibrary
from vpog_core.types import Camera, Detection, VPOGError

CAMERA = Camera(np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), 64, 48)


@pytest.fixture
def mixed(workshop, tmp_path):
    """Return an estimator of three objects, two of them broken; `a` and `thing` are in the cache already."""
    PoseEstimator(**workshop, device="cpu").onboard()
    folder = shutil.copytree(workshop["objects"], tmp_path / "objects")
    whole = (folder / "thing.ply").read_bytes()
    (folder / "a_cut.ply").write_bytes(whole[: len(whole) // 2])
    (folder / "z_empty.stl").write_bytes(b"")
    return PoseEstimator(**{**workshop, "objects": folder}, device="cpu")


def error_of(call) -> str:
    with pytest.raises(VPOGError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_broken_objects_are_left_out_and_the_others_work(mixed):
    left_out = mixed.onboard()
    assert sorted(left_out) == ["a_cut", "z_empty"]
    assert "a_cut.ply" in left_out["a_cut"]
    assert "z_empty.stl" in left_out["z_empty"]
    box = np.array([10.0, 10, 40, 40])
    detections = [Detection(name, box) for name in ("z_empty", "gadget", "a_cut")]
    results = mixed.estimate(np.zeros((48, 64, 3), np.uint8), CAMERA, detections)
    assert [r.reason for r in results[::2]] == [left_out["z_empty"], left_out["a_cut"]]
    assert results[1].match is not None
    assert error_of(lambda: mixed.onboard("a_cut")) == left_out["a_cut"]


def test_a_cache_that_cannot_be_written_is_said_once(workshop, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    estimator = PoseEstimator(**{**workshop, "cache_dir": tmp_path / "file" / "cache"}, device="cpu")
    assert estimator.onboard() == {}
    (said,) = [record.getMessage() for record in caplog.records if "cache" in record.getMessage()]
    assert f"The cache '{tmp_path / 'file' / 'cache'}' cannot be written (Not a directory)" in said


def test_broken_objects_are_known_before_any_work(mixed, monkeypatch):
    monkeypatch.setattr(ObjectLibrary, "templates", lambda *a, **k: pytest.fail("work was begun"))
    text = error_of(lambda: mixed.onboard(strict=True))
    assert "2 of 3 objects cannot be used." in text
    assert "a_cut.ply" in text
    assert "z_empty.stl" in text


def test_no_object_that_can_be_used_is_an_error(workshop, tmp_path, caplog):
    (tmp_path / "mug.ply").write_bytes(b"ply\nthis is none")
    caplog.clear()
    alone = PoseEstimator(**{**workshop, "objects": tmp_path}, device="cpu")
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"No object can be used: The mesh '{tmp_path}/mug.ply' cannot be read")
    assert "mug.ply" in error_of(alone.onboard)


def test_what_fails_while_onboarding_leaves_that_object_out(mixed, workshop, monkeypatch):
    def describe(*_):
        raise RuntimeError("out of registers")

    folder = mixed.library.folder
    for name in ("a_cut.ply", "z_empty.stl"):
        (folder / name).unlink()
    shutil.copy(folder / "thing.ply", folder / "second.ply")
    two = PoseEstimator(**{**workshop, "objects": folder}, device="cpu")
    monkeypatch.setattr(object_store_module, "describe_templates", describe)
    assert list(two.onboard()) == ["second"]
    assert "Onboarding 'second' failed (RuntimeError: out of registers)" in two.left_out["second"]


def test_onboarding_ends_between_its_steps_when_it_is_told_to(workshop, tmp_path):
    fresh = PoseEstimator(**{**workshop, "cache_dir": tmp_path / "cache"}, device="cpu")
    looks = []
    with stop_when(lambda: len(looks) > 100 or looks.append(1)), pytest.raises(Cancelled):
        fresh.onboard()
    assert len(looks) == 101
    assert not (tmp_path / "cache").exists()
    assert fresh.onboard() == {}
