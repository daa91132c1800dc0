"""Run the toy training as a process of its own, and read what runs leave behind."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from vpog_core.training.callbacks import read_checkpoint

ROOT = Path(__file__).parents[2]
STARTUP_S = 120.0
RUN_S = 180.0
"""Seconds within which a whole run of a few steps has ended, start included, on a busy machine."""


def module_of(path: Path):
    """Load a module that is no part of a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = module_of(ROOT / "tools" / "train_slice.py")


def start(folder: Path, pause: float, *settings: str) -> subprocess.Popen:
    """Start the toy run, which waits `pause` seconds for each item."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    toy = Path(__file__).with_name("toy_run.py")
    command = [sys.executable, str(toy), str(pause), f"output={folder}", *settings]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def finish(folder: Path, *settings: str) -> None:
    """Run the toy run to its end, which comes within `RUN_S`."""
    process = start(folder, 0.0, *settings)
    try:
        error = process.communicate(timeout=RUN_S)[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and the processes that it has started
    assert process.returncode == 0, error


def kill_after_first_epoch(process: subprocess.Popen, folder: Path) -> None:
    """Kill a run as soon as it has written its history."""
    deadline = time.monotonic() + STARTUP_S
    while not (folder / "history.json").is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    error = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, error


def state_of(folder: Path) -> dict:
    """Return the checkpoint of a run."""
    return read_checkpoint(folder / "checkpoint.ckpt")


def losses_of(folder: Path) -> list[float]:
    """Return the loss of each epoch."""
    return [epoch["loss"] for epoch in json.loads((folder / "history.json").read_text())]


def assert_same_run(one: Path, other: Path) -> None:
    """Compare weights, averaged weights and both moments to the last bit."""
    a, b = state_of(one), state_of(other)
    assert a["global_step"] == b["global_step"]
    assert all(torch.equal(a["state_dict"][k], b["state_dict"][k]) for k in a["state_dict"])
    moments = [c["optimizer_states"][0]["state"] for c in (a, b)]
    assert all(
        torch.equal(moments[0][i][k], moments[1][i][k]) for i in moments[0] for k in ("exp_avg", "exp_avg_sq")
    )
