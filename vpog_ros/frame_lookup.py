"""Look up the camera's pose in another frame, by tf2 at the image's time."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.time import Time
from std_msgs.msg import Header

from vpog_core.geometry.se3 import rotation_from_quaternion, transform
from vpog_core.types import VPOGError
from vpog_ros import optional

BACKWARD = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True)
"""The clock's jumps at which all transforms are dropped."""


class Transforms:
    """Listens to /tf once a lookup needs it, from configure to cleanup: one listener for all lookups.

    Args:
        node: listens.
    """

    def __init__(self, node) -> None:
        self._node = node
        self._buffer = self._listener = self._on_jump = None

    def listen(self) -> None:
        """Begin to listen, unless that was done before; tf2_ros must be installed."""
        if self._listener is None:
            self._buffer = optional.tf2_ros.Buffer()
            self._listener = optional.tf2_ros.TransformListener(self._buffer, self._node, spin_thread=False)
            # Of a simulation that begins again, the buffer would refuse all that is older than what it has.
            self._on_jump = self._node.get_clock().create_jump_callback(
                BACKWARD, post_callback=lambda jump: self._buffer.clear()
            )

    def find(self, target: str, header: Header, wait_s: float) -> np.ndarray:
        """Return T_target_source [4, 4] of a header's frame and time.

        Args:
            wait_s: seconds to wait for it.

        Raises:
            tf2_ros.TransformException: it is not known.
        """
        time, wait = Time.from_msg(header.stamp), Duration(seconds=wait_s)
        return matrix_of(self._buffer.lookup_transform(target, header.frame_id, time, wait))

    def destroy(self) -> None:
        """Stop listening to /tf."""
        if self._listener is not None:
            self._listener.unregister()
            self._on_jump.unregister()
            self._listener = self._on_jump = None


class FrameLookup:
    """Looks up the transforms to the frame that a parameter names.

    Args:
        transforms: begin to listen where there is such a frame.
        frame: name of the frame; empty: the camera's.
        parameter: the name of the parameter that it comes from, for sentences.
        needed_for: what is not done without the transform, for sentences.

    Raises:
        VPOGError: a frame is given and tf2_ros is not installed.
    """

    def __init__(self, transforms: Transforms, frame: str, parameter: str, needed_for: str) -> None:
        self.frame, self._parameter, self._needed_for = frame, parameter, needed_for
        self._transforms = transforms
        if not frame:
            return
        if optional.tf2_ros is None:
            raise VPOGError(
                f"{parameter} is '{frame}' and tf2_ros is not installed: install it, or leave {parameter} "
                "empty."
            )
        transforms.listen()

    def is_own(self, header: Header) -> bool:
        """Tell whether the frame is the camera's."""
        return not self.frame or self.frame == header.frame_id

    def trouble(self, header: Header) -> str:
        """Return why the transform at the time of an image is not known yet, or ""."""
        try:
            self.transform(header, wait_s=0.0)
        except VPOGError as error:
            return str(error) if header.frame_id else ""  # Without a frame it will never be known.
        return ""

    def transform(self, header: Header, wait_s: float) -> np.ndarray:
        """Return T_frame_cam [4, 4] at the time of an image.

        Args:
            wait_s: seconds to wait for it.

        Raises:
            VPOGError: it is not known.
        """
        if self.is_own(header):
            return np.eye(4)
        if not header.frame_id:
            raise VPOGError(
                f"{self._parameter} is '{self.frame}' and the images have no frame_id, so "
                f"{self._needed_for}: set header.frame_id in the camera driver."
            )
        try:
            return self._transforms.find(self.frame, header, wait_s)
        except optional.tf2_ros.TransformException as error:
            raise VPOGError(
                f"No transform from '{header.frame_id}' to '{self.frame}' ({self._parameter}) at the image's "
                f"time, so {self._needed_for}: {' '.join(str(error).split())}"
            ) from error


def matrix_of(message: TransformStamped) -> np.ndarray:
    """Return the transform [4, 4] of a message."""
    q, t = message.transform.rotation, message.transform.translation
    R = rotation_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
    return transform(R, np.array([t.x, t.y, t.z]))
