"""Convert the package's own types to messages, by functions without node, clock or state."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, Transform, TransformStamped, Vector3
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from vpog_core.geometry.boxes import counts_of_box
from vpog_core.geometry.se3 import quaternion_xyzw, rotation_from_quaternion, transform
from vpog_core.types import Camera, Detection, PoseEstimate
from vpog_ros.image_conversion import mask_to_image
from vpog_ros.msg import Instance2D, ObjectPose


def camera_to_info(camera: Camera, header: Header) -> CameraInfo:
    """Return the CameraInfo of a camera."""
    info = CameraInfo(header=header, width=camera.width, height=camera.height)
    info.k = camera.K.ravel().tolist()
    info.d = camera.distortion.tolist() or [0.0] * 5
    info.distortion_model = camera.model
    info.r = np.eye(3).ravel().tolist()
    info.p = np.hstack([camera.K, np.zeros((3, 1))]).ravel().tolist()
    return info


def instance_from_detection(detection: Detection, header: Header) -> Instance2D:
    """Return the Instance2D of a detection: box grown to whole pixels, mask in the image's size."""
    x, y, width, height = counts_of_box(detection.box)
    message = Instance2D(
        class_id=detection.class_id, instance=detection.instance, score=float(detection.score)
    )
    message.roi = RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)
    if detection.mask is not None:
        message.mask = mask_to_image(detection.mask, header)
    return message


def pose_to_message(T: np.ndarray) -> Pose:
    """Return the geometry_msgs/Pose of a transform [4, 4]."""
    x, y, z, w = (float(value) for value in quaternion_xyzw(T[:3, :3]))
    position = Point(x=float(T[0, 3]), y=float(T[1, 3]), z=float(T[2, 3]))
    return Pose(position=position, orientation=Quaternion(x=x, y=y, z=z, w=w))


def pose_from_message(pose: Pose) -> np.ndarray:
    """Return the transform [4, 4] of a geometry_msgs/Pose."""
    q = pose.orientation
    R = rotation_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
    return transform(R, np.array([pose.position.x, pose.position.y, pose.position.z]))


def pose_stamped(estimate: PoseEstimate, header: Header) -> PoseStamped:
    """Return the PoseStamped of an estimate that has a pose."""
    return PoseStamped(header=header, pose=pose_to_message(estimate.T_cam_obj))


def object_pose(estimate: PoseEstimate) -> ObjectPose:
    """Return the ObjectPose of an estimate that has a pose; a covariance that is not known is zeros."""
    message = ObjectPose(class_id=estimate.class_id, instance=int(estimate.instance))
    message.pose.pose = pose_to_message(estimate.T_cam_obj)
    if estimate.covariance is not None:
        message.pose.covariance = np.asarray(estimate.covariance, np.float64).ravel()
    message.score = float(estimate.score)
    message.inliers = int(estimate.inliers)
    message.reprojection_error = float(estimate.reprojection_error)
    message.tracked, message.detected = bool(estimate.tracked), bool(estimate.detected)
    message.detection_age = float(estimate.detection_age)
    return message


def prefixed_name(estimate: PoseEstimate, prefix: str) -> str:
    """Return the name that an object has where there are no namespaces: on /tf and in a planning scene."""
    return f"{prefix}{estimate.class_id}_{estimate.instance}"


def transform_stamped(T: np.ndarray, header: Header, child_frame_id: str) -> TransformStamped:
    """Return the TransformStamped of T_header_child [4, 4]."""
    pose = pose_to_message(T)
    translation = Vector3(x=pose.position.x, y=pose.position.y, z=pose.position.z)
    content = Transform(translation=translation, rotation=pose.orientation)
    return TransformStamped(header=header, child_frame_id=child_frame_id, transform=content)


def triangle_points(vertices: np.ndarray, faces: np.ndarray) -> list[Point]:
    """Return the corners of a mesh's triangles, as a marker of type TRIANGLE_LIST has them."""
    return [Point(x=x, y=y, z=z) for x, y, z in vertices[faces].reshape(-1, 3).tolist()]


def mesh_marker(
    estimate: PoseEstimate, header: Header, corners: list[Point], number: int, lifetime_s: float
) -> Marker:
    """Return a marker without colour that shows triangles (metres) at the estimate's pose."""
    marker = Marker(
        header=header, ns=estimate.class_id, id=number, type=Marker.TRIANGLE_LIST, action=Marker.ADD
    )
    marker.pose = pose_to_message(estimate.T_cam_obj)
    marker.scale = Vector3(x=1.0, y=1.0, z=1.0)
    marker.points = corners
    marker.lifetime = Duration(sec=int(lifetime_s), nanosec=int(lifetime_s % 1 * 1e9))
    return marker
