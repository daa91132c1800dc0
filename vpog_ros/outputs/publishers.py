"""Publish the results of a frame."""

from __future__ import annotations

import math
import time
from collections.abc import Collection

import numpy as np
from geometry_msgs.msg import Point, PoseStamped
from rclpy.qos import HistoryPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from vpog_core.objects.mesh_simplification import simplify
from vpog_core.types import Camera, PoseEstimate, VPOGError
from vpog_core.visualization.estimate_drawing import estimate_drawings, marker_colour
from vpog_core.visualization.flow_image import draw_match
from vpog_core.visualization.overlay import draw_poses
from vpog_ros import optional, parameters
from vpog_ros.conversions import (
    mesh_marker,
    object_pose,
    pose_stamped,
    pose_to_message,
    prefixed_name,
    transform_stamped,
    triangle_points,
)
from vpog_ros.frame_lookup import Transforms
from vpog_ros.msg import ObjectPoseArray
from vpog_ros.notices import Notices
from vpog_ros.outputs.collision_objects import CollisionObjects
from vpog_ros.outputs.images import ImageOutput
from vpog_ros.outputs.object_topics import ObjectTopics
from vpog_ros.outputs.wanted import is_wanted
from vpog_ros.parameters import Settings
from vpog_ros.target_frame import TargetFrame

OVERRIDABLE = (
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
)
"""Policies of the outputs that parameters `qos_overrides.<topic>.publisher.<policy>` may set."""
TRACKED_MATCHES_S = 1.0
"""Seconds from one flow image of tracked objects to the next."""


