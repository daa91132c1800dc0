"""Transforms poses into another frame than the camera's, by tf2 at the image's time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.time import Time
from std_msgs.msg import Header

from vpog_core.geometry.se3 import rotate_covariance, rotation_from_quaternion, transform
from vpog_core.types import PoseEstimate, VPOGError
from vpog_ros import optional

WAIT_S = 0.1
"""Seconds that a transform may come later than the poses of its image."""


class TargetFrame:
    """Transforms poses into the frame in which the node publishes, from activate to deactivate.

    Args:
        node: listens to /tf.
        frame: name of the frame; empty: poses stay in the camera's.

    Raises:
        VPOGError: a frame is wanted and tf2_ros is not installed.
    """

    def __init__(self, node, frame: str) -> None:
        self.frame = frame
        self._listener = None
        if not frame:
            return
        if optional.tf2_ros is None:
            raise VPOGError(
                f"target_frame is '{frame}' and tf2_ros is not installed: install it, or leave target_frame "
                "empty."
            )
        self._buffer = optional.tf2_ros.Buffer()
        self._listener = optional.tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def close(self) -> None:
        """Stop listening to /tf."""
        if self._listener is not None:
            self._listener.unregister()
            self._listener = None

    def of(self, estimates: list[PoseEstimate], header: Header) -> tuple[list[PoseEstimate], Header]:
        """Return the estimates of an image in this frame, and the header that says so.

        Raises:
            VPOGError: the frame's pose in the camera's is not known at the image's time.
        """
        if not self.frame or self.frame == header.frame_id:
            return estimates, header
        if not header.frame_id:
            raise VPOGError(
                f"target_frame is '{self.frame}' and the images have no frame_id, so their poses cannot be "
                "given in it: set header.frame_id in the camera driver."
            )
        T_target_cam = self._lookup(header)
        return [in_frame(e, T_target_cam) for e in estimates], Header(stamp=header.stamp, frame_id=self.frame)

    def _lookup(self, header: Header) -> np.ndarray:
        try:
            found = self._buffer.lookup_transform(
                self.frame, header.frame_id, Time.from_msg(header.stamp), Duration(seconds=WAIT_S)
            )
        except optional.tf2_ros.TransformException as error:
            raise VPOGError(
                f"No transform from '{header.frame_id}' to '{self.frame}' (target_frame) at the image's "
                f"time, so its poses are not published: {' '.join(str(error).split())}"
            ) from error
        return matrix_of(found)


def matrix_of(message: TransformStamped) -> np.ndarray:
    """Return the transform [4, 4] of a message."""
    q, t = message.transform.rotation, message.transform.translation
    R = rotation_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
    return transform(R, np.array([t.x, t.y, t.z]))


def in_frame(estimate: PoseEstimate, T_target_cam: np.ndarray) -> PoseEstimate:
    """Return an estimate whose poses map into another frame, to which T_target_cam [4, 4] leads."""
    covariance, samples = estimate.covariance, estimate.samples
    return replace(
        estimate,
        T_cam_obj=T_target_cam @ estimate.T_cam_obj,
        covariance=None if covariance is None else rotate_covariance(covariance, T_target_cam[:3, :3]),
        samples=None if samples is None else T_target_cam @ samples,
        alternatives=[in_frame(other, T_target_cam) for other in estimate.alternatives],
    )
