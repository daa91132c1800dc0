"""Tell nav2's lifecycle manager that the node is alive while it is active: the node's end of a bond."""

from __future__ import annotations

import contextlib
import threading
import uuid

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.qos import QoSProfile

from vpog_core.types import VPOGError
from vpog_ros import optional
from vpog_ros.parameter_table import ALWAYS, NEVER

TOPIC = "bond"
"""Topic of all bonds in the node's namespace; each message names its own."""
PERIOD_S = 0.25
"""Seconds between two heartbeats, as of nav2's own nodes; its manager waits two seconds for the first."""
TIMEOUT_S = 4.0
"""Seconds without a heartbeat after which nav2's manager, by default, takes the node for dead."""
LAST_WORD_S = 0.2
"""Largest number of seconds to wait until the end of the bond has reached the manager."""


class ManagerBond:
    """Publishes heartbeats from `form` to `end`, under the node's name, as nav2's LifecycleNode does.

    The protocol is that of bond_core, bondcpp/src/bond.cpp. Only the node's own state is published; the
    manager's is not watched, as nav2's nodes do not act on it either.

    Args:
        node: the lifecycle node.
    """

    def __init__(self, node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._publisher = self._timer = None
        self._instance_id = ""

    def form(self, wanted: str) -> None:
        """Begin to publish heartbeats.

        Args:
            wanted: value of the parameter `bond`.

        Raises:
            VPOGError: a bond is enabled, and its messages are not installed.
        """
        if wanted == NEVER or (optional.BondStatus is None and wanted != ALWAYS):
            return
        if optional.BondStatus is None:
            raise VPOGError(
                f"bond is '{ALWAYS}' and the package bond is not installed: install ros-$ROS_DISTRO-bond, or "
                f"set bond to '{NEVER}' and the manager's bond_timeout to 0.0."
            )
        self._instance_id = str(uuid.uuid4())
        self._publisher = self._node.create_publisher(optional.BondStatus, TOPIC, QoSProfile(depth=5))
        # A steady clock, as simulated time may stop; a group of its own, as other callbacks may take long.
        self._timer = self._node.create_timer(
            PERIOD_S,
            lambda: self._publish(active=True),
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def end(self) -> None:
        """Tell the manager that the bond ends, if there is one."""
        publisher, timer = self._publisher, self._timer
        if publisher is None:
            return
        self._node.destroy_timer(timer)
        self._publish(active=False)
        with self._lock:
            self._publisher = self._timer = None
        # If the publisher were destroyed at once, its last message would be lost.
        with contextlib.suppress(Exception):
            publisher.wait_for_all_acked(Duration(seconds=LAST_WORD_S))
        self._node.destroy_publisher(publisher)

    def _publish(self, active: bool) -> None:
        with self._lock:
            if self._publisher is None:
                return
            message = optional.BondStatus(id=self._node.get_name(), instance_id=self._instance_id)
            message.header.stamp = self._node.get_clock().now().to_msg()
            message.active = active
            message.heartbeat_timeout, message.heartbeat_period = TIMEOUT_S, PERIOD_S
            self._publisher.publish(message)
