from __future__ import annotations

import importlib
import multiprocessing
import os
import time

import pytest

from vpog_core.types import VPOGError
from vpog_core.utils.worker_pool import WorkerPool

BUSY_S = 60.0
ENDED_S = 10.0
"""Far from the workers' minute, and more than a loaded machine takes to end two processes."""

MODULE = """
import os
import time

def make():
    return os.getpid()

def work(tool, item):
    time.sleep(item)
    return tool

def die(tool, item):
    os._exit(1)
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Write a module that workers can import, too."""
    (tmp_path / "crew_job.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("crew_job")


def test_workers_have_a_tool_each_and_end_with_work_that_is_interrupted(job):
    moments, tools = [], []

    def interrupted() -> None:
        with WorkerPool(job.make, (), 2) as pool:
            for tool in pool.map(job.work, [0.0, BUSY_S, BUSY_S]):
                tools.append(tool)
                moments.append(time.monotonic())
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - moments[0] < ENDED_S
    assert not multiprocessing.active_children()
    assert tools[0] != os.getpid()


def test_one_worker_is_this_process(job):
    with WorkerPool(job.make, (), 1) as pool:
        assert list(pool.map(job.work, [0.0, 0.0])) == [os.getpid()] * 2


def test_work_that_kills_its_worker_is_one_sentence(job):
    with (
        pytest.raises(VPOGError, match=r"A worker process died.* fewer workers"),
        WorkerPool(job.make, (), 2) as pool,
    ):
        list(pool.map(job.die, [0, 0]))
