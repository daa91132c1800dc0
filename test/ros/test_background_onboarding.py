"""Test the real node while it is active and its objects are not ready yet."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("rclpy")

from vpog_ros.msg import ObjectInfo
from vpog_ros.srv import ListObjects

from vpog_core.types import Camera, Detection

OBJECTS = 10
CAMERA = Camera(K=np.array([[600.0, 0, 319.5], [0, 600.0, 239.5], [0, 0, 1]]), width=640, height=480)
BOUND_S = 120.0


@pytest.fixture(scope="module")
def node(start_node, untrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects")
    for number in range(OBJECTS):
        shutil.copy(untrained.objects_dir / "carton.ply", folder / f"carton_{number}.ply")
    (folder / "cut.ply").write_bytes((folder / "carton_0.ply").read_bytes()[:300])
    given = {"objects_dir": folder, "weights": untrained.weights, "cache_dir": folder / "cache"}
    return start_node(
        **given, onboarding="background", autostart="false", device="cpu", diagnostics_period=0.2
    )


def states(client) -> dict[str, str]:
    answer = client.call(ListObjects, "list_objects", ListObjects.Request())
    return {info.name: info.state for info in answer.objects}


def test_detections_are_counted_until_the_object_is_ready_which_comes_next(node, client):
    client.bring_to("active")
    client.shake_hands()
    last = f"carton_{OBJECTS - 1}"
    frame = np.full((480, 640, 3), 90, np.uint8), CAMERA, [Detection(last, np.array([200.0, 150, 400, 350]))]
    answer = client.answer(client.send(*frame))
    assert answer.poses == []
    # Where the machine is quick, it is ready by the time its state is read.
    assert states(client)[last] in (ObjectInfo.ONBOARDING, ObjectInfo.READY)
    told = client.diagnosis()
    assert int(told["detections of objects not ready"]) == 1
    assert client.spin_until(lambda: ObjectInfo.ONBOARDING not in states(client).values(), BOUND_S)
    told = states(client)
    assert told.pop("cut") == ObjectInfo.LEFT_OUT
    assert set(told.values()) == {ObjectInfo.READY}
    log = node.log.read_text()
    assert f"'{last}' is being onboarded" in log
    assert log.index(f"'{last}' is ready") < log.index(f"'carton_{OBJECTS - 2}' is ready")
    assert "cut.ply" in client.diagnosis()["message"]


def test_the_next_configure_opens_what_is_cached(node, client):
    client.bring_to("unconfigured")
    client.bring_to("inactive")
    # Small ones are opened within the two seconds, or the rest soon afterwards.
    assert client.spin_until(
        lambda: list(states(client).values()).count(ObjectInfo.READY) == OBJECTS, BOUND_S
    )
