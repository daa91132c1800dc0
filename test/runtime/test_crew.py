from __future__ import annotations

import multiprocessing
import os
import time

import pytest

from vpog_core.crew import Crew

BUSY_S = 60.0
ENDED_S = 5.0
"""Far from the workers' minute, and more than a loaded machine takes to end two processes."""


def make() -> int:
    return os.getpid()


def work(tool: int, item: float) -> int:
    time.sleep(item)
    return tool


def test_workers_end_with_the_work_that_is_interrupted():
    moments = []

    def interrupted() -> None:
        with Crew(make, (), 2) as crew:
            for _ in crew.map(work, [0.0, BUSY_S, BUSY_S]):
                moments.append(time.monotonic())
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - moments[0] < ENDED_S
    assert not multiprocessing.active_children()


def test_results_come_from_workers_with_a_tool_each():
    with Crew(make, (), 2) as crew:
        tools = set(crew.map(work, [0.0] * 4))
    assert os.getpid() not in tools
    with Crew(make, (), 1) as crew:
        assert list(crew.map(work, [0.0])) == [os.getpid()]