class Publishers:
    """Holds the node's publishers, from configure to cleanup; silent while the node is inactive."""

    def __init__(self, node, library, transforms: Transforms, notices: Notices) -> None:
        """Create the publishers.

        Args:
            node: the lifecycle node.
            library: the estimator's ObjectLibrary, for meshes.
            transforms: for target_frame.
            notices: told where the target object is no longer there.

        Raises:
            VPOGError: target_frame is set and cannot be used.
        """
        self._target_frame = TargetFrame(transforms, parameters.read(node).target_frame)
        self._node, self._notices = node, notices
        self._library = library
        self._all = []
        self.pose = self._create(PoseStamped, "~/pose")
        self.poses = self._create(ObjectPoseArray, "~/poses")
        self.flow_image = ImageOutput(self._create, "~/flow_image")
        self.overlay_image = ImageOutput(self._create, "~/overlay_image")
        self.markers = self._create(MarkerArray, "~/markers")
        self.tf = self._create(optional.TFMessage, "/tf", depth=100) if optional.TFMessage else None
        self.detections_3d = None
        if optional.Detection3DArray:
            self.detections_3d = self._create(optional.Detection3DArray, "~/detections_3d")
        self.collision_objects = None
        if optional.CollisionObject:
            # The name of the topic that MoveIt's planning scene subscribes to.
            publisher = self._create(optional.CollisionObject, "collision_object", depth=100)
            self.collision_objects = CollisionObjects(publisher, library)
        self._shown: set[tuple[str, int]] = set()
        self._tracked_matches_s = -math.inf
        self._triangles: dict[tuple[str, int], list[Point]] = {}
        self._objects = ObjectTopics(self._create_now, node.get_logger().info)

    def _create(self, message_type, topic: str, depth: int = 10):
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=ReliabilityPolicy.RELIABLE)
        publisher = self._node.create_lifecycle_publisher(
            message_type, topic, qos, qos_overriding_options=QoSOverridingOptions(OVERRIDABLE)
        )
        self._all.append(publisher)
        return publisher

    def _create_now(self, message_type, topic: str):
        """Create a publisher while the node is active already."""
        publisher = self._create(message_type, topic)
        publisher.on_activate(None)
        return publisher

    def destroy(self) -> None:
        """Destroy the publishers."""
        self.clear_scene()
        for publisher in self._all:
            self._node.destroy_lifecycle_publisher(publisher)
        self._all.clear()

    def use(self, library, changed: Collection[str]) -> None:
        """Replace the library whose meshes are shown; objects of other meshes than before are `changed`."""
        self._library = library
        self._triangles.clear()
        if self.collision_objects is not None:
            self.collision_objects.use(library, changed, parameters.read(self._node))

    def in_target_frame(
        self, estimates: list[PoseEstimate], header: Header
    ) -> tuple[list[PoseEstimate], Header]:
        """Transform the poses of an image into target_frame; see `TargetFrame.of`."""
        return self._target_frame.of(estimates, header, parameters.read(self._node).transform_timeout)

    def target_frame_trouble(self, header: Header) -> str:
        """Return why the poses of an image cannot be given in target_frame yet, or ""."""
        return self._target_frame.trouble(header)

    def publish_poses(
        self,
        estimates: list[PoseEstimate],
        header: Header,
        settings: Settings,
        requested: Collection[str] | None = None,
    ) -> None:
        """Publish what is not an image: poses, frames, 3D detections, collision objects, markers.

        Args:
            estimates: those that have a pose and are to be published.
            header: of their image.
            requested: the classes that a request has looked for, empty: all; None: without a request.

        Raises:
            VPOGError: the poses cannot be given in target_frame, and are not published.
        """
        # Transform the poses into the frame they are published in.
        estimates, header = self.in_target_frame(estimates, header)
        # Publish all poses, the target object's, and those of single objects.
        self.poses.publish(ObjectPoseArray(header=header, poses=[object_pose(e) for e in estimates]))
        target = self._target(estimates, settings.target_object)
        if target is not None:
            self.pose.publish(pose_stamped(target, header))
        self._objects.publish(estimates, header, self._library.ids)
        # Publish what needs other packages, where these are installed.
        if self.tf is not None and settings.publish_tf and estimates and header.frame_id:
            self.tf.publish(
                optional.TFMessage(transforms=[self._frame(e, header, settings) for e in estimates])
            )
        if self.detections_3d is not None:
            boxes = [self._detection_3d(e, header) for e in estimates]
            self.detections_3d.publish(optional.Detection3DArray(header=header, detections=boxes))
        if self.collision_objects is not None:
            self.collision_objects.publish(estimates, header, settings, requested)
            self._notices.warn_while("held_objects", _unknown(self.collision_objects.unknown_held(settings)))
        # Publish markers, which hold meshes, only where they are wanted.
        if is_wanted(self.markers):
            shown = self._markers(estimates, header, settings)
            self.markers.publish(MarkerArray(markers=[*self._gone(shown, header), *shown]))

    def publish_images(
        self,
        image: np.ndarray,
        camera: Camera,
        estimates: list[PoseEstimate],
        header: Header,
        settings: Settings,
    ) -> None:
        """Draw and publish the images that are wanted.

        Args:
            image: [H, W, 3] uint8 RGB.
            estimates: all, also those without a pose; poses under min_score are drawn grey.
        """
        if self.overlay_image.is_wanted:
            drawings = estimate_drawings(estimates, self._library, settings.min_score)
            overlay = draw_poses(image, camera, drawings)
            self.overlay_image.publish(overlay, header, settings.jpeg_quality)
        if self.flow_image.is_wanted:
            rows = [draw_match(e.match) for e in self._with_matches(estimates) if e.match is not None]
            if rows:
                self.flow_image.publish(np.vstack(rows), header, settings.jpeg_quality)

    def _with_matches(self, estimates: list[PoseEstimate]) -> list[PoseEstimate]:
        """Choose the estimates whose matches are drawn: those found by matching, and, at times, all.

        A tracked pose is found without a match. Making one takes longer than tracking the object, so that it
        is done only every `TRACKED_MATCHES_S` seconds.
        """
        if time.monotonic() - self._tracked_matches_s < TRACKED_MATCHES_S:
            return [e for e in estimates if not e.tracked]
        self._tracked_matches_s = time.monotonic()
        return estimates

    def _target(self, estimates: list[PoseEstimate], target_object: str) -> PoseEstimate | None:
        gone = ""
        if target_object:
            try:
                target_id = self._library.resolve(target_object)
            except VPOGError as error:
                target_id, gone = None, f"No pose goes to ~/pose, as target_object is not there: {error}"
            estimates = [e for e in estimates if e.class_id == target_id]
        self._notices.warn_while("target_object", gone)
        return max(estimates, key=lambda e: e.score, default=None)

    def update_scene(self, on_demand: bool) -> None:
        """Remove objects from MoveIt's planning scene that have had no pose for long.

        Objects that were found on request stay until a request looks for them again.
        """
        if self.collision_objects is None:
            return
        settings = parameters.read(self._node)
        if on_demand:
            self.collision_objects.forget_unpublished(settings)
        else:
            self.collision_objects.remove_old(settings)

    @staticmethod
    def _frame(estimate: PoseEstimate, header: Header, settings: Settings):
        return transform_stamped(estimate.T_cam_obj, header, prefixed_name(estimate, settings.tf_prefix))

    def _markers(self, estimates: list[PoseEstimate], header: Header, settings: Settings) -> list[Marker]:
        markers = []
        for estimate in estimates:
            corners = self._corners(estimate.class_id, settings.marker_triangles)
            marker = mesh_marker(estimate, header, corners, estimate.instance, settings.marker_lifetime)
            marker.color = ColorRGBA(**marker_colour(self._library.ids, estimate))
            markers.append(marker)
        return markers

    def _gone(self, shown: list[Marker], header: Header) -> list[Marker]:
        """Return markers that delete those of the last frame that are not shown now."""
        before, self._shown = self._shown, {(marker.ns, marker.id) for marker in shown}
        gone = sorted(before - self._shown)
        return [Marker(header=header, ns=ns, id=number, action=Marker.DELETE) for ns, number in gone]

    def clear_scene(self) -> None:
        """Delete the meshes in RViz and in MoveIt's planning scene, as no later message would."""
        self._shown = set()
        if self.markers.is_activated:
            self.markers.publish(MarkerArray(markers=[Marker(action=Marker.DELETEALL)]))
            if self.collision_objects is not None:
                self.collision_objects.clear(parameters.read(self._node))

    def _corners(self, class_id: str, max_triangles: int) -> list[Point]:
        """Return the triangles of an object's mesh: the message holds them, as RViz may run elsewhere."""
        key = (class_id, max_triangles)
        if key not in self._triangles:
            mesh = self._library.mesh(class_id)
            self._triangles[key] = triangle_points(*simplify(mesh.vertices, mesh.faces, max_triangles))
        return self._triangles[key]

    def _detection_3d(self, estimate: PoseEstimate, header: Header):
        """Return a vision_msgs/Detection3D: the object's pose, and the mesh's extents as its box."""
        mesh = self._library.mesh(estimate.class_id)
        low, high = mesh.bounds
        T_cam_box = estimate.T_cam_obj.copy()
        T_cam_box[:3, 3] += estimate.T_cam_obj[:3, :3] @ mesh.center
        message = optional.Detection3D(header=header, id=str(estimate.instance))
        result = optional.ObjectHypothesisWithPose()
        result.hypothesis.class_id = estimate.class_id
        result.hypothesis.score = float(estimate.score)
        result.pose = object_pose(estimate).pose
        message.results = [result]
        message.bbox.center = pose_to_message(T_cam_box)
        message.bbox.size.x, message.bbox.size.y, message.bbox.size.z = (float(v) for v in high - low)
        return message


def _unknown(held: list[str]) -> str:
    """Return the sentence on names in `held_objects` that no object has, or ""."""
    if not held:
        return ""
    return (
        f"held_objects has {', '.join(held)}, and there is no such object: give its class, or its name in "
        "the planning scene, such as mug_0."
    )
