"""Temporary folders go, also those of processes that were killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile

import pytest

pytest.importorskip("rclpy")

from vpog_ros.scratch_folder import ScratchFolder

HOLD = """
import time
from vpog_ros.scratch_folder import ScratchFolder
folder = ScratchFolder("vpog_markers_")
(folder.path / "mug.ply").write_text("mesh")
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_a_folder_goes_when_it_is_removed_and_others_stay(root):
    first, second = ScratchFolder("vpog_markers_"), ScratchFolder("vpog_markers_")
    (first.path / "mug.ply").write_text("mesh")
    assert first.path.is_dir(), "the second one took the first for abandoned"
    first.remove()
    assert second.path.is_dir()
    second.remove()
    assert list(root.iterdir()) == []


def test_what_a_killed_process_left_goes_at_the_next_start_and_what_a_living_one_has_stays(root):
    processes = [subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout.readline() == b"ready\n"
        (root / "vpog_markers_mine").mkdir()
        processes[0].send_signal(signal.SIGKILL)
        processes[0].wait(10.0)
        folder = ScratchFolder("vpog_markers_")
        # The living one's, the new one, and one that was not made so.
        assert len([path for path in root.iterdir() if path.is_dir()]) == 3
        assert len(list(root.glob("*/mug.ply"))) == 1
        folder.remove()
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
