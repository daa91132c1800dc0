"""The work on one frame, in the worker's thread: messages to poses to messages."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from std_msgs.msg import Header

from vpog_core.geometry.camera_checks import camera_doubts
from vpog_core.io.bit_depth import BitDepth
from vpog_core.messages.camera_infos import CameraInfos, calibration
from vpog_core.messages.detections import DetectionReader
from vpog_core.messages.label_maps import LabelMapReader, names_of_info, parse_names
from vpog_core.messages.reading import camera_from_info
from vpog_core.types import Camera, Detection, Estimates, PoseEstimate, VPOGError
from vpog_ros import parameters
from vpog_ros.diagnostics import Statistics
from vpog_ros.frame_buffer import Frame
from vpog_ros.image_conversion import image_to_rgb
from vpog_ros.notices import Notices
from vpog_ros.parameters import Settings
from vpog_ros.publishers import Publishers


class FrameProcessor:
    """Lives from activate to deactivate.

    Args:
        offer_images_alone: told after each frame after how many seconds without detections images are to come
            without; None: not at all.
    """

    def __init__(
        self,
        node,
        estimator,
        outputs: Publishers,
        statistics: Statistics,
        notices: Notices,
        offer_images_alone: Callable[[float | None], None],
    ) -> None:
        settings = parameters.read(node)
        self._node = node
        self._estimator = estimator
        self._tracker = _tracker(estimator)
        self._reset = False
        self._offer_images_alone = offer_images_alone
        self._outputs = outputs
        self._statistics = statistics
        self._notices = notices
        self._label_maps = LabelMapReader(parse_names(settings.label_names), settings.label_regions)
        self._reader = DetectionReader(
            estimator.library, statistics, notices, estimator.left_out, self._label_maps
        )
        self._bit_depth = BitDepth(settings.image_bits)
        self._calibration: tuple = ()
        self._doubt = ""
        self.camera_infos = CameraInfos()

    def reset_tracking(self) -> None:
        """Forget the objects that are followed, before the next frame."""
        self._reset = True

    def add_label_info(self, message) -> None:
        """Take in the names of labels, a vision_msgs/LabelInfo; those of the parameter go before them."""
        given = parse_names(parameters.read(self._node).label_names)
        self._label_maps.names = names_of_info(message) | given

    def process(self, frame: Frame) -> None:
        """Estimate and publish the poses of one frame.

        Raises:
            VPOGError: the frame cannot be used.
        """
        settings, start = parameters.read(self._node), time.monotonic()
        header = frame.image.header
        camera = self._camera(frame, settings)
        image = self._rgb(frame.image)
        _check_image(image, camera)
        detections = self._detections(frame, camera, settings)
        self._statistics.duration("latency convert", time.monotonic() - start)
        estimates = self._estimate(image, camera, detections, frame, settings)
        self._outputs.publish_poses(self._accepted(estimates, settings), header, settings)
        self._statistics.event("poses")
        self._statistics.duration("latency work", time.monotonic() - start)
        self._tell_age(frame.stamp_ns)
        self._outputs.publish_pictures(image, camera, estimates, header, settings.min_score)

    def _detections(self, frame: Frame, camera: Camera, settings: Settings) -> list[Detection]:
        """The frame's detections of known objects; none where the detector is silent."""
        if frame.detections is None:
            return []
        detections, refused = self._reader.read(
            frame.detections, camera.width, camera.height, settings.max_detections
        )
        for sentence in refused:
            self._refused(sentence)
        return detections

    def _camera(self, frame: Frame, settings: Settings) -> Camera:
        """The image's calibration, with what is odd about it said."""
        info = self.camera_infos.of_image(frame.stamp_ns)
        if info is None:
            topic = self._node.resolve_topic_name("camera_info")
            raise VPOGError(f"No CameraInfo has come on {topic} yet: check the topic's name.")
        camera = camera_from_info(info, settings.rectified)
        self._compare_frames(frame.image.header, info.header)
        if calibration(info) != self._calibration:
            self._calibration = calibration(info)
            self._notices.warn_while(f"camera: {self._doubt}", "")
            self._doubt = " ".join(camera_doubts(camera))
            self._notices.warn_while(f"camera: {self._doubt}", self._doubt)
        return camera

    def _compare_frames(self, image: Header, info: Header) -> None:
        empty = other = ""
        if not image.frame_id:
            empty = (
                "The images have no frame_id: poses are published, and nothing on /tf; set "
                "header.frame_id in the camera driver."
            )
        elif info.frame_id and info.frame_id != image.frame_id:
            other = (
                f"The CameraInfo is of frame '{info.frame_id}' and the images are of '{image.frame_id}', "
                "which the poses are given in: check that camera_info is the topic of this camera."
            )
        self._notices.warn_while("no frame_id", empty)
        self._notices.warn_while("other frame_id", other)

    def _rgb(self, message) -> np.ndarray:
        image = image_to_rgb(message, self._bit_depth)
        if self._bit_depth.note:
            self._notices.say_once("bit depth", self._bit_depth.note, of=self._bit_depth.note)
        return image

    def _estimate(
        self, image, camera: Camera, detections: list[Detection], frame: Frame, settings: Settings
    ) -> Estimates:
        if settings.tracking:
            estimates = self._follow(image, camera, detections, frame, settings)
        else:
            self._tracker.reset()
            self._offer_images_alone(None)
            estimates = self._estimator.estimate(image, camera, detections)
        for stage, seconds in estimates.timings.items():
            self._statistics.duration(f"latency {stage}", seconds)
        return estimates

    def _follow(
        self, image, camera: Camera, detections: list[Detection], frame: Frame, settings: Settings
    ) -> Estimates:
        if self._reset:
            self._reset = False
            self._tracker.reset()
        self._tracker.settings = _tracker_settings(settings)
        estimates = self._tracker.estimate(image, camera, detections, time=frame.time_s)
        followed = self._tracker.boxes
        self._reader.keep_numbers(followed)
        goes_on = bool(followed) and settings.tracking_without_detections and self._estimator.can_track
        self._offer_images_alone(settings.tracking_detector_timeout if goes_on else None)
        return estimates

    def _accepted(self, estimates: list[PoseEstimate], settings: Settings) -> list[PoseEstimate]:
        accepted = []
        for estimate in estimates:
            if estimate.T_cam_obj is None:
                self._refused(f"{estimate.class_id}: {estimate.reason}")
            elif estimate.score >= settings.min_score:
                accepted.append(estimate)
            else:
                self._leave_out(estimate, settings.min_score)
        return accepted

    def _leave_out(self, estimate: PoseEstimate, min_score: float) -> None:
        self._statistics.leave_out("poses under min_score")
        self._notices.say_once(
            "low score",
            f"A pose of '{estimate.class_id}' has a score of {estimate.score:.2f}, under min_score "
            f"({min_score:g}): such poses are not published, and are drawn grey on ~/overlay_image.",
            of=estimate.class_id,
        )

    def _refused(self, sentence: str) -> None:
        self._statistics.failure("detection", sentence)
        self._node.get_logger().warning(f"No pose of {sentence}", throttle_duration_sec=5.0)

    def _tell_age(self, stamp_ns: int) -> None:
        now_ns = self._node.get_clock().now().nanoseconds
        # 0: the image has no stamp, or simulated time has not begun.
        if stamp_ns and now_ns:
            self._statistics.duration("latency from image stamp", (now_ns - stamp_ns) * 1e-9)


# Imported where they are used: the network's library takes seconds to load, and the node is to answer before.


def _check_image(image: np.ndarray, camera: Camera) -> None:
    from vpog_core.inference.crop import check_image

    check_image(image, camera)


def _tracker(estimator):
    from vpog_core.inference.tracking import Tracker

    return Tracker(estimator)


def _tracker_settings(settings: Settings):
    from vpog_core.inference.tracking import TrackerSettings

    return TrackerSettings(
        min_score=settings.tracking_min_score,
        retrieve_every=settings.tracking_retrieve_every,
        max_gap=settings.tracking_max_gap,
        without_detections=settings.tracking_without_detections,
        max_age=settings.tracking_max_age,
    )
