"""Test the action of estimates with a real action server and client."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy.action")

import rclpy
from sensor_msgs.msg import Image
from vpog_ros.action import Estimate

from vpog_ros.diagnostics import Statistics
from vpog_ros.requests.estimation_request import CANCELLED, OpenRequests, refusal
from vpog_ros.requests.estimation_services import EstimationServices

from .goals import Asker


@pytest.fixture
def server(client):
    """Return a node with the name of the real one, in the client's process."""
    node = rclpy.create_node("vpog_node", context=client.context)
    client.executor.add_node(node)
    yield node
    client.executor.remove_node(node)
    node.destroy_node()


def test_an_image_taken_when_a_goal_is_accepted_is_used(server, client):
    requests, taken = OpenRequests(lambda: None), Image(width=2, height=2)
    requests.close("")

    def timeout_s() -> float:
        # It is read between acceptance, of which the caller knows by now, and opening the request.
        taken.header.stamp = server.get_clock().now().to_msg()
        requests.add_image(taken)
        return 10.0

    statistics = Statistics()
    services, asker = EstimationServices(server, requests, timeout_s, statistics), Asker(client)
    handle = asker.send(Estimate.Goal())
    assert client.spin_until(requests.open, 20.0)
    (request,) = requests.open()
    assert request.image is taken
    request.answer(refusal("This test has no estimator."))
    assert asker.result(handle, 20.0)[1].message == "This test has no estimator."
    assert (statistics.last_error, statistics.failures["request"]) == ("This test has no estimator.", 1)
    # A goal that its caller cancels has not failed.
    handle = asker.send(Estimate.Goal())
    handle.cancel_goal_async()
    assert asker.result(handle, 20.0)[1].message == CANCELLED
    assert statistics.failures["request"] == 1
    asker.action.destroy()
    services.destroy()
