"""Test poses on demand, and objects added at run time, with the real node over DDS."""

from __future__ import annotations

import array
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy.action")

from action_msgs.msg import GoalStatus
from sensor_msgs.msg import RegionOfInterest
from std_srvs.srv import Trigger
from vpog_ros.action import Estimate
from vpog_ros.msg import Instance2D
from vpog_ros.srv import AddObject, EstimateOnce

from vpog_core.messages.reading import stamp_to_ns
from vpog_core.objects.mesh import save_mesh
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.scene import make_scene
from vpog_core.types import Detection

from .goals import ONBOARDING_S, Asker, activity_of, assert_right, carton, goal_of, listed, pot

SUCCEEDED, CANCELED, ABORTED = (
    GoalStatus.STATUS_SUCCEEDED, GoalStatus.STATUS_CANCELED, GoalStatus.STATUS_ABORTED,
)  # fmt: skip
DONE = (SUCCEEDED, CANCELED, ABORTED)


@pytest.fixture(scope="module")
def meshes():
    """Make a carton and a pot; neither is in training."""
    return [make_object(seed) for seed in (900_009, 900_010)]


@pytest.fixture(scope="module")
def objects_dir(tmp_path_factory, meshes) -> Path:
    folder = tmp_path_factory.mktemp("objects")
    save_mesh(meshes[0], folder / "carton.ply")
    (folder / "objects.yaml").write_text("objects:\n  carton: {unit: m, aliases: [parcel]}\n")
    return folder


@pytest.fixture(scope="module")
def frame(meshes):
    """Return a frame of a scene with both objects, and its camera."""
    scene = make_scene(11, meshes, distractors=0)
    return scene.render(0.0), scene.camera


@pytest.fixture(scope="module")
def node(start_node, objects_dir, tmp_path_factory):
    return start_node(
        objects_dir=objects_dir,
        cache_dir=tmp_path_factory.mktemp("cache"),
        device="cpu",
        autostart="false",
        onboarding="when_asked",
        diagnostics_period=0.2,
    )


@pytest.fixture
def asker(node, client):
    client.bring_to("active")
    asker = Asker(client)
    yield asker
    asker.action.destroy()


def test_an_object_is_onboarded_when_it_is_first_asked_for(asker, frame, meshes):
    """The image lies in the goal; the box has no name, as the goal names one object."""
    assert listed(asker.client)["carton"].state == "not_onboarded"
    goal = goal_of(frame, [carton(frame, "")], objects=["parcel"], timeout=ONBOARDING_S)
    handle = asker.send(goal)
    assert asker.client.spin_until(lambda: asker.stages, 20.0)
    assert asker.stages[0][0] == "onboarding"
    assert "'carton' is being onboarded" in asker.stages[0][1]
    status, result = asker.result(handle)
    activities = {activity_of(message) for message in asker.client.received["diagnostics"]}
    assert any("onboarding carton (" in activity for activity in activities), activities
    assert (status, result.message, result.without_pose) == (SUCCEEDED, "", [])
    (pose,) = result.poses.poses
    assert (pose.class_id, result.poses.header.frame_id, result.poses.header.stamp.sec) == (
        "carton",
        "inside",
        7,
    )
    assert_right(pose, frame[0].T_cam_obj[0])
    assert [stage for stage, _ in asker.stages][1:4] == ["convert", "crop", "encode"]
    info = listed(asker.client)["carton"]
    assert (info.state, info.aliases, info.symmetry) == ("ready", ["parcel"], "{}")
    assert info.diameter > 0.01
    # The box around the mesh, which is stored in single precision.
    mesh = meshes[0]
    assert [info.center.x, info.center.y, info.center.z] == pytest.approx(mesh.center, abs=1e-6)
    assert [info.size.x, info.size.y, info.size.z] == pytest.approx(np.ptp(mesh.bounds, axis=0), abs=1e-6)


