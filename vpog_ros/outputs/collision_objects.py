"""Publish the objects as MoveIt's collision objects: add, move and remove them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import Point, Pose
from std_msgs.msg import Header

from vpog_core.inference.constraint_settings import object_names
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.mesh_simplification import simplify
from vpog_core.types import PoseEstimate
from vpog_ros import optional
from vpog_ros.conversions import pose_to_message, prefixed_name
from vpog_ros.parameters import Settings

MAX_TRIANGLES = 1000
"""Triangles of a collision object; meshes of more are simplified, as planners test each pose of the robot
against them."""


@dataclass(frozen=True)
class InScene:
    """Holds an object of the scene: its class, when it had its last pose, seconds, and the pose's header."""

    class_id: str
    posed_s: float
    header: Header


class CollisionObjects:
    """Tells MoveIt's planning scene of the objects, on a topic of moveit_msgs/CollisionObject.

    An object is added with its mesh once, and moved from then on; on request it is added each time, as the
    scene may have changed in between. It is removed where it has had no pose for `collision_object_lifetime`,
    and by `clear`. Where publishing is turned off the scene stays as it is, and so does each object that is
    in `held_objects`: the robot has attached it to itself, or is about to.

    Args:
        publisher: of moveit_msgs/CollisionObject.
        library: of the objects' meshes and names.
        clock: seconds, steady.
    """

    def __init__(
        self, publisher, library: ObjectLibrary, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._publisher, self._library, self._clock = publisher, library, clock
        self._in_scene: dict[str, InScene] = {}
        self._told: set[str] = set()
        """Objects that every planning scene that subscribes has been sent the mesh of."""
        self._prefix = ""
        self._shapes: dict[str, object] = {}
        self._subscribers = 0

    def use(self, library: ObjectLibrary, changed: Collection[str], settings: Settings) -> None:
        """Replace the library; objects whose mesh has changed, or is gone, are removed from the scene."""
        self.forget_unpublished(settings)
        self._library = library
        for class_id in changed:
            self._shapes.pop(class_id, None)
        self._remove([name for name, item in self._in_scene.items() if item.class_id in changed])

    def unknown_held(self, settings: Settings) -> list[str]:
        """Return the names in `held_objects` that are neither an object's nor that of one in the scene."""
        ids = self._library.ids
        unknown = []
        for name in object_names(settings.held_objects):
            class_id, _, number = name.removeprefix(settings.tf_prefix).rpartition("_")
            is_one = class_id in ids and number.isdecimal()
            if not is_one and self._library.name_of(name) not in ids:
                unknown.append(name)
        return unknown

    def publish(
        self,
        estimates: list[PoseEstimate],
        header: Header,
        settings: Settings,
        requested: Collection[str] | None = None,
    ) -> None:
        """Publish the objects of an image, and remove those that have had no pose for long.

        Args:
            estimates: those that have a pose; header: of their frame.
            requested: the classes that a request has looked for, empty: all; None: without a request.
        """
        now = self._clock()
        if settings.tf_prefix != self._prefix:
            # What is in the scene has the names of before.
            self.clear(settings)
            self._prefix = settings.tf_prefix
        if settings.publish_collision_objects:
            named = [(prefixed_name(e, settings.tf_prefix), e) for e in estimates]
            free = [(name, e) for name, e in named if not self._is_held(name, e.class_id, settings)]
            self._add_or_move(free, header, now, may_move=requested is None)
        self.remove_old(settings, requested or (), now)

    def remove_old(
        self, settings: Settings, class_ids: Collection[str] = (), now: float | None = None
    ) -> None:
        """Remove objects that have had no pose for long; forget those that are not to be published.

        Args:
            class_ids: the classes whose objects are removed; empty: all.
            now: seconds of the clock; None: read it.
        """
        self.forget_unpublished(settings)
        oldest = (self._clock() if now is None else now) - settings.collision_object_lifetime
        self._remove(
            name
            for name, item in list(self._in_scene.items())
            if item.posed_s < oldest and (not class_ids or item.class_id in class_ids)
        )

    def forget_unpublished(self, settings: Settings) -> None:
        """Forget objects of the scene that are not to be published: they may change from then on."""
        for name, item in list(self._in_scene.items()):
            if not settings.publish_collision_objects or self._is_held(name, item.class_id, settings):
                self._in_scene.pop(name, None)

    def clear(self, settings: Settings) -> None:
        """Remove all objects, where publishing is on."""
        self.forget_unpublished(settings)
        self._remove(list(self._in_scene))

    def _is_held(self, name: str, class_id: str, settings: Settings) -> bool:
        """Tell whether the robot holds an object, given by its name in the scene and its class."""
        held = {self._library.name_of(given) for given in object_names(settings.held_objects)}
        return not held.isdisjoint((name, name.removeprefix(settings.tf_prefix), class_id))

    def _add_or_move(
        self, estimates: list[tuple[str, PoseEstimate]], header: Header, now: float, may_move: bool
    ) -> None:
        """Add or move objects, given with their names in the scene."""
        # A planning scene that subscribes late has none of the objects.
        subscribers = self._publisher.get_subscription_count()
        if not may_move or subscribers > self._subscribers:
            self._told.clear()
        self._subscribers = subscribers
        for name, estimate in estimates:
            message = self._message(name, header)
            message.pose = pose_to_message(estimate.T_cam_obj)
            if name in self._told and name in self._in_scene:
                message.operation = optional.CollisionObject.MOVE
            else:
                message.operation = optional.CollisionObject.ADD
                message.meshes, message.mesh_poses = [self._shape(estimate.class_id)], [Pose()]
            self._publisher.publish(message)
            self._told.add(name)
            self._in_scene[name] = InScene(estimate.class_id, now, header)

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            message = self._message(name, self._in_scene.pop(name).header)
            message.operation = optional.CollisionObject.REMOVE
            self._publisher.publish(message)

    @staticmethod
    def _message(name: str, header: Header):
        message = optional.CollisionObject()
        message.header, message.id = header, name
        return message

    def _shape(self, class_id: str):
        """Return the shape_msgs/Mesh of an object, in its own frame."""
        if class_id not in self._shapes:
            mesh = self._library.mesh(class_id)
            self._shapes[class_id] = shape_of(*simplify(mesh.vertices, mesh.faces, MAX_TRIANGLES))
        return self._shapes[class_id]


def shape_of(vertices: np.ndarray, faces: np.ndarray):
    """Return the shape_msgs/Mesh of triangles: vertices [V, 3] in metres, faces [F, 3]."""
    shape = optional.ShapeMesh()
    shape.vertices = [Point(x=x, y=y, z=z) for x, y, z in vertices.tolist()]
    shape.triangles = [optional.MeshTriangle(vertex_indices=np.asarray(f, np.uint32)) for f in faces]
    return shape
