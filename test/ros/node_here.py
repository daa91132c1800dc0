"""Provide the node in this process, and another node on the other side of DDS."""

from __future__ import annotations

import time

import rclpy
from rclpy.parameter import Parameter

from vpog_ros.transitions import SUCCESS
from vpog_ros.vpog_node import VpogNode


class NodeHere:
    """Holds the node, a peer that listens to it, and an executor for both.

    Args:
        estimator: what the node works with; parameters: of the node.
    """

    def __init__(self, estimator, name: str, **parameters) -> None:
        self.name, self.estimator = name, estimator
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        # Estimators of tests are ready, or do not know of objects that are not.
        parameters.setdefault("onboarding", "configure")
        overrides = [Parameter(key, value=value) for key, value in parameters.items()]
        self.node = VpogNode(
            lambda *_: self.estimator, name, context=self.context, parameter_overrides=overrides
        )
        self.peer = rclpy.create_node("peer", context=self.context)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        for item in (self.node, self.peer):
            self.executor.add_node(item)

    def activate(self) -> None:
        """Configure and activate."""
        assert self.node.trigger_configure() == SUCCESS
        assert self.node.trigger_activate() == SUCCESS

    def listen(self, message_type, topic: str) -> list:
        """Return a list of what comes on a topic from now on."""
        came: list = []
        self.peer.create_subscription(message_type, topic, came.append, 50)
        return came

    def spin_until(self, condition, timeout_s: float = 10.0) -> bool:
        """Spin until something is true; returns whether it became so in time."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.executor.spin_once(timeout_sec=0.02)
        return True

    def spin_for(self, seconds: float) -> None:
        self.spin_until(lambda: False, seconds)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.peer.destroy_node()
        self.context.try_shutdown()