def test_a_goal_takes_the_next_frame_and_its_detections(asker, frame):
    client = asker.client
    client.shake_hands()
    assert client.set_parameter("trigger", "on_demand") == (True, "")
    try:
        handle = asker.send(Estimate.Goal(objects=["carton"]))
        assert client.spin_until(lambda: asker.stages, 20.0)
        assert "No image has come on /image since" in asker.stages[0][1]
        told = client.diagnosis()
        assert told["requests waiting"] == "1"
        assert "on_demand" in told["activity"]
        stamp = client.send(*frame_of(frame), [carton(frame)])
        status, result = asker.result(handle, 60.0)
        assert status == SUCCEEDED, result.message
        assert stamp_to_ns(result.poses.header.stamp) == stamp
        assert [(p.detected, p.detection_age) for p in result.poses.poses] == [(True, 0.0)]
        # What was asked for is on the topics as well, and nothing else.
        assert client.answer(stamp).poses == result.poses.poses
        other = client.send(*frame_of(frame), [carton(frame)])
        client.spin_until(lambda: False, 0.5)
        assert client.answers_to(other) == []
        # A goal of unknown objects alone looks for nothing, so nothing is published as gone.
        status, _ = asker.result(asker.send(goal_of(frame, objects=["spoon"])), 60.0)
        assert status == ABORTED
        client.spin_until(lambda: False, 0.5)
        assert client.answers_to(7_000_000_000) == []
    finally:
        assert client.set_parameter("trigger", "continuous") == (True, "")


def frame_of(frame) -> tuple:
    return frame[0].image, frame[1]


def test_without_detections_of_the_image_the_newest_are_used(asker, frame):
    # The second image is answered quickly even on a busy machine: detections may be five seconds old.
    for _ in range(2):
        asker.client.answer(asker.client.send(*frame_of(frame), [carton(frame)]))
    handle = asker.send(Estimate.Goal())
    asker.client.send(*frame_of(frame), None)
    status, result = asker.result(handle, 60.0)
    assert status == SUCCEEDED, result.message
    (pose,) = result.poses.poses
    assert not pose.detected
    assert 0.0 < pose.detection_age < 5.0


def test_the_image_in_which_the_object_is_detected_is_used(asker, frame):
    """The detector sees nothing in the first image, and the carton in the next one."""
    client = asker.client
    handle = asker.send(Estimate.Goal(objects=["carton"]))
    client.send(*frame_of(frame), [])
    stamp = client.send(*frame_of(frame), [carton(frame)])
    status, result = asker.result(handle, 60.0)
    assert status == SUCCEEDED, result.message
    assert stamp_to_ns(result.poses.header.stamp) == stamp
    assert result.poses.poses[0].detected


def test_a_class_that_no_object_has_is_named_in_the_result_and_on_diagnostics(asker, frame):
    client = asker.client
    handle = asker.send(Estimate.Goal())
    client.send(*frame_of(frame), [Detection("cup", frame[0].boxes_visible[0], 0.9)])
    status, result = asker.result(handle, 60.0)
    assert status == ABORTED
    assert (
        "No pose was found. Detections of class 'cup' are left out: no object is called so" in result.message
    )
    assert client.spin_until(lambda: client.diagnosis()["last error"] == result.message, 10.0)
    assert int(client.diagnosis()["failures, request"]) >= 1


def test_a_cancelled_goal_ends_within_a_second_and_topics_go_on(asker, frame):
    client = asker.client
    handle = asker.send(Estimate.Goal(objects=["carton"], timeout=60.0))
    result = handle.get_result_async()
    begin = time.monotonic()
    handle.cancel_goal_async()
    assert client.spin_until(result.done, 10.0)
    assert time.monotonic() - begin < 1.0
    assert result.result().status == CANCELED
    assert len(client.answer(client.send(*frame_of(frame), [carton(frame)])).poses) == 1


