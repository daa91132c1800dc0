"""Publish the objects as MoveIt's collision objects: add, move and remove them."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from geometry_msgs.msg import Point, Pose
from std_msgs.msg import Header

from vpog_core.objects.mesh_simplification import simplify
from vpog_core.types import PoseEstimate
from vpog_ros import optional
from vpog_ros.conversions import pose_to_message, prefixed_name
from vpog_ros.parameters import Settings

MAX_TRIANGLES = 1000
"""Triangles of a collision object; meshes of more are simplified, as planners test each pose of the robot
against them."""


class CollisionObjects:
    """Tells MoveIt's planning scene of the objects, on a topic of moveit_msgs/CollisionObject.

    An object is added with its mesh once, and moved from then on. It is removed where it has had no pose for
    `collision_object_lifetime`, and by `clear`. Where publishing is turned off, the scene stays as it is: the
    robot may then attach an object of it.

    Args:
        publisher: of moveit_msgs/CollisionObject.
        mesh_of: gives the mesh of an object.
        clock: seconds, steady.
    """

    def __init__(self, publisher, mesh_of: Callable, clock: Callable[[], float] = time.monotonic) -> None:
        self._publisher, self._mesh_of, self._clock = publisher, mesh_of, clock
        self._seen: dict[str, tuple[float, Header]] = {}
        self._shapes: dict[str, object] = {}
        self._subscribers = 0

    def use(self, mesh_of: Callable) -> None:
        """Replace the library; the objects are added again with its meshes."""
        self._mesh_of = mesh_of
        self._shapes.clear()
        self._remove(list(self._seen))

    def publish(self, estimates: list[PoseEstimate], header: Header, settings: Settings) -> None:
        """Publish the objects of an image, and remove those that have had no pose for long.

        Args:
            estimates: those that have a pose; header: of their frame.
        """
        if settings.publish_collision_objects:
            self._add_or_move(estimates, header, settings.tf_prefix)
        self.remove_old(settings)

    def remove_old(self, settings: Settings) -> None:
        """Remove objects that have had no pose for long; forget all where publishing is turned off."""
        if not settings.publish_collision_objects:
            self._seen.clear()
        oldest = self._clock() - settings.collision_object_lifetime
        self._remove([name for name, (seen, _) in self._seen.items() if seen < oldest])

    def clear(self, settings: Settings) -> None:
        """Remove all objects, where publishing is on."""
        if settings.publish_collision_objects:
            self._remove(list(self._seen))
        self._seen.clear()

    def _add_or_move(self, estimates: list[PoseEstimate], header: Header, prefix: str) -> None:
        # A planning scene that subscribes late has none of the objects.
        subscribers = self._publisher.get_subscription_count()
        is_known = subscribers <= self._subscribers
        self._subscribers = subscribers
        for estimate in estimates:
            name = prefixed_name(estimate, prefix)
            message = self._message(name, header)
            message.pose = pose_to_message(estimate.T_cam_obj)
            if is_known and name in self._seen:
                message.operation = optional.CollisionObject.MOVE
            else:
                message.operation = optional.CollisionObject.ADD
                message.meshes, message.mesh_poses = [self._shape(estimate.class_id)], [Pose()]
            self._publisher.publish(message)
            self._seen[name] = (self._clock(), header)

    def _remove(self, names: list[str]) -> None:
        for name in names:
            _, header = self._seen.pop(name)
            message = self._message(name, header)
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
            mesh = self._mesh_of(class_id)
            self._shapes[class_id] = shape_of(*simplify(mesh.vertices, mesh.faces, MAX_TRIANGLES))
        return self._shapes[class_id]


def shape_of(vertices: np.ndarray, faces: np.ndarray):
    """Return the shape_msgs/Mesh of triangles: vertices [V, 3] in metres, faces [F, 3]."""
    shape = optional.ShapeMesh()
    shape.vertices = [Point(x=x, y=y, z=z) for x, y, z in vertices.tolist()]
    shape.triangles = [optional.MeshTriangle(vertex_indices=np.asarray(f, np.uint32)) for f in faces]
    return shape
