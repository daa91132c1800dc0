"""Process one frame in the worker's thread: read messages, estimate poses, publish them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import numpy as np
from std_msgs.msg import Header

from vpog_core.inference.options import TrackerSettings
from vpog_core.messages.detections import DetectionReader
from vpog_core.messages.label_maps import LabelMapReader, names_of_info, parse_names
from vpog_core.types import Camera, Detection, Estimates, PoseEstimate, VPOGError
from vpog_ros import parameters
from vpog_ros.diagnostics import Statistics
from vpog_ros.frame_budget import FrameBudget
from vpog_ros.inputs.frame_buffer import Frame, FrameBuffer
from vpog_ros.inputs.view_reader import FrameView, ViewReader
from vpog_ros.known_plane import KnownPlane
from vpog_ros.notices import Notices
from vpog_ros.outputs.publishers import Publishers
from vpog_ros.parameters import Settings

TOO_OLD = "frames dropped, older than max_age"
LOST = "poses lost on the way to the newest image"
LATE = "frames with late detections, tracked on to the next image"


class FrameProcessor:
    """Reads messages, estimates poses and publishes them, from activate to deactivate.

    Args:
        buffer: source of the frames; has newer images, and is set to offer images without detections.
        known_plane: what is known of the objects' poses.
    """

    def __init__(
        self,
        node,
        estimator,
        outputs: Publishers,
        statistics: Statistics,
        notices: Notices,
        buffer: FrameBuffer,
        known_plane: KnownPlane,
    ) -> None:
        settings = parameters.read(node)
        self._node = node
        self._estimator = estimator
        self._tracker = _tracker(estimator)
        self._filters = _pose_filters(estimator.library)
        self._buffer, self._known_plane = buffer, known_plane
        self._reset = False
        self._published_number = 0
        self._outputs = outputs
        self._statistics = statistics
        self._notices = notices
        self.label_maps = LabelMapReader(parse_names(settings.label_names), settings.label_regions)
        self._reader = DetectionReader(
            estimator.library, statistics, notices, estimator.left_out, self.label_maps
        )
        self._budget = FrameBudget()
        self.views = ViewReader(node, notices, settings.image_bits)
        self.why_not: Callable[[str], str] = lambda object_id: ""
        """Function that returns why an object cannot be estimated now, or ""."""

    def use(self, library, left_out: Collection[str], changed: Collection[str]) -> None:
        """Replace the library; tracks and filters of objects that have changed are dropped."""
        self._reader.use(library, left_out)
        self._tracker.forget(changed)
        self._filters.use(library, changed)

    def reset_tracking(self) -> None:
        """Drop all tracks before the next frame."""
        self._reset = True

    def add_label_info(self, message) -> None:
        """Store the names of labels, a vision_msgs/LabelInfo; those of the parameter take precedence."""
        given = parse_names(parameters.read(self._node).label_names)
        self.label_maps.names = names_of_info(message) | given

    def process(self, frame: Frame) -> None:
        """Estimate and publish the poses of one frame.

        Raises:
            VPOGError: the frame cannot be used.
        """
        settings, start = parameters.read(self._node), time.monotonic()
        if self._is_too_old(frame, settings.max_age):
            return
        # Read image, calibration and detections.
        view = self.views.read(frame, settings)
        detections = self._detections(frame, view.camera, settings)
        self._statistics.duration("latency convert", time.monotonic() - start)
        # Estimate the poses, move them to the newest image, and filter them.
        estimates = self._estimate(view, detections, settings)
        if settings.publish_at_newest:
            view, estimates = self._at_newest(view, estimates, settings)
        if self._is_late(view.frame, settings) and settings.tracking_without_detections:
            # Published poses do not go back in time: the objects are tracked on to the next image.
            self._statistics.leave_out(LATE)
            self._accepted(estimates, settings)
            return
        self._published_number = max(self._published_number, view.frame.number)
        estimates = self._filtered(estimates, view.frame.time_s, settings)
        # Publish poses first, then images.
        header = view.frame.image.header
        accepted = self._accepted(estimates, settings)
        try:
            self._outputs.publish_poses(accepted, header, settings)
            self._statistics.event("poses")
            self._statistics.duration("latency work", time.monotonic() - start)
            self._tell_age(view.frame.stamp_ns)
        finally:
            self._outputs.publish_images(view.image, view.camera, estimates, header, settings)

    def _is_late(self, frame: Frame, settings: Settings) -> bool:
        """Tell whether tracked objects were published in an image that came after this one."""
        tracks = settings.tracking and self._estimator.can_track
        return tracks and 0 < frame.number < self._published_number

    def _is_too_old(self, frame: Frame, max_age: float) -> bool:
        """Tell whether a frame is too old; if so, count it as dropped, and warn."""
        now_ns = self._node.get_clock().now().nanoseconds
        known = frame.stamp_ns and now_ns
        age = (now_ns - frame.stamp_ns) * 1e-9 if known else time.monotonic() - frame.arrival_s
        old = 0 < max_age < age
        self._notices.warn_while(
            "max_age",
            f"Images are {age:.3f} s old when their turn comes, over max_age ({max_age:g} s), and are "
            "dropped: raise max_age, or compare the camera's clock with this machine's; a bag is played with "
            "--clock, and use_sim_time is true then."
            if old
            else "",
        )
        if old:
            self._statistics.leave_out(TOO_OLD)
        return old

    def publish(
        self,
        image: np.ndarray,
        camera: Camera,
        estimates: list[PoseEstimate],
        header: Header,
        requested: Collection[str],
    ) -> None:
        """Publish the estimates of a request, which has looked for some classes (empty: for all)."""
        settings = parameters.read(self._node)
        self._outputs.publish_poses(self._accepted(estimates, settings), header, settings, requested)
        self._outputs.publish_images(image, camera, estimates, header, settings)

    def _detections(self, frame: Frame, camera: Camera, settings: Settings) -> list[Detection]:
        """Return the frame's detections of known objects; none where the detector is silent."""
        if frame.detections is None:
            return []
        limit, name = self._budget.limit(settings.frame_budget, settings.max_detections)
        detections, refused = self._reader.read(
            frame.detections,
            camera.width,
            camera.height,
            limit,
            numbered=not settings.tracking,
            limited_by=name,
        )
        for sentence in refused:
            self._refused(sentence)
        return [detection for detection in detections if self._is_ready(detection.class_id)]

    def _is_ready(self, object_id: str) -> bool:
        """Tell whether an object can be estimated now; if not, count it and log why, once."""
        reason = self.why_not(object_id)
        if reason:
            self._statistics.leave_out("detections of objects not ready")
            self._notices.log_once("not ready", reason, of=object_id)
        return not reason

    def tracked_boxes(self) -> dict[tuple[str, int], np.ndarray]:
        """Return the boxes [4] of the objects that are tracked, by class and instance."""
        return self._tracker.boxes

    def constraints_trouble(self, header: Header, settings: Settings) -> str:
        """Return why what is known of the poses in an image cannot be used yet, or ""."""
        return self._known_plane.trouble(header, settings)

    def constraints(self, header: Header, settings: Settings) -> dict:
        """Return what is known of the objects' poses in an image; see `KnownPlane.constraints`."""
        return self._known_plane.constraints(header, self._estimator.library, settings)

    def _estimate(self, view: FrameView, detections: list[Detection], settings: Settings) -> Estimates:
        if settings.tracking:
            estimates = self._follow(view, detections, settings)
        else:
            self._tracker.reset()
            self._buffer.offer_images_alone(None)
            constraints = self.constraints(view.frame.image.header, settings)
            estimates = self._estimator.estimate(view.image, view.camera, detections, constraints=constraints)
        self._budget.add(sum(estimates.timings.values()), len(estimates))
        for stage, seconds in estimates.timings.items():
            self._statistics.duration(f"latency {stage}", seconds)
        return estimates

    def _follow(self, view: FrameView, detections: list[Detection], settings: Settings) -> Estimates:
        # Drop all tracks, if that was requested.
        if self._reset:
            self._reset = False
            self._tracker.reset()
            self._filters.reset()
        # Estimate what is detected, and follow what is not.
        self._tracker.settings = _tracker_settings(settings)
        constraints = self.constraints(view.frame.image.header, settings)
        is_late = self._is_late(view.frame, settings)
        estimates = self._tracker.estimate(
            view.image, view.camera, detections, view.frame.time_s, constraints, is_late
        )
        # Ask for images without detections as long as there is something to follow.
        goes_on = bool(self._tracker.boxes) and settings.tracking_without_detections
        goes_on = goes_on and self._estimator.can_track
        self._buffer.offer_images_alone(settings.tracking_detector_timeout if goes_on else None)
        return estimates

    def _at_newest(
        self, view: FrameView, estimates: Estimates, settings: Settings
    ) -> tuple[FrameView, list[PoseEstimate]]:
        """Track the objects to the newest image; return the arguments if none can be tracked."""
        if not (settings.tracking and self._estimator.can_track):
            self._notices.log_once(
                "newest",
                "publish_at_newest has no effect: it needs tracking, and refiner_rounds of 1 or more.",
            )
            return view, estimates
        # Take the newest image, if there is a pose to move to it.
        start, posed = time.monotonic(), [e for e in estimates if e.T_cam_obj is not None]
        newest = self._buffer.take_newest_image() if posed and view.frame.stamp_ns else None
        # An earlier image means that a bag was restarted.
        if newest is None or newest.stamp_ns <= view.frame.stamp_ns:
            return view, estimates
        try:
            there = self.views.read(newest, settings)
            constraints = self.constraints(newest.image.header, settings)
        except VPOGError as error:
            self._statistics.failure("frame", str(error))
            return view, estimates
        # Follow the objects to it; those that are lost on the way are counted.
        carried = self._tracker.follow(there.image, there.camera, newest.time_s, constraints)
        self._statistics.duration("latency to newest image", time.monotonic() - start)
        self._statistics.leave_out(LOST, max(0, len(posed) - len(carried)))
        if not carried:
            return view, estimates
        refused = [e for e in estimates if e.T_cam_obj is None]
        return there, [*refused, *carried]

    def _filtered(
        self, estimates: list[PoseEstimate], time_s: float, settings: Settings
    ) -> list[PoseEstimate]:
        """Filter the poses that are published, if the parameters enable it."""
        if not settings.pose_filter:
            self._filters.reset()
            return estimates
        self._filters.max_gap = settings.tracking_max_gap
        taken = [e for e in estimates if e.T_cam_obj is not None and e.score >= settings.min_score]
        others = [e for e in estimates if not any(e is one for one in taken)]
        return [*others, *self._filters.filter(taken, time_s)]

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
        self._notices.log_once(
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
        # 0 means that the image has no stamp, or that simulated time has not started.
        if stamp_ns and now_ns:
            self._statistics.duration("latency from image stamp", (now_ns - stamp_ns) * 1e-9)


# Imported on first use: torch takes seconds to load, and the node must respond before.


def _tracker(estimator):
    from vpog_core.inference.tracking import Tracker

    return Tracker(estimator)


def _pose_filters(library):
    from vpog_core.inference.pose_filters import PoseFilters

    return PoseFilters(library)


def _tracker_settings(settings: Settings) -> TrackerSettings:
    return TrackerSettings(**parameters.group(settings, TrackerSettings, "tracking_"))
