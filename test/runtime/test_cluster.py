"""Test work shared by the workers of a Dask cluster: two processes of this machine."""

import importlib
import os

import pytest

from vpog_core.cli import main
from vpog_core.evaluation import calibration_scenes
from vpog_core.types import VPOGError
from vpog_core.utils.cluster_pool import ClusterPool
from vpog_core.utils.worker_pool import WorkerPool

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

MODULE = """
import os
import time

import numpy as np
from distributed import get_worker

from vpog_core.inference.calibration import FEATURES, FLOW_FEATURES, REFINED_FEATURES, TRACKED_FEATURES
from vpog_core.types import VPOGError

def make(limit):
    return {"process": os.getpid(), "limit": limit, "items": 0}

def work(tool, item):
    if item > tool["limit"]:
        raise VPOGError(f"{item} is too much: give less.")
    time.sleep(0.1)  # so that both have a part in it
    tool["items"] += 1
    return item, tool["process"], tool["items"]

def die(tool, item):
    os._exit(1)

class SceneEvaluator:
    def __init__(self, weights, refiner_weights, device, frames):
        self.frames = frames

    def run(self, scene):
        get_worker()  # fails but on a worker
        rng = np.random.default_rng(scene)
        features = FEATURES, REFINED_FEATURES, TRACKED_FEATURES, FLOW_FEATURES
        return tuple([self.pose(rng, len(f), scene, n) for n in range(self.frames)] for f in features)

    def pose(self, rng, count, scene, detection):
        correct = rng.random() < 0.6
        return rng.normal(size=count) + correct, correct, rng.chisquare(6), scene, detection
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Write a module that workers can import, too."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "cluster_job.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join((str(folder), *filter(None, [os.getenv("PYTHONPATH")]))))
        patch.syspath_prepend(folder)
        yield importlib.import_module("cluster_job")


@pytest.fixture(scope="module")
def cluster(job):
    quiet = {"dashboard_address": ":0"}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, **quiet) as made:
        yield made


def test_workers_of_a_cluster_have_a_tool_each(job, cluster):
    with WorkerPool(job.make, (100,), 1, cluster.scheduler_address) as pool:
        found = list(pool.map(job.work, range(8)))
    assert sorted(item for item, _, _ in found) == list(range(8))
    processes = {process for _, process, _ in found}
    assert len(processes) == 2
    assert os.getpid() not in processes
    for process in processes:
        counts = sorted(count for _, of, count in found if of == process)
        assert counts == list(range(1, len(counts) + 1)), "a tool is made once"


def test_what_goes_wrong_on_a_worker_is_said_here(job, cluster):
    with (
        pytest.raises(VPOGError, match=r"7 is too much: give less\."),
        WorkerPool(job.make, (5,), 1, cluster.scheduler_address) as pool,
    ):
        list(pool.map(job.work, [7]))


def test_work_that_kills_its_worker_is_one_sentence(job):
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as fragile,
        pytest.raises(VPOGError, match=r"A worker process died.* fewer workers"),
        WorkerPool(job.make, (100,), 1, fragile.scheduler_address) as pool,
    ):
        list(pool.map(job.die, range(3)))


def test_a_cluster_that_ends_meanwhile_is_one_sentence(job):
    cluster = distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0")
    with WorkerPool(job.make, (100,), 1, cluster.scheduler_address) as pool:
        results = pool.map(job.work, range(20))
        next(results)
        cluster.close()
        with pytest.raises(VPOGError, match=r"A worker process died"):
            list(results)


def test_calibrate_is_fitted_to_what_the_workers_find(job, cluster, monkeypatch, capsys):
    """Samples are drawn at random, as estimating them would take minutes."""
    monkeypatch.setattr(calibration_scenes, "SceneEvaluator", job.SceneEvaluator)
    words = ["--scenes", "6", "--frames", "40", "--dry-run", "--cluster", cluster.scheduler_address]
    assert main(["calibrate", *words]) == 0
    counts = [line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.startswith("poses")]
    # Of matches, aligned, refined, tracked and flow's poses: four scenes that are fitted, and two that check.
    assert counts == [["160", "80"]] * 5


def test_a_cluster_that_cannot_be_used_is_named(job, monkeypatch):
    monkeypatch.setattr("vpog_core.utils.cluster_pool.CONNECT_S", 1)
    with pytest.raises(
        VPOGError, match=r"No Dask scheduler answers at 'tcp://127\.0\.0\.1:1' .*dask scheduler"
    ):
        ClusterPool("tcp://127.0.0.1:1", job.make, (1,))
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as empty,
        pytest.raises(VPOGError, match=r"has no workers: start some with 'dask worker"),
    ):
        ClusterPool(empty.scheduler_address, job.make, (1,))
    monkeypatch.setattr("vpog_core.utils.cluster_pool.find_spec", lambda name: None)
    with pytest.raises(VPOGError, match="pip install distributed"):
        ClusterPool("tcp://127.0.0.1:1", job.make, (1,))
