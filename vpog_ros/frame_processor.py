"""The work on one frame, in the worker's thread: messages to poses to messages."""

from __future__ import annotations

import threading
import time

from sensor_msgs.msg import CameraInfo

from vpog_core.types import Camera, Detection, PoseEstimate, VPOGError
from vpog_ros import parameters
from vpog_ros.conversions import camera_from_info, detection_from_instance, detections_from_vision
from vpog_ros.diagnostics import Statistics
from vpog_ros.frame_buffer import Frame
from vpog_ros.image_conversion import image_to_rgb
from vpog_ros.msg import Instance2DArray
from vpog_ros.parameters import Settings
from vpog_ros.publishers import Publishers

FIRST_CAMERA_S = 0.5
"""How long a frame waits for the first CameraInfo."""


class FrameProcessor:
    """Lives from activate to deactivate."""

    def __init__(self, node, estimator, outputs: Publishers, statistics: Statistics) -> None:
        self._node = node
        self._estimator = estimator
        self._tracker = _tracker(estimator, parameters.read(node))
        self._outputs = outputs
        self._statistics = statistics
        self._camera_info: CameraInfo | None = None
        self._camera_came = threading.Event()

    def on_camera_info(self, message: CameraInfo) -> None:
        """Remember the newest calibration; called from any thread."""
        self._camera_info = message
        self._camera_came.set()

    def process(self, frame: Frame) -> None:
        """Estimate and publish the poses of one frame.

        Raises:
            VPOGError: the frame cannot be used.
        """
        settings, start = parameters.read(self._node), time.monotonic()
        camera = self._camera(settings)
        image = image_to_rgb(frame.image)
        detections = self._detections(frame.detections, camera, settings)
        self._statistics.duration("latency convert", time.monotonic() - start)
        estimates = self._estimate(image, camera, detections, frame, settings) if detections else []
        header = frame.image.header
        self._outputs.publish_poses(self._accepted(estimates, settings), header, settings)
        self._statistics.event("poses")
        self._statistics.duration("latency work", time.monotonic() - start)
        age_ns = self._node.get_clock().now().nanoseconds - frame.stamp_ns
        self._statistics.duration("latency from image stamp", age_ns * 1e-9)
        self._outputs.publish_pictures(image, camera, estimates, header)

    def _camera(self, settings: Settings) -> Camera:
        """The newest calibration; the first frame may be here before its own."""
        self._camera_came.wait(FIRST_CAMERA_S)
        if self._camera_info is None:
            topic = self._node.resolve_topic_name("camera_info")
            raise VPOGError(f"No CameraInfo has come on {topic} yet: check the topic's name.")
        return camera_from_info(self._camera_info, settings.rectified)

    def _detections(self, message, camera: Camera, settings: Settings) -> list[Detection]:
        """The best detections of a message; one that is broken is left out and counted."""
        if isinstance(message, Instance2DArray):
            detections = []
            for instance in message.instances:
                try:
                    detections.append(detection_from_instance(instance, camera.width, camera.height))
                except VPOGError as error:
                    self._refused(instance.class_id, str(error))
        else:
            detections = detections_from_vision(message.detections)
        detections.sort(key=lambda detection: -detection.score)
        return detections[: settings.max_detections]

    def _estimate(
        self, image, camera: Camera, detections: list[Detection], frame: Frame, settings: Settings
    ) -> list[PoseEstimate]:
        if settings.tracking:
            estimates = self._tracker.estimate(image, camera, detections, time=frame.stamp_ns * 1e-9)
        else:
            self._tracker.reset()
            estimates = self._estimator.estimate(image, camera, detections)
        for stage, seconds in estimates.timings.items():
            self._statistics.duration(f"latency {stage}", seconds)
        for estimate in estimates:
            if estimate.T_cam_obj is not None:
                # Detectors may use an alias.
                estimate.class_id = self._estimator.library.resolve(estimate.class_id)
        return estimates

    def _accepted(self, estimates: list[PoseEstimate], settings: Settings) -> list[PoseEstimate]:
        accepted = []
        for estimate in estimates:
            if estimate.T_cam_obj is None:
                self._refused(estimate.class_id, estimate.reason)
            elif estimate.score >= settings.min_score:
                accepted.append(estimate)
        return accepted

    def _refused(self, class_id: str, reason: str) -> None:
        self._statistics.failure("detection", f"{class_id}: {reason}")
        self._node.get_logger().warning(f"No pose for '{class_id}': {reason}", throttle_duration_sec=5.0)


def _tracker(estimator, settings: Settings):
    # Here, not above: the network's library takes seconds to load, and the node is to answer before.
    from vpog_core.inference.tracking import Tracker, TrackerSettings

    chosen = TrackerSettings(
        min_score=settings.tracking_min_score,
        retrieve_every=settings.tracking_retrieve_every,
        max_gap=settings.tracking_max_gap,
    )
    return Tracker(estimator, chosen)
