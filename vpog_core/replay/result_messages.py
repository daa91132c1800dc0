"""Make messages of results as the node publishes them, without ROS."""

from __future__ import annotations

import numpy as np

from vpog_core.geometry.boxes import counts_of_box
from vpog_core.geometry.se3 import quaternion_xyzw
from vpog_core.replay.message_types import own_typestore
from vpog_core.types import Camera, Detection, PoseEstimate


def make(kind: str, **fields):
    """Make a message of a type such as `geometry_msgs/msg/Point` from all of its fields."""
    return own_typestore().types[kind](**fields)


def serialized(message) -> bytes:
    """Serialize a message as DDS does."""
    return bytes(own_typestore().serialize_cdr(message, message.__msgtype__))


def header(stamp_ns: int, frame_id: str):
    """Make a std_msgs/Header."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def pose(T: np.ndarray):
    """Make a geometry_msgs/Pose of a transform [4, 4]."""
    x, y, z, w = (float(value) for value in quaternion_xyzw(T[:3, :3]))
    position = make("geometry_msgs/msg/Point", x=float(T[0, 3]), y=float(T[1, 3]), z=float(T[2, 3]))
    orientation = make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
    return make("geometry_msgs/msg/Pose", position=position, orientation=orientation)


def pose_stamped(estimate: PoseEstimate, head):
    """Make a geometry_msgs/PoseStamped of an estimate that has a pose."""
    return make("geometry_msgs/msg/PoseStamped", header=head, pose=pose(estimate.T_cam_obj))


def object_pose_array(estimates: list[PoseEstimate], head):
    """Make a vpog_ros/ObjectPoseArray of estimates that have a pose."""
    return make("vpog_ros/msg/ObjectPoseArray", header=head, poses=[_object_pose(e) for e in estimates])


def _object_pose(estimate: PoseEstimate):
    covariance = np.zeros(36) if estimate.covariance is None else np.ravel(estimate.covariance)
    posed = make(
        "geometry_msgs/msg/PoseWithCovariance",
        pose=pose(estimate.T_cam_obj),
        covariance=np.asarray(covariance, np.float64),
    )
    return make(
        "vpog_ros/msg/ObjectPose",
        class_id=estimate.class_id,
        instance=int(estimate.instance),
        pose=posed,
        score=float(estimate.score),
        inliers=int(estimate.inliers),
        reprojection_error=float(estimate.reprojection_error),
        tracked=bool(estimate.tracked),
        detected=bool(estimate.detected),
        detection_age=float(estimate.detection_age),
    )


def transforms(estimates: list[PoseEstimate], head):
    """Make a tf2_msgs/TFMessage with a frame `<class_id>_<instance>` for each estimate."""
    return make("tf2_msgs/msg/TFMessage", transforms=[_transform(e, head) for e in estimates])


def _transform(estimate: PoseEstimate, head):
    found = pose(estimate.T_cam_obj)
    at = found.position
    return make(
        "geometry_msgs/msg/TransformStamped",
        header=head,
        child_frame_id=f"{estimate.class_id}_{estimate.instance}",
        transform=make(
            "geometry_msgs/msg/Transform",
            translation=make("geometry_msgs/msg/Vector3", x=at.x, y=at.y, z=at.z),
            rotation=found.orientation,
        ),
    )


def image(pixels: np.ndarray, head):
    """Make a sensor_msgs/Image, rgb8, of an image [H, W, 3] uint8 RGB."""
    height, width = pixels.shape[:2]
    return make(
        "sensor_msgs/msg/Image",
        header=head,
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(pixels, np.uint8).reshape(-1),
    )


def camera_info(camera: Camera, head):
    """Make a sensor_msgs/CameraInfo."""
    return make(
        "sensor_msgs/msg/CameraInfo",
        header=head,
        height=camera.height,
        width=camera.width,
        distortion_model=camera.model,
        d=np.array(camera.distortion if camera.distortion.size else np.zeros(5)),
        k=camera.K.ravel().copy(),
        r=np.eye(3).ravel(),
        p=np.hstack([camera.K, np.zeros((3, 1))]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=region(0, 0, 0, 0),
    )


def instance_array(detections: list[Detection], head):
    """Make a vpog_ros/Instance2DArray of detections by their boxes, grown to whole pixels."""
    return make("vpog_ros/msg/Instance2DArray", header=head, instances=[_instance(d) for d in detections])


def _instance(detection: Detection):
    return make(
        "vpog_ros/msg/Instance2D",
        class_id=detection.class_id,
        instance=int(detection.instance),
        score=float(detection.score),
        roi=region(*counts_of_box(detection.box)),
        mask=mask_image(detection.mask),
    )


def mask_image(mask: np.ndarray | None):
    """Make a sensor_msgs/Image, mono8, of a mask [H, W]; an empty one of None."""
    pixels = np.zeros((0, 0), np.uint8) if mask is None else np.where(mask, 255, 0).astype(np.uint8)
    height, width = pixels.shape
    return make(
        "sensor_msgs/msg/Image",
        header=header(0, ""),
        height=height,
        width=width,
        encoding="" if mask is None else "mono8",
        is_bigendian=0,
        step=width,
        data=pixels.reshape(-1),
    )


def region(x: int, y: int, width: int, height: int):
    """Make a sensor_msgs/RegionOfInterest."""
    return make(
        "sensor_msgs/msg/RegionOfInterest",
        x_offset=x,
        y_offset=y,
        height=height,
        width=width,
        do_rectify=False,
    )
