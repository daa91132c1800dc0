"""Leads the node through its states as nav2's lifecycle manager does, bond included; prints JSON of it.

Its steps are those of nav2_lifecycle_manager (`startup`, `pause`, `resume`, `checkBondConnections`), its end
of the bond is that of bondcpp. It starts the node as a process: `manager_stand_in.py NAME COMMAND...`
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid

import rclpy
from bond.msg import Status
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState

BOND_TIMEOUT_S = 4.0
"""The manager's default: it waits half of it for the first heartbeat."""
KILLED_TIMEOUT_S = 1.5
"""In place of it for a node that is killed, to be done sooner."""
WAIT_S = 120.0


class Bond:
    """Acts as the manager's end of a bond: waits for the node's, then sends heartbeats or is silent."""

    def __init__(self, node, name: str, timeout_s: float) -> None:
        self.node, self.name, self.timeout_s = node, name, timeout_s
        self.instance_id, self.sister = str(uuid.uuid4()), ""
        self.heard_s, self.heartbeats, self.dead = 0.0, 0, False
        self.publisher = node.create_publisher(Status, "bond", 5)
        self.subscription = node.create_subscription(Status, "bond", self.hear, 100)

    def hear(self, message: Status) -> None:
        if message.id != self.name or message.instance_id == self.instance_id:
            return
        self.sister = self.sister or message.instance_id
        assert message.instance_id == self.sister, "more than two ends of a bond"
        self.heard_s, self.heartbeats = time.monotonic(), self.heartbeats + 1
        self.dead |= not message.active

    @property
    def formed(self) -> bool:
        return self.heartbeats > 0

    @property
    def broken(self) -> bool:
        return self.dead or (self.formed and time.monotonic() - self.heard_s > self.timeout_s)

    def close(self) -> None:
        self.node.destroy_publisher(self.publisher)
        self.node.destroy_subscription(self.subscription)


class Manager:
    """Manages one node."""

    def __init__(self, name: str) -> None:
        rclpy.init()
        self.name, self.node = name, rclpy.create_node("lifecycle_manager")
        self.change = self.node.create_client(ChangeState, f"{name}/change_state")
        self.get = self.node.create_client(GetState, f"{name}/get_state")

    def spin_until(self, condition, seconds: float) -> float:
        """Spin until something is true; returns the seconds that it took, and fails after so many."""
        begin = time.monotonic()
        while not condition():
            if time.monotonic() - begin > seconds:
                raise TimeoutError(f"{condition} is not true after {seconds} s")
            rclpy.spin_once(self.node, timeout_sec=0.02)
        return time.monotonic() - begin

    def call(self, client, request):
        future = client.call_async(request)
        self.spin_until(future.done, WAIT_S)
        return future.result()

    def lead(self, label: str, state: str) -> float:
        """Make one transition, and return the seconds until it was answered."""
        begin = time.monotonic()
        request = ChangeState.Request(transition=Transition(label=label))
        assert self.call(self.change, request).success, f"{label} failed"
        seconds = time.monotonic() - begin
        found = self.call(self.get, GetState.Request()).current_state.label
        assert found == state, f"{found} after {label}"
        return seconds

    def bond(self, timeout_s: float = BOND_TIMEOUT_S) -> Bond:
        """Make the bond with a node that was activated."""
        bond = Bond(self.node, self.name.rpartition("/")[2], timeout_s)
        self.spin_until(lambda: bond.formed, timeout_s / 2)
        return bond


def main(name: str, command: list[str]) -> None:
    seen: dict[str, float] = {}
    manager, process = Manager(name), subprocess.Popen(command, stdout=sys.stderr)
    try:
        manager.spin_until(manager.get.service_is_ready, WAIT_S)
        seen["configure"] = manager.lead("configure", "inactive")
        seen["activate"] = manager.lead("activate", "active")
        first = manager.bond()
        manager.spin_until(lambda: first.heartbeats >= 6, BOND_TIMEOUT_S)
        assert not first.broken
        manager.lead("deactivate", "inactive")
        seen["end"] = manager.spin_until(lambda: first.dead, BOND_TIMEOUT_S)
        first.close()
        manager.lead("activate", "active")
        second = manager.bond(KILLED_TIMEOUT_S)
        assert second.sister != first.sister
        process.send_signal(signal.SIGKILL)
        seen["silence"] = manager.spin_until(lambda: second.broken, 2 * KILLED_TIMEOUT_S)
        assert not second.dead
    finally:
        process.kill()
        process.wait()
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
