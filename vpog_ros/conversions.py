"""Messages to the package's own types and back. Pure functions: no node, no clock, no state."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, Transform, TransformStamped, Vector3
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from vpog_core.geometry.camera_models import published_camera
from vpog_core.geometry.se3 import quaternion_xyzw, rotation_from_quaternion, transform
from vpog_core.types import Camera, Detection, PoseEstimate, VPOGError
from vpog_ros.image_conversion import mask_to_image, unpad
from vpog_ros.msg import Instance2D, ObjectPose


def stamp_to_ns(stamp) -> int:
    """Nanoseconds of a builtin_interfaces/Time."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def camera_from_info(info: CameraInfo, rectified: bool = False) -> Camera:
    """The calibrated camera of a CameraInfo, for the image as published: binning and region taken in.

    Args:
        rectified: the image is a rectified one: `P` holds and there is no distortion.

    Raises:
        VPOGError: not calibrated (zero focal length), a distortion model that is not known, or a calibration
            that cannot belong to the image.
    """
    K = np.array(info.p).reshape(3, 4)[:, :3] if rectified else np.array(info.k).reshape(3, 3)
    roi = info.roi
    return published_camera(
        K,
        info.width,
        info.height,
        distortion=() if rectified else np.array(info.d),
        model="" if rectified else info.distortion_model,
        binning=(info.binning_x, info.binning_y),
        roi=(roi.x_offset, roi.y_offset, roi.width, roi.height),
    )


def camera_to_info(camera: Camera, header: Header) -> CameraInfo:
    """The CameraInfo of a camera."""
    info = CameraInfo(header=header, width=camera.width, height=camera.height)
    info.k = camera.K.ravel().tolist()
    info.d = camera.distortion.tolist() or [0.0] * 5
    info.distortion_model = camera.model
    info.r = np.eye(3).ravel().tolist()
    info.p = np.hstack([camera.K, np.zeros((3, 1))]).ravel().tolist()
    return info


def detection_from_instance(instance: Instance2D, width: int, height: int) -> Detection:
    """One detection: box in pixels, pixel centres at integers, and mask [height, width] where there is one.

    Raises:
        VPOGError: the mask is neither of the image's nor of the box's size, or not mono8.
    """
    roi = instance.roi
    mask = mask_from_message(instance.mask, roi, width, height)
    box = np.array(
        [roi.x_offset, roi.y_offset, roi.x_offset + roi.width - 1, roi.y_offset + roi.height - 1], np.float64
    )
    if mask is not None and not (roi.width and roi.height):
        rows, columns = np.nonzero(mask)
        if rows.size:
            box = np.array([columns.min(), rows.min(), columns.max(), rows.max()], np.float64)
    return Detection(
        class_id=instance.class_id,
        box=box,
        score=float(instance.score),
        mask=mask,
        instance=int(instance.instance),
    )


def mask_from_message(message: Image, roi: RegionOfInterest, width: int, height: int) -> np.ndarray | None:
    """[height, width] bool of a mask message in the image's size or the box's, or None where it is empty."""
    if message.width == 0 and message.height == 0:
        return None
    packed = unpad(message)
    if packed.encoding != "mono8":
        raise VPOGError(f"A mask has the encoding '{message.encoding}': send mono8.")
    pixels = packed.data[: packed.height * packed.width].reshape(packed.height, packed.width) > 0
    if pixels.shape == (height, width):
        return pixels
    if pixels.shape != (roi.height, roi.width):
        raise VPOGError(
            f"A mask of {message.width}x{message.height} fits neither the {width}x{height} image "
            f"nor its {roi.width}x{roi.height} box: send one of these sizes."
        )
    mask = np.zeros((height, width), dtype=bool)
    inside = mask[roi.y_offset : roi.y_offset + roi.height, roi.x_offset : roi.x_offset + roi.width]
    inside[...] = pixels[: inside.shape[0], : inside.shape[1]]
    return mask


def instance_from_detection(detection: Detection, header: Header) -> Instance2D:
    """Our message of a detection; its box grown to whole pixels, its mask in the image's size."""
    low = np.maximum(np.floor(detection.box[:2]), 0).astype(int)
    high = np.maximum(np.ceil(detection.box[2:]), low).astype(int)
    message = Instance2D(
        class_id=detection.class_id, instance=detection.instance, score=float(detection.score)
    )
    message.roi = RegionOfInterest(
        x_offset=int(low[0]),
        y_offset=int(low[1]),
        width=int(high[0] - low[0] + 1),
        height=int(high[1] - low[1] + 1),
    )
    if detection.mask is not None:
        message.mask = mask_to_image(detection.mask, header)
    return message


def pose_to_message(T: np.ndarray) -> Pose:
    """geometry_msgs/Pose of a transform [4, 4]."""
    x, y, z, w = (float(value) for value in quaternion_xyzw(T[:3, :3]))
    position = Point(x=float(T[0, 3]), y=float(T[1, 3]), z=float(T[2, 3]))
    return Pose(position=position, orientation=Quaternion(x=x, y=y, z=z, w=w))


def pose_from_message(pose: Pose) -> np.ndarray:
    """Transform [4, 4] of a geometry_msgs/Pose."""
    q = pose.orientation
    R = rotation_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
    return transform(R, np.array([pose.position.x, pose.position.y, pose.position.z]))


def pose_stamped(estimate: PoseEstimate, header: Header) -> PoseStamped:
    """PoseStamped of an estimate that has a pose."""
    return PoseStamped(header=header, pose=pose_to_message(estimate.T_cam_obj))


def object_pose(estimate: PoseEstimate) -> ObjectPose:
    """Our message of an estimate that has a pose; a covariance that is not known is zeros."""
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


def transform_stamped(T: np.ndarray, header: Header, child_frame_id: str) -> TransformStamped:
    """TransformStamped of a transform [4, 4] that maps the child's points into the header's frame."""
    pose = pose_to_message(T)
    translation = Vector3(x=pose.position.x, y=pose.position.y, z=pose.position.z)
    content = Transform(translation=translation, rotation=pose.orientation)
    return TransformStamped(header=header, child_frame_id=child_frame_id, transform=content)


def mesh_marker(
    estimate: PoseEstimate, header: Header, mesh_uri: str, number: int, lifetime_s: float
) -> Marker:
    """A marker, colour left to set, that shows the mesh at `mesh_uri` (metres) at the estimate's pose."""
    marker = Marker(
        header=header, ns=estimate.class_id, id=number, type=Marker.MESH_RESOURCE, action=Marker.ADD
    )
    marker.pose = pose_to_message(estimate.T_cam_obj)
    marker.scale = Vector3(x=1.0, y=1.0, z=1.0)
    marker.mesh_resource = mesh_uri
    marker.lifetime = Duration(sec=int(lifetime_s), nanosec=int(lifetime_s % 1 * 1e9))
    return marker
