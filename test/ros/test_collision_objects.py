"""Test the planning scene; stand-ins have the fields of moveit_msgs, which may not be installed."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from std_msgs.msg import Header

from vpog_core.geometry.se3 import transform
from vpog_core.synthetic.objects import make_object
from vpog_core.types import PoseEstimate
from vpog_ros import optional
from vpog_ros.outputs.collision_objects import MAX_TRIANGLES, CollisionObjects
from vpog_ros.parameters import Settings, problem

ON = Settings(publish_collision_objects=True, collision_object_lifetime=2.0)
HEADER = Header(frame_id="base_link")


class CollisionObject(SimpleNamespace):
    ADD, REMOVE, APPEND, MOVE = b"\x00", b"\x01", b"\x02", b"\x03"

    def __init__(self) -> None:
        super().__init__(header=None, pose=None, id="", meshes=[], mesh_poses=[], operation=b"\x00")


class ShapeMesh(SimpleNamespace):
    pass


class MeshTriangle(SimpleNamespace):
    pass


class Scene(list):
    """Does with the messages what MoveIt does: the objects that are there, by their ids."""

    subscribers = 1

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict = {}

    def get_subscription_count(self) -> int:
        return self.subscribers

    def publish(self, message) -> None:
        self.append(message)
        if message.operation == CollisionObject.REMOVE:
            # An empty id would remove all that others have put there.
            assert message.id
            del self.objects[message.id]
        elif message.operation == CollisionObject.MOVE:
            # MoveIt warns of geometry that comes with a move, and moves nothing that it does not know.
            assert not message.meshes
            self.objects[message.id].pose = message.pose
        else:
            self.objects[message.id] = message


@pytest.fixture(autouse=True)
def moveit(monkeypatch):
    for item in (CollisionObject, ShapeMesh, MeshTriangle):
        monkeypatch.setattr(optional, item.__name__, item)


@pytest.fixture(scope="module")
def mesh():
    return make_object(900_031, vertices=4000)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def clock():
    return SimpleNamespace(now=0.0)


def library_of(mesh) -> SimpleNamespace:
    """Return a library of mug and can; "cup" is an alias."""
    aliases = {"cup": "mug"}
    return SimpleNamespace(
        ids=["can", "mug"], mesh=lambda class_id: mesh, name_of=lambda name: aliases.get(name, name)
    )


@pytest.fixture
def objects(scene, mesh, clock) -> CollisionObjects:
    return CollisionObjects(scene, library_of(mesh), lambda: clock.now)


OFF = dataclasses.replace(ON, publish_collision_objects=False)


def can(x: float) -> PoseEstimate:
    return PoseEstimate("can", 0, transform(np.eye(3), [x, 0, 0.5]), 0.9)


def mug(x: float, number: int = 0) -> PoseEstimate:
    return PoseEstimate("mug", number, transform(np.eye(3), [x, 0, 0.5]), 0.9)


def test_objects_come_move_and_go(objects, scene, clock, mesh):
    objects.publish([mug(0.1), mug(0.4, 1)], HEADER, ON)
    assert sorted(scene.objects) == ["mug_0", "mug_1"]
    assert {m.header.frame_id for m in scene} == {"base_link"}
    (shape,) = scene.objects["mug_0"].meshes
    assert 50 < len(shape.triangles) <= MAX_TRIANGLES
    corners = np.array([[p.x, p.y, p.z] for p in shape.vertices])
    assert max(t.vertex_indices.max() for t in shape.triangles) < len(corners)
    # As large as the mesh, but for the cells that its points are merged in.
    np.testing.assert_allclose(np.ptp(corners, axis=0), np.ptp(mesh.bounds, axis=0), rtol=0.1)
    for second in (1.0, 2.0, 3.0):
        clock.now = second
        objects.publish([mug(0.1 + second)], HEADER, ON)
    assert scene[2].operation == CollisionObject.MOVE
    assert scene.objects["mug_0"].pose.position.x == pytest.approx(3.1)
    # The other was seen last three seconds ago.
    assert sorted(scene.objects) == ["mug_0"]
    objects.clear(ON)
    assert not scene.objects


def test_a_planning_scene_that_starts_late_is_told_all(objects, scene):
    objects.publish([mug(0.1)], HEADER, ON)
    scene.objects.clear()
    scene.subscribers = 2
    objects.publish([mug(0.2)], HEADER, ON)
    assert scene.objects["mug_0"].meshes


@pytest.mark.parametrize("first", [[mug(0.2)], []], ids=["one of two", "none"])
def test_a_late_planning_scene_is_told_of_objects_that_the_next_image_does_not_show(objects, scene, first):
    both = [mug(0.1), mug(0.4, 1)]
    objects.publish(both, HEADER, ON)
    scene.objects.clear()
    scene.subscribers = 2
    for estimates in (first, both, both):
        objects.publish(estimates, HEADER, ON)
    assert sorted(scene.objects) == ["mug_0", "mug_1"]
    assert all(item.meshes for item in scene.objects.values())


def test_a_lifetime_of_zero_keeps_what_was_just_found(scene, mesh):
    ticks = iter(np.arange(0.0, 1.0, 1e-6))
    objects = CollisionObjects(scene, library_of(mesh), lambda: next(ticks))
    at_once = dataclasses.replace(ON, collision_object_lifetime=0.0)
    objects.publish([mug(0.1)], HEADER, at_once, requested={"mug"})
    assert list(scene.objects) == ["mug_0"]
    objects.publish([], HEADER, at_once, requested={"mug"})
    assert not scene.objects


def test_another_prefix_takes_the_place_of_the_one_before(objects, scene):
    objects.publish([mug(0.1)], HEADER, ON)
    objects.publish([mug(0.2)], HEADER, dataclasses.replace(ON, tf_prefix="arm_"))
    assert list(scene.objects) == ["arm_mug_0"]


def test_nothing_is_published_unless_asked_and_turning_it_off_leaves_the_scene(objects, scene):
    off = Settings(publish_collision_objects=False)
    objects.publish([mug(0.1)], HEADER, off)
    assert not scene
    objects.publish([mug(0.1)], HEADER, ON)
    objects.publish([mug(0.3)], HEADER, off)
    assert len(scene) == 1
    # The robot has taken it meanwhile, and put it down again.
    scene.objects.clear()
    objects.publish([mug(0.4)], HEADER, ON)
    assert scene.objects["mug_0"].meshes


def test_an_object_goes_when_no_image_comes_any_more(objects, scene, clock):
    objects.publish([mug(0.1)], HEADER, ON)
    clock.now = 1.9
    objects.remove_old(ON)
    assert list(scene.objects) == ["mug_0"]
    clock.now = 2.1
    objects.remove_old(ON)
    assert not scene.objects


def test_turned_off_between_two_images_it_leaves_the_scene_and_adds_anew(objects, scene):
    off = Settings(publish_collision_objects=False)
    objects.publish([mug(0.1)], HEADER, ON)
    objects.remove_old(off)
    objects.clear(off)
    assert list(scene.objects) == ["mug_0"]
    # The stack attaches the object and takes it out of the world.
    scene.objects.clear()
    objects.publish([mug(0.3)], HEADER, ON)
    assert scene.objects["mug_0"].meshes


@pytest.mark.parametrize("held", ["front_mug_0", "mug_0", "mug", "cup"])
def test_what_is_held_may_be_named_with_the_prefix_or_without(objects, scene, held):
    front = dataclasses.replace(ON, tf_prefix="front_", held_objects=held)
    objects.publish([mug(0.1), can(0.3)], HEADER, front)
    assert list(scene.objects) == ["front_can_0"]
    assert objects.unknown_held(front) == []


@pytest.mark.parametrize("held", ["mug_0", "mug", "cup", "can_7, mug_0"])
def test_what_the_robot_holds_is_left_alone_and_added_when_it_is_put_down(objects, scene, clock, held):
    holding = dataclasses.replace(ON, held_objects=held)
    objects.publish([mug(0.1), can(0.3)], HEADER, ON)
    # The stack attaches the mug and takes it out of the world; the camera still sees it.
    del scene.objects["mug_0"]
    for second in (1.0, 2.0, 60.0):
        clock.now = second
        objects.publish([mug(0.2), can(0.3 + second)], HEADER, holding)
        objects.publish([mug(0.2)], HEADER, holding, requested={"mug"})
    assert list(scene.objects) == ["can_0"]
    assert scene.objects["can_0"].pose.position.x == pytest.approx(60.3)
    objects.clear(holding)
    assert not scene.objects
    objects.publish([mug(0.5)], HEADER, ON)
    assert scene.objects["mug_0"].meshes


def test_one_of_two_alike_is_held(objects, scene):
    objects.publish([mug(0.1), mug(0.4, 1)], HEADER, ON)
    objects.publish([mug(0.2), mug(0.5, 1)], HEADER, dataclasses.replace(ON, held_objects="mug_1"))
    places = {name: item.pose.position.x for name, item in scene.objects.items()}
    assert places == {"mug_0": pytest.approx(0.2), "mug_1": pytest.approx(0.4)}


def test_held_objects_that_are_not_there_are_named(objects):
    def unknown(held: str) -> list[str]:
        return objects.unknown_held(dataclasses.replace(ON, held_objects=held, tf_prefix="front_"))

    assert unknown("") == unknown("mug, cup, front_can_0, can_12") == []
    assert unknown("mug, mgu, front_mgu_0, mugs, mug_left") == ["mgu", "front_mgu_0", "mugs", "mug_left"]


def test_two_cameras_tell_their_objects_apart(objects, scene):
    objects.publish([mug(0.1)], HEADER, dataclasses.replace(ON, tf_prefix="front_"))
    assert list(scene.objects) == ["front_mug_0"]


def test_objects_read_anew_are_added_with_their_new_mesh_and_others_stay(objects, scene):
    objects.publish([mug(0.1), can(0.3)], HEADER, ON)
    before = len(scene.objects["mug_0"].meshes[0].vertices)
    objects.use(library_of(make_object(900_031, vertices=200)), {"mug"}, ON)
    assert list(scene.objects) == ["can_0"]
    objects.publish([mug(0.1)], HEADER, ON)
    assert len(scene.objects["mug_0"].meshes[0].vertices) != before
    # Turned off, the scene stays as it is.
    objects.use(library_of(make_object(900_031)), {"can"}, OFF)
    assert "can_0" in scene.objects


def test_what_is_requested_is_added_each_time_as_the_scene_may_have_changed(objects, scene):
    objects.publish([mug(0.1)], HEADER, ON, requested={"mug"})
    # MoveIt starts again, or the robot has taken the object.
    scene.objects.clear()
    objects.publish([mug(0.2)], HEADER, ON, requested={"mug"})
    assert scene.objects["mug_0"].meshes
    assert scene.objects["mug_0"].pose.position.x == pytest.approx(0.2)


def test_a_request_for_one_object_leaves_the_others(objects, scene, clock):
    objects.publish([mug(0.1), can(0.3)], HEADER, ON, requested=())
    clock.now = 60.0
    objects.publish([], HEADER, ON, requested={"mug"})
    assert list(scene.objects) == ["can_0"]
    objects.publish([], HEADER, ON, requested=())
    assert not scene.objects


def test_turned_off_between_two_requests_it_leaves_the_scene(objects, scene, clock):
    objects.publish([mug(0.1)], HEADER, ON, requested=())
    objects.forget_unpublished(ON)
    objects.forget_unpublished(OFF)
    clock.now = 60.0
    objects.publish([], HEADER, ON, requested=())
    assert list(scene.objects) == ["mug_0"]


def test_without_moveit_msgs_it_is_refused_in_a_sentence(monkeypatch):
    assert problem("publish_collision_objects", True) == ""
    monkeypatch.setattr(optional, "CollisionObject", None)
    assert "moveit_msgs is not installed: install it" in problem("publish_collision_objects", True)
    assert problem("publish_collision_objects", False) == ""
    assert any(
        "moveit_msgs is not installed: publish_collision_objects" in s for s in optional.missing_features()
    )
