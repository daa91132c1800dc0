"""End the real node in each of its states."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState

from vpog_core.types import Camera, Detection
from vpog_ros import process

from .node_process import STARTUP_S

BOUND_S = 3.0
"""Two seconds are promised; one more is for a machine where others have the CPU."""

OBJECTS = 12
CYCLES = int(os.environ.get("VPOG_CYCLES", "12"))
"""Number of lifecycle cycles; run 50 by hand after a change of transitions."""


@pytest.fixture(scope="module")
def many(tmp_path_factory, untrained) -> Path:
    """Return a folder of so many objects that the tests find one being onboarded."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(OBJECTS):
        shutil.copy(untrained.objects_dir / "carton.ply", folder / f"carton_{number}.ply")
    return folder


def test_at_the_start(start_for_test, tmp_path, untrained, many):
    """SIGINT comes so long after the first line; a shell's `&` lets children ignore it, the node does not."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for delay in (0.0, 1.0, 2.0):
            given = {"objects_dir": many, "weights": untrained.weights, "cache_dir": tmp_path}
            node = start_for_test(name=f"/early_{10 * delay:.0f}", **given)
            node.wait_for_handler(signal.SIGINT)
            time.sleep(delay)
            assert node.seconds_to_end() < BOUND_S
    finally:
        signal.signal(signal.SIGINT, before)


def test_while_onboarding(start_for_test, tmp_path, untrained, many):
    """Two nodes run at once, each with a cache."""
    nodes = {}
    for how in (signal.SIGINT, signal.SIGTERM):
        given = {"objects_dir": many, "weights": untrained.weights, "cache_dir": tmp_path / how.name}
        given["onboarding"] = "configure" if how == signal.SIGINT else "background"
        nodes[how] = start_for_test(name=f"/onboards_{how.name}", **given)
    for how, node in nodes.items():
        node.wait_for("Onboarding ")
        deadline = time.monotonic() + STARTUP_S
        while (
            not (cached := list((tmp_path / how.name).glob("*.safetensors"))) and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        assert cached, "no object was onboarded"
        assert node.seconds_to_end(how) < BOUND_S
        # What is in the cache is whole: templates and records of them, and nothing that was being written.
        assert {path.suffix for path in (tmp_path / how.name).iterdir()} <= {".safetensors", ".json"}


@pytest.fixture
def slow_node(start_for_test, client, untrained):
    """Start an active node that takes long for each frame: all views, at all rolls."""
    node = start_for_test(
        **untrained.parameters(),
        mode="global",
        rolls=12,
        diagnostics_period=0.1,
        device="cpu",
        autostart="false",
    )
    client.bring_to("active")
    client.shake_hands()
    return node


def put_to_work(client) -> None:
    """Send a frame of many detections, and wait until it is in work."""
    image = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    camera = Camera(np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]), 320, 240)
    box = np.array([100.0, 60, 220, 180])
    before = int(client.diagnosis()["frames matched"])
    stamp = client.send(image, camera, [Detection("carton", box + n, instance=n) for n in range(16)])
    assert client.spin_until(lambda: int(client.diagnosis()["frames matched"]) > before, 10.0)
    client.spin_until(lambda: False, 0.3)
    assert not client.answers_to(stamp)


def test_after_deactivate(slow_node, client):
    """The frame in work is given up, the node can be activated again, and it ends in time."""
    put_to_work(client)
    begin = time.monotonic()
    assert client.change_state("deactivate")
    assert time.monotonic() - begin < BOUND_S
    client.bring_to("active")
    client.shake_hands()
    put_to_work(client)
    assert client.change_state("deactivate")
    assert slow_node.seconds_to_end(signal.SIGTERM) < BOUND_S


def test_with_a_frame_in_work(slow_node, client):
    put_to_work(client)
    assert slow_node.seconds_to_end() < BOUND_S


@pytest.fixture
def send_goal(slow_node, client):
    """Sends a goal that takes long, and gives its handle when it is being worked on."""
    from rclpy.action import ActionClient
    from std_msgs.msg import Header
    from vpog_ros.action import Estimate

    from vpog_ros.conversions import camera_to_info, instance_from_detection
    from vpog_ros.image_conversion import rgb_to_image

    header = Header(frame_id="camera")
    image = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    camera = Camera(np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]]), 320, 240)
    box = np.array([100.0, 60, 220, 180])
    goal = Estimate.Goal(image=rgb_to_image(image, header), camera_info=camera_to_info(camera, header))
    goal.instances = [
        instance_from_detection(Detection("carton", box + n, instance=n), header) for n in range(16)
    ]
    action = ActionClient(client.node, Estimate, "/vpog_node/estimate")
    assert client.spin_until(action.server_is_ready, 20.0)

    def send():
        stages: list[str] = []
        sent = action.send_goal_async(goal, lambda message: stages.append(message.feedback.stage))
        assert client.spin_until(lambda: "match" in stages, 20.0)
        return sent.result()

    yield send
    action.destroy()


def test_with_a_goal_in_work(send_goal, slow_node, client):
    """A goal ends within a second of being cancelled; with another one in work the node ends in time."""
    from action_msgs.msg import GoalStatus

    goal_in_work = send_goal()
    result = goal_in_work.get_result_async()
    begin = time.monotonic()
    goal_in_work.cancel_goal_async()
    assert client.spin_until(result.done, 20.0)
    assert time.monotonic() - begin < 1.0
    assert result.result().status == GoalStatus.STATUS_CANCELED
    client.shake_hands()  # The worker has given it up, too.
    send_goal()
    assert slow_node.seconds_to_end(signal.SIGTERM) < BOUND_S


def test_after_so_many_cycles_nothing_has_grown(start_for_test, client, untrained):
    """Threads and open files are counted: a cycle that leaves one behind leaves seven here."""
    node = start_for_test(**untrained.parameters(), device="cpu", autostart="false")
    client.bring_to("unconfigured")
    change = client.node.create_client(ChangeState, "/vpog_node/change_state")
    for cycle in range(CYCLES):
        for label in ("configure", "activate", "deactivate", "cleanup"):
            future = change.call_async(ChangeState.Request(transition=Transition(label=label)))
            assert client.spin_until(future.done, STARTUP_S), label
            assert future.result().success, f"{label}: {node.log.read_text()[-3000:]}"
        if cycle == 4:
            before, memory_before = node.threads_and_files(), node.resident_mib()
    after, memory = node.threads_and_files(), node.resident_mib()
    print(f"{CYCLES} cycles: threads and files {before}, {after}; MiB {memory_before:.0f}, {memory:.0f}")
    client.node.destroy_client(change)
    # DDS opens some as it finds others.
    assert after[0] <= before[0] + 3, (before, after)
    assert after[1] <= before[1] + 5, (before, after)
    assert client.change_state("configure")
    assert node.seconds_to_end(signal.SIGTERM) < BOUND_S


def test_when_nothing_is_under_way(start_for_test, client, untrained):
    """The signal is SIGTERM; other tests end their nodes by SIGINT."""
    given = {**untrained.parameters(), "device": "cpu"}
    unconfigured = start_for_test(name="/unconfigured", **given, autostart="false")
    active = start_for_test(name="/active", **given)
    active.wait_for("instances: /instances")
    assert client.spin_until(lambda: "unconfigured" in client.node.get_node_names(), STARTUP_S)
    assert unconfigured.seconds_to_end(signal.SIGTERM) < BOUND_S
    assert active.seconds_to_end(signal.SIGTERM) < BOUND_S


@pytest.mark.parametrize(("ended", "logged"), [(True, 0), (False, 1)])
def test_what_an_executor_refuses_at_its_end_is_no_error(monkeypatch, ended, logged):
    said: list[str] = []
    monkeypatch.setattr(process, "get_logger", lambda name: SimpleNamespace(error=said.append))
    shutdown_event = threading.Event()

    def spin_once(timeout_sec: float) -> None:
        if ended or said:
            shutdown_event.set()
        if not said:
            raise RuntimeError("cannot schedule new futures after shutdown")

    process.spin(SimpleNamespace(spin_once=spin_once), shutdown_event)
    assert len(said) == logged
