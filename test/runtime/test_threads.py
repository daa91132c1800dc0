from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vpog_core import threads


@pytest.fixture
def environment(monkeypatch):
    """Return a function that sets the variables of OpenMP and its like, and no others of them."""

    def given(**variables: str) -> None:
        for name in (*threads.PASSIVE, "OMP_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return given


def test_threads_wait_passively_unless_the_user_said_otherwise(environment):
    environment()
    threads.wait_passively()
    assert {name: os.environ[name] for name in threads.PASSIVE} == threads.PASSIVE
    environment(KMP_BLOCKTIME="20")
    threads.wait_passively()
    assert (os.environ["KMP_BLOCKTIME"], os.environ["OMP_WAIT_POLICY"]) == ("20", "PASSIVE")
    environment(OMP_WAIT_POLICY="active")
    threads.wait_passively()
    assert "KMP_BLOCKTIME" not in os.environ


COUNTS = """
import threading
from vpog_core.threads import use_threads
used = use_threads({count})
import cv2, torch
counts = [used, torch.get_num_threads(), cv2.getNumThreads()]
other = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
other.start()
other.join()
print(counts)
"""


@pytest.mark.parametrize(("count", "variable", "expected"), [(3, None, 3), (3, "2", 2), (0, "2,1", 2)])
def test_torch_and_opencv_are_told_the_same_in_every_thread(count, variable, expected):
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    answer = subprocess.run(
        [sys.executable, "-c", COUNTS.format(count=count)],
        env=kept | ({"OMP_NUM_THREADS": variable} if variable else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == str([expected] * 4)


def test_a_core_is_left_to_the_robot(monkeypatch):
    for usable, used in ((8, 7), (2, 1), (1, 1)):
        monkeypatch.setattr(threads, "usable_cores", lambda usable=usable: usable)
        assert threads.default_threads() == used


def test_affinity_limits_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    monkeypatch.setattr(threads, "cpu_quota", lambda groups: math.inf)
    assert threads.usable_cores() == 3
    monkeypatch.setattr(threads, "cpu_quota", lambda groups: 1.5)
    assert threads.usable_cores() == 1


def write(root: Path, **files: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)


def test_quotas_of_control_groups(tmp_path):
    """The quota is read of version 2 (the group's own and those above it), of version 1, or is none."""
    assert threads.cpu_quota("0::/\n", tmp_path) == math.inf
    write(tmp_path, cpu__max="max 100000\n")
    assert threads.cpu_quota("0::/\n", tmp_path) == math.inf
    write(tmp_path / "robot", cpu__max="250000 100000\n")
    write(tmp_path / "robot" / "vision", cpu__max="max 100000\n")
    assert threads.cpu_quota("0::/robot/vision\n", tmp_path) == 2.5
    # A container whose group has the host's name: mounted at the root.
    write(tmp_path, cpu__max="150000 100000\n")
    assert threads.cpu_quota("0::/docker/abc\n", tmp_path) == 1.5
    one = tmp_path / "one"
    write(one / "cpu" / "robot", cpu__cfs_quota_us="300000\n", cpu__cfs_period_us="100000\n")
    assert threads.cpu_quota("4:memory:/robot\n3:cpu,cpuacct:/robot\n", one) == 3.0
    write(one / "cpu" / "robot", cpu__cfs_quota_us="-1\n")
    assert threads.cpu_quota("3:cpu,cpuacct:/robot\n", one) == math.inf
