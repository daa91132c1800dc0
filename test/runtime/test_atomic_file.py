"""Test that files are written atomically by processes that are killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from vpog_core.cancellation import Cancelled, stop_when
from vpog_core.utils.atomic_file import atomic_write
from vpog_core.utils.held_file import ENDING, held, held_if_free, one_at_a_time, remove_abandoned

STARTUP_S = 60.0
WRITE = """
import os, sys, time
from pathlib import Path
from vpog_core.utils.atomic_file import atomic_write
os.replace = lambda *_: time.sleep(600)  # The kill comes before the file has its name.
atomic_write(Path(sys.argv[1]), "content")
"""


def wait_until(condition) -> None:
    deadline = time.monotonic() + STARTUP_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_process_leaves_a_partial_file_that_the_next_start_removes(tmp_path):
    path = tmp_path / "templates.safetensors"
    process = subprocess.Popen([sys.executable, "-c", WRITE, str(path)])
    wait_until(lambda: any(file.stat().st_size for file in tmp_path.iterdir()))
    # It is being written: another node that starts now leaves it.
    remove_abandoned(tmp_path)
    (partial,) = tmp_path.iterdir()
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == [partial]
    assert partial.name.endswith(ENDING)
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_of_other_programs_stay(tmp_path):
    for name in (".hidden", "mesh.partial", ".mug.ply.123.456"):
        (tmp_path / name).touch()
    remove_abandoned(tmp_path)
    remove_abandoned(tmp_path / "not there")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_is_whole_and_nothing_else_is_left(tmp_path):
    atomic_write(tmp_path / "new" / "one.txt", "content")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["one.txt"]
    assert (tmp_path / "new" / "one.txt").read_text() == "content"


def test_who_waits_for_another_can_be_told_to_stop(tmp_path):
    path, told = tmp_path / "mug.ply", []
    path.touch()
    # The same process holds it by another descriptor, as another process would.
    with one_at_a_time(path), pytest.raises(Cancelled), stop_when(lambda: True):  # noqa: SIM117
        with one_at_a_time(path, lambda: told.append("waits")):
            pytest.fail("two at a time")
    assert told == ["waits"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_not_there_is_no_reason_to_wait(tmp_path):
    with one_at_a_time(tmp_path / "mug.ply"):
        assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_held_is_not_waited_for(tmp_path):
    path = tmp_path / "lock"
    with held_if_free(path) as first:
        with held_if_free(path) as second:
            assert (first, second) == (True, False)
        # The one that was refused has released nothing.
        with held_if_free(path) as third:
            assert not third
    with held_if_free(path) as again:
        assert again


def test_the_disk_holds_the_content_before_the_file_has_its_name(tmp_path, monkeypatch):
    synced = []

    def sync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, (tmp_path / "one.txt").exists()))

    monkeypatch.setattr(os, "fsync", sync)
    atomic_write(tmp_path / "one.txt", "content")
    assert synced == [(len("content"), False)]


@pytest.mark.parametrize("folder", [False, True])
def test_what_is_held_stays(tmp_path, folder):
    path = tmp_path / f".one{ENDING}"
    if folder:
        path.mkdir()
        (path / "image.png").touch()
    with held(path):
        remove_abandoned(tmp_path)
        assert path.exists()
    remove_abandoned(tmp_path)
    assert not path.exists()
