"""Transform poses into another frame than the camera's, by tf2 at the image's time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from std_msgs.msg import Header

from vpog_core.geometry.se3 import rotate_covariance
from vpog_core.types import PoseEstimate
from vpog_ros.frame_lookup import FrameLookup, Transforms


class TargetFrame:
    """Transforms poses into the frame in which the node publishes.

    Args:
        transforms: those of /tf.
        frame: name of the frame; empty: poses stay in the camera's.

    Raises:
        VPOGError: a frame is wanted and tf2_ros is not installed.
    """

    def __init__(self, transforms: Transforms, frame: str) -> None:
        self._lookup = FrameLookup(transforms, frame, "target_frame", "its poses are not published")

    def trouble(self, header: Header) -> str:
        """Return why the poses of an image cannot be given in this frame yet, or ""."""
        return self._lookup.trouble(header)

    def of(
        self, estimates: list[PoseEstimate], header: Header, wait_s: float
    ) -> tuple[list[PoseEstimate], Header]:
        """Return the estimates of an image in this frame, and the header that says so.

        Args:
            wait_s: seconds to wait for the transform.

        Raises:
            VPOGError: the frame's pose in the camera's is not known at the image's time.
        """
        if self._lookup.is_own(header):
            return estimates, header
        T_target_cam = self._lookup.transform(header, wait_s)
        header = Header(stamp=header.stamp, frame_id=self._lookup.frame)
        return [in_frame(e, T_target_cam) for e in estimates], header


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