def test_goals_at_once_are_all_answered_while_topics_go_on(asker, frame):
    client = asker.client
    handles = [asker.send(goal_of(frame, [carton(frame)])) for _ in range(3)]
    stamp = client.send(*frame_of(frame), [carton(frame)])
    for handle in handles:
        status, result = asker.result(handle, 60.0)
        assert status == SUCCEEDED, result.message
    assert len(client.answer(stamp).poses) == 1


def test_one_goal_too_many_is_told(asker):
    handles = [asker.send(Estimate.Goal(timeout=60.0)) for _ in range(9)]
    status, result = asker.result(handles[-1])
    assert (status, result.message[:23]) == (ABORTED, "8 requests wait already")
    for handle in handles[:-1]:
        handle.cancel_goal_async()
    assert [asker.result(handle)[0] for handle in handles[:-1]] == [CANCELED] * 8


def test_the_service_gives_poses_and_a_reason_for_each_object_without(asker, frame):
    goal = goal_of(frame, [carton(frame)], objects=["carton", "spoon"])
    fields = ("objects", "instances", "image", "camera_info")
    call = EstimateOnce.Request(**{name: getattr(goal, name) for name in fields})
    response = asker.client.call(EstimateOnce, "estimate_once", call, 60.0)
    assert (response.success, response.message) == (True, "")
    assert_right(response.poses.poses[0], frame[0].T_cam_obj[0])
    (missing,) = response.without_pose
    assert (missing.class_id, missing.instance) == ("spoon", -1)
    assert "There is no object 'spoon'" in missing.reason


def hostile_goals(frame) -> list[tuple[Estimate.Goal, str]]:
    huge = RegionOfInterest(x_offset=2**32 - 1, y_offset=2**32 - 1, width=2**32 - 1, height=2**32 - 1)
    goals = [
        (goal_of(frame, [carton(frame, "")]), "An instance has no class_id"),
        (goal_of(frame, objects=["x" * 100_000]), "There is no object"),
        (goal_of(frame, objects=["carton"] * 300), "at most"),
        (goal_of(frame, timeout=float("nan")), "The timeout is nan"),
        (goal_of(frame, timeout=-1.0), "The timeout is -1"),
        (
            Estimate.Goal(objects=["carton"], timeout=0.3),
            "Nothing was estimated within 0.3 s. No image has come",
        ),
    ]
    outside = goal_of(frame)
    outside.instances = [Instance2D(class_id="carton", roi=huge)]
    giant = goal_of(frame, [carton(frame)])
    giant.image.height = giant.image.width = 2**31
    return [*goals, (outside, "outside the 640x480 image"), (giant, "2147483648")]


def test_what_cannot_be_answered_is_told_in_a_sentence(asker, frame, node):
    for goal, sentence in hostile_goals(frame):
        status, result = asker.result(asker.send(goal), 30.0)
        assert status == ABORTED
        assert sentence in result.message
    assert "Traceback" not in node.log.read_text()


def add(client, name: str, mesh: str, data: bytes = b"", **more):
    request = AddObject.Request(name=name, mesh=mesh, data=array.array("B", data), **more)
    return client.call(AddObject, "add_object", request, 60.0)


@pytest.mark.parametrize(
    ("name", "mesh", "data", "sentence"),
    [
        ("../pot", "pot.ply", b"ply", "cannot be the name of an object"),
        ("pot", "../../etc/passwd.ply", b"", "no path below the objects folder"),
        ("pot", "/dev/zero", b"", "no path below the objects folder"),
        ("pot", "link.ply", b"", "leads out of the objects folder"),
        ("pot", "pot.ply", b"ply\nthis is none", "The mesh 'pot.ply' cannot be read"),
        ("pot", "pot.ply", b"\0" * (65 * 2**20), "The mesh has 65 MiB, and 64 are taken"),
        ("parcel", "pot.ply", b"ply", "There is an object or an alias 'parcel' already"),
    ],
)
def test_what_is_refused_changes_nothing(asker, objects_dir, name, mesh, data, sentence):
    link = objects_dir / "below" / "link.ply"
    link.parent.mkdir(exist_ok=True)
    if not link.is_symlink():
        link.symlink_to("/etc/hostname")
    before = sorted(objects_dir.rglob("*"))
    mesh = f"below/{mesh}" if mesh == "link.ply" else mesh
    response = add(asker.client, name, mesh, data)
    assert not response.success
    assert sentence in response.message
    assert sorted(objects_dir.rglob("*")) == before
    assert list(listed(asker.client)) == ["carton"]


