"""Test a node in which something breaks unexpectedly: it reports the error and continues."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from vpog_core.types import Camera, Detection

CAMERA = Camera(np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]]), 64, 48)
PROGRAM = str(Path(__file__).with_name("faulty_node.py"))
BOUND_S = 3.0
"""Two seconds are promised; one more is for a machine where others have the CPU."""


@pytest.fixture(scope="module")
def node(start_node, untrained, client):
    given = {"objects_dir": untrained.objects_dir, "autostart": "false", "diagnostics_period": 0.1}
    node = start_node(program=(PROGRAM,), **given)
    client.bring_to("active")
    client.shake_hands()
    return node


def frame_of(brightness: int) -> tuple:
    box = np.array([10.0, 10, 50, 40])
    return np.full((48, 64, 3), brightness, np.uint8), CAMERA, [Detection("carton", box)]


def test_an_estimator_that_raises_costs_its_frame(node, client):
    for failures in range(1, 4):
        broken = client.send(*frame_of(255))
        assert client.spin_until(lambda n=failures: client.diagnosis().get("failures, frame") == str(n), 10.0)
        assert client.diagnosis()["last error"] == "RuntimeError: the accelerator is gone"
        assert len(client.answer(client.send(*frame_of(10))).poses) == 1
        assert client.answers_to(broken) == []
    assert "A frame was dropped" in node.log.read_text()


def test_a_transition_that_raises_says_so_and_the_node_can_be_configured_again(node, client):
    client.bring_to("inactive")
    assert not client.change_state("cleanup")
    assert client.state() == "unconfigured"
    sentence = (
        "The transition 'cleanup' failed (RuntimeError: a publisher is stuck), and the node gives up all it "
        "holds and is unconfigured: configure it again."
    )
    assert client.diagnosis()["message"] == sentence
    assert node.log.read_text().count(sentence) == 1
    client.bring_to("active")
    client.shake_hands()
    assert len(client.answer(client.send(*frame_of(10))).poses) == 1
    client.bring_to("unconfigured")
    begin = time.monotonic()
    assert node.stop(signal.SIGINT) == 0
    assert time.monotonic() - begin < BOUND_S
