"""Test the installed node under a lifecycle manager that acts as nav2's does by default."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

from vpog_core.types import VPOGError
from vpog_ros import optional
from vpog_ros.manager_bond import PERIOD_S, TIMEOUT_S, ManagerBond

from .workspace import in_workspace

HERE = Path(__file__).parent


@pytest.mark.skipif(shutil.which("colcon") is None, reason="colcon is not installed")
def test_the_manager_leads_the_node_and_hears_of_its_end(install, untrained, tmp_path):
    """Nothing is cached, so the object is onboarded while the node is active already."""
    log = tmp_path / "node.log"
    given = {
        **untrained.parameters(),
        "cache_dir": tmp_path / "cache",
        "autostart": "false",
        "bond": "always",
    }
    node = [str(install / "vpog_ros" / "lib" / "vpog_ros" / "vpog_node"), "--ros-args"]
    node += [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
    command = shlex.join(["python", str(HERE / "manager_stand_in.py"), "/vpog_node", *node])
    seen = json.loads(in_workspace(install, f"{command} 2> {log}"))
    # A message, and not the timeout of heartbeats, told of the end.
    assert seen["end"] < 1.0
    assert PERIOD_S < seen["silence"] < TIMEOUT_S
    assert "Onboarding in the background: carton." in log.read_text()
    assert "Traceback" not in log.read_text()


def test_without_the_messages_a_bond_that_must_be_is_refused(monkeypatch):
    monkeypatch.setattr(optional, "BondStatus", None)
    bond = ManagerBond(SimpleNamespace())
    for wanted in ("auto", "never"):
        bond.form(wanted)
        bond.end()
    with pytest.raises(VPOGError, match="the package bond is not installed: install ros-"):
        bond.form("always")
