"""Test that several objects are onboarded by several processes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from vpog_core.inference import onboarding_workers
from vpog_core.inference.estimator import PoseEstimator


@pytest.fixture
def three(workshop, tmp_path, monkeypatch):
    """Return a folder of two objects and a broken one, none of them in the cache."""
    monkeypatch.setattr(onboarding_workers, "FEWEST", 2)
    folder = shutil.copytree(workshop["objects"], tmp_path / "objects")
    shutil.copy(folder / "thing.ply", folder / "second.ply")
    (folder / "broken.ply").write_bytes(b"ply\nthis is none")
    return {**workshop, "objects": folder, "cache_dir": tmp_path / "cache", "device": "cpu"}


def test_processes_make_what_one_would(three, tmp_path):
    told = []
    estimator = PoseEstimator(**three)
    left_out = estimator.onboard(progress=lambda *step: told.append(step), workers=2)
    assert list(left_out) == ["broken"]
    assert told == [(1, 2, "objects, 2 at once"), (2, 2, "objects, 2 at once")]
    alone = PoseEstimator(**{**three, "cache_dir": tmp_path / "other"})
    for name in ("second", "thing"):
        here, there = estimator.onboarded(name), alone.onboarded(name)
        np.testing.assert_array_equal(here.templates.images, there.templates.images)
        # Sums of one thread and of several round differently, to what 16 bits store.
        np.testing.assert_allclose(here.descriptors, there.descriptors, atol=2e-3)


def test_one_worker_and_objects_in_the_cache_start_no_process(three, monkeypatch):
    monkeypatch.setattr(onboarding_workers, "WorkerPool", lambda *_: pytest.fail("processes were started"))
    PoseEstimator(**three).onboard(workers=1)
    PoseEstimator(**three).onboard(workers=2)