def test_a_mesh_that_is_sent_gets_its_pose_while_others_are_answered(
    asker, frame, meshes, tmp_path, objects_dir
):
    client = asker.client
    save_mesh(meshes[1], tmp_path / "any.ply")
    response = add(client, "pot", "any.ply", (tmp_path / "any.ply").read_bytes(), unit="m")
    assert response.success, response.message
    assert (objects_dir / "pot.ply").is_file()
    answered = 0
    while listed(client)["pot"].state == "onboarding" if "pot" in listed(client) else True:
        poses = client.answer(client.send(*frame_of(frame), [carton(frame), pot(frame)])).poses
        assert "carton" in [pose.class_id for pose in poses]
        answered += 1
    assert answered
    assert listed(client)["pot"].state == "ready"
    poses = client.answer(client.send(*frame_of(frame), [carton(frame), pot(frame)])).poses
    by_name = {pose.class_id: pose for pose in poses}
    assert by_name.keys() == {"carton", "pot"}
    assert_right(by_name["pot"], frame[0].T_cam_obj[1])


def test_reloading_takes_what_is_new_and_keeps_what_cannot_be_replaced(asker, frame, objects_dir):
    client = asker.client
    good = (objects_dir / "carton.ply").read_bytes()
    (objects_dir / "objects.yaml").write_text("objects: [")
    answer = client.call(Trigger, "reload_objects", Trigger.Request())
    assert not answer.success
    assert "is not valid YAML" in answer.message
    (objects_dir / "objects.yaml").write_text(
        "objects:\n  carton: {unit: m, symmetry: {continuous: [{axis: z}]}}\n"
    )
    (objects_dir / "carton.ply").write_bytes(good[:300])
    (objects_dir / "pot.ply").unlink()
    try:
        answer = client.call(Trigger, "reload_objects", Trigger.Request())
        assert answer.success, answer.message
        assert client.spin_until(lambda: list(listed(client)) == ["carton"], 60.0)
        info = listed(client)["carton"]
        assert info.state == "ready"
        assert "'carton' goes on with the mesh it had" in info.reason
        assert "symmetries_continuous" in info.symmetry
        assert client.spin_until(lambda: "goes on with the mesh" in client.diagnosis()["message"], 10.0)
        answer = client.answer(client.send(*frame_of(frame), [carton(frame), pot(frame)]))
        assert [pose.class_id for pose in answer.poses] == ["carton"]
    finally:
        (objects_dir / "carton.ply").write_bytes(good)


def test_the_client_of_the_documentation_runs(asker, frame):
    """The box names its object itself; an image comes while the goal waits."""
    page = (Path(__file__).parents[2] / "docs" / "on_demand.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 18
    said: list[str] = []
    names = {"__name__": "example", "print": lambda *words: said.append(" ".join(map(str, words)))}
    thread = threading.Thread(target=exec, args=(code.replace("mug", "carton"), names))
    thread.start()
    deadline = time.monotonic() + 60.0
    while thread.is_alive() and time.monotonic() < deadline:
        asker.client.send(*frame_of(frame), [carton(frame)])
        thread.join(0.5)
    assert said
    assert said[-1].startswith("carton")


def test_deactivation_answers_open_goals(asker):
    handle = asker.send(Estimate.Goal(timeout=60.0))
    assert asker.client.change_state("deactivate")
    status, result = asker.result(handle, 10.0)
    assert status == ABORTED
    assert "The node is not active" in result.message
    status, result = asker.ask(Estimate.Goal())
    assert (status, "The node is not active" in result.message) == (ABORTED, True)
