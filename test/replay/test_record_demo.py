"""Test that `vpog record-demo` writes a whole bag with its meshes, or nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from vpog_core.cli import main
from vpog_core.replay.bag_reader import open_bag

STARTUP_S = 60.0


def test_record_demo_writes_a_bag_to_replay(tmp_path, capsys):
    path = tmp_path / "demo"
    assert main(["record-demo", str(path), "--frames", "2", "--storage", "sqlite3"]) == 0
    assert f"vpog replay {path} --objects-dir {path}_objects" in capsys.readouterr().out
    with open_bag(path) as demo:
        assert demo.counts == dict.fromkeys(
            [f"/demo_camera/{name}" for name in ("truth", "camera_info", "instances", "image")], 2
        )
        first = next(demo.messages(["/demo_camera/instances"])).read()
    meshes = {mesh.stem for mesh in Path(f"{path}_objects").iterdir()}
    assert {instance.class_id for instance in first.instances} <= meshes
    assert main(["record-demo", str(path)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_folder_that_is_there_is_refused_by_its_own_name(tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["record-demo", "."]) == 2
    assert f"'{tmp_path / 'here'}' is there already" in capsys.readouterr().err


def test_ctrl_c_leaves_nothing_behind(tmp_path):
    words = ["record-demo", str(tmp_path / "demo"), "--frames", "9999"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vpog_core.cli", *words],
        stderr=subprocess.DEVNULL,
        # A shell's job in the background is started with SIGINT ignored, which its children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + STARTUP_S
    while not any(tmp_path.glob(".demo.*/demo/*.mcap")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=STARTUP_S) == 130
    assert list(tmp_path.iterdir()) == []
