"""Test that the executor's threads do not hold up the estimator's in the node's process."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("rclpy")

PROGRAM = """
import sys
from rclpy.exceptions import ParameterException
from vpog_ros.process import SWITCH_S, run

def make_node():
    print(sys.getswitchinterval() == SWITCH_S < 0.005)
    raise ParameterException("no node is needed", ())

run(make_node)
"""


def test_the_node_process_switches_threads_sooner_than_python_does():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.stdout == "True\n"
