"""Test that the service ~/dump tells why it writes nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

import rclpy
from std_srvs.srv import Trigger

from vpog_ros.frame_dump import NO_FRAME, OFF, FrameDump


@pytest.fixture
def ask():
    """Yield ask(dump_dir, estimator), which returns the response of a real node's service."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("dumper", context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def ask(dump_dir: str, estimator=None) -> Trigger.Response:
        settings = SimpleNamespace(dump_dir=dump_dir)
        dump = FrameDump(node, None, lambda: settings, lambda: None)
        if estimator is not None:
            dump.recorded(estimator)
        client = node.create_client(Trigger, "/dumper/dump")
        future = client.call_async(Trigger.Request())
        executor.spin_until_future_complete(future, timeout_sec=10.0)
        return future.result()

    yield ask
    executor.shutdown()
    node.destroy_node()
    context.try_shutdown()


def test_without_a_folder(ask):
    answer = ask("")
    assert (answer.success, answer.message) == (False, OFF)


def test_before_the_first_frame(ask, tmp_path):
    answer = ask(str(tmp_path), estimator=object())
    assert (answer.success, answer.message) == (False, NO_FRAME)
    assert list(tmp_path.iterdir()) == []
