"""Read cameras, detections and masks from messages, by functions of the messages' fields alone."""

from __future__ import annotations

import numpy as np

from vpog_core.geometry.boxes import box_of_counts, box_of_mask
from vpog_core.geometry.camera_models import published_camera
from vpog_core.messages.images import unpad
from vpog_core.types import Camera, Detection, VPOGError


def stamp_to_ns(stamp) -> int:
    """Return the nanoseconds of a builtin_interfaces/Time."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def message_type(message) -> str:
    """Return the type of a message as ROS writes it, such as "sensor_msgs/msg/Image"; of rclpy or rosbags."""
    kind = type(message)
    return getattr(message, "__msgtype__", "") or f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"


def box_of_roi(roi) -> np.ndarray:
    """Read the box [4] (x0, y0, x1, y1) of a sensor_msgs/RegionOfInterest: the outer edges of its pixels."""
    return box_of_counts(roi.x_offset, roi.y_offset, roi.width, roi.height)


def camera_from_info(info, rectified: bool = False) -> Camera:
    """Read the camera of a sensor_msgs/CameraInfo, for the image as published: binning and region taken in.

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


def detection_from_instance(instance, width: int, height: int) -> Detection:
    """Read an Instance2D: the outer edges of its box, and its mask [height, width] if there is one.

    Where only the mask tells, the box is that of `box_of_mask`.

    Raises:
        VPOGError: the mask is neither of the image's nor of the box's size, or not mono8.
    """
    roi = instance.roi
    mask = mask_from_message(instance.mask, roi, width, height)
    box = box_of_roi(roi)
    if mask is not None and not (roi.width and roi.height):
        of_mask = box_of_mask(mask)
        box = box if of_mask is None else of_mask
    return Detection(
        class_id=instance.class_id,
        box=box,
        score=float(instance.score),
        mask=mask,
        instance=int(instance.instance),
    )


def mask_from_message(message, roi, width: int, height: int) -> np.ndarray | None:
    """Read a mask message, in the image's size or the box's, as [height, width] bool; None without one."""
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
