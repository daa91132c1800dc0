"""Process requests for poses in the worker's thread, between its frames."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

from std_msgs.msg import Header

from vpog_core.cancellation import Cancelled, stop_when
from vpog_core.messages.reading import camera_from_info, stamp_to_ns
from vpog_core.types import Camera, Estimates, VPOGError
from vpog_ros.conversions import object_pose
from vpog_ros.diagnostics import Statistics
from vpog_ros.errors import error_log, error_sentence
from vpog_ros.frame_dump import context_of
from vpog_ros.frame_processor import FrameProcessor
from vpog_ros.msg import ObjectPoseArray, ObjectWithoutPose
from vpog_ros.outputs.publishers import Publishers
from vpog_ros.parameters import Settings
from vpog_ros.requests.detections import RequestDetections, RequestedObjects
from vpog_ros.requests.estimation_request import EstimationRequest, OpenRequests, Result, refusal

INFO_GRACE_S = 0.1
"""Seconds to wait for the image's own CameraInfo, before an older one is used."""

NO_IMAGE = (
    "No image has come on {} since: check that the camera runs, or send image and camera_info in the request."
)
NO_CAMERA = "No CameraInfo has come on {} yet: check the topic's name, or send camera_info in the request."
OTHER_CAMERA = "The image is {}x{} and the CameraInfo {}x{}: publish the image's own on {}, or send it."


@dataclass(frozen=True)
class Found:
    """Holds the estimates in an image for a request, and the classes it has looked for (empty: all)."""

    image: object
    camera: Camera
    estimates: Estimates
    header: Header
    requested: frozenset[str]


class RequestServer:
    """Processes open requests, from activate to deactivate; called by the worker alone.

    Args:
        node: for names, parameters and the log.
        estimator: of the node, see `FrameDump.recorded`; what the topics follow, the tracker, is not used.
        requests: those that are open.
        detections: makes the detections of a request.
        info_of: gives the CameraInfo of an image's stamp, or None.
        processor: of frames; reads images, and knows what is known of the objects' poses.
        outputs: transform poses into target_frame.
        statistics: record failures, and how long stages take.
        on_found: called with each result, if poses are to be published as well.
    """

    def __init__(
        self,
        node,
        estimator,
        requests: OpenRequests,
        detections: RequestDetections,
        info_of: Callable[[int], object],
        processor: FrameProcessor,
        outputs: Publishers,
        statistics: Statistics,
        on_found: Callable[[Found], None],
    ) -> None:
        self._node, self._estimator, self._requests = node, estimator, requests
        self._detections, self._info_of, self._processor = detections, info_of, processor
        self._outputs, self._statistics, self._on_found = outputs, statistics, on_found

    def serve(self, settings: Callable[[], Settings]) -> bool:
        """Process the first request that has all its inputs; return whether there was one."""
        for request in self._requests.open():
            with stop_when(lambda request=request: not request.is_open):
                try:
                    result = self._result_of(request, settings())
                except Cancelled:
                    return True
                except VPOGError as error:
                    result = refusal(str(error))
                except Exception as error:
                    self._node.get_logger().error(f"A request was dropped: {error_log(error)}")
                    result = refusal(f"The estimate failed ({error_sentence(error)}): see the log.")
            if result is not None:
                request.answer(result)
                return True
        return False

    def _result_of(self, request: EstimationRequest, settings: Settings) -> Result | None:
        """Return the result of a request; None while an input is missing, which is noted in the request."""
        # Wait until the named objects are onboarded.
        onboarding = self._detections.onboarding(request.goal.objects)
        if onboarding:
            request.wait_for("onboarding", onboarding)
            request.renew_image()  # Use an image taken after onboarding, not before.
            return None
        # Wait for an image and its calibration.
        if request.image is None:
            topic = self._node.resolve_topic_name("image")
            request.wait_for("waiting", NO_IMAGE.format(topic))
            return None
        # Use the image whose detections show the objects, unless the goal says where they are.
        if request.objects is None and not request.goal.instances:
            request.choose_image(
                lambda stamp_ns: self._detections.num_shown(request.goal, stamp_ns, settings)
            )
        camera = self._camera(request, settings)
        if camera is None:
            return None
        # Wait for detections, and until their objects are onboarded.
        waited_s = time.monotonic() - request.image_came_s
        if request.objects is None:
            header = request.image.header
            requested = self._detections.find(request.goal, header, camera, waited_s, settings)
            if requested.waits_for:
                request.wait_for("waiting", requested.waits_for)
                return None
            request.objects = requested
        onboarding = self._detections.onboarding([d.class_id for d in request.objects.detections])
        if onboarding:
            request.wait_for("onboarding", onboarding)
            return None
        # Wait for the transforms of the image's time.
        late = self._outputs.target_frame_trouble(request.image.header)
        late = late or self._processor.constraints_trouble(request.image.header, settings)
        if late:
            request.wait_for("waiting", late)
            return None
        # Estimate the poses.
        return self._estimate(request, camera, self._detections.usable(request.objects), settings)

    def _camera(self, request: EstimationRequest, settings: Settings) -> Camera | None:
        """Return the calibration of a request's image; None, noted in the request, while it has not come."""
        if request.goal.camera_info.width:
            return camera_from_info(request.goal.camera_info, settings.rectified)
        topic = self._node.resolve_topic_name("camera_info")
        stamp = request.image.header.stamp
        info = self._info_of(stamp_to_ns(stamp))
        own = info is not None and info.header.stamp == stamp
        if info is None or not (own or time.monotonic() - request.image_came_s > INFO_GRACE_S):
            request.wait_for("waiting", NO_CAMERA.format(topic))
            return None
        camera = self._processor.views.read_camera(info, request.image.header, settings)
        # Decode the image: compressed messages have no size.
        size = [getattr(request.image, side, getattr(camera, side)) for side in ("width", "height")]
        if size != [camera.width, camera.height]:
            sizes = (*size, camera.width, camera.height, topic)
            request.wait_for("waiting", OTHER_CAMERA.format(*sizes))
            return None
        return camera

    def _estimate(
        self, request: EstimationRequest, camera: Camera, requested: RequestedObjects, settings: Settings
    ) -> Result:
        # Imported here, because it imports torch.
        from vpog_core.inference.crop import check_image
        from vpog_core.inference.stage_timings import report_stages

        request.begin_work()
        request.tell("convert")
        begin, header = time.monotonic(), request.image.header
        image = self._processor.views.read_image(request.image)
        check_image(image, camera)
        self._estimator.context = context_of(header)
        estimates = Estimates()
        if requested.detections:
            with report_stages(request.tell):
                constraints = self._processor.constraints(header, settings)
                estimates = self._estimator.estimate(
                    image, camera, requested.detections, constraints=constraints
                )
        estimates = Estimates([self._aged(e, requested.ages) for e in estimates], estimates.timings)
        result = self._result_from(estimates, requested, header, settings.min_score)
        self._record(estimates, time.monotonic() - begin)
        asked = request.goal.objects or [instance.class_id for instance in request.goal.instances]
        looked_for = self._detections.resolved(asked)
        # Where no name stands for an object nothing was looked for, and so nothing has gone.
        if looked_for or not asked:
            self._publish(Found(image, camera, estimates, header, looked_for))
        return result

    def _record(self, estimates: Estimates, seconds: float) -> None:
        """Record how long the stages of an estimate took, and the whole, for /diagnostics."""
        for stage, duration in {**estimates.timings, "request": seconds}.items():
            self._statistics.duration(f"latency {stage}", duration)

    def _publish(self, found: Found) -> None:
        """Publish what was found; the result of the request does not depend on it."""
        try:
            self._on_found(found)
        except VPOGError as error:
            self._node.get_logger().warning(f"A result was given and not published: {error}")

    @staticmethod
    def _aged(estimate, ages: dict[str, float]):
        """Return an estimate that says how old the detection is that it was made of."""
        age = ages.get(estimate.class_id, 0.0)
        return dataclasses.replace(estimate, detected=not age, detection_age=age)

    def _result_from(
        self, estimates: Estimates, requested: RequestedObjects, header: Header, min_score: float
    ) -> Result:
        """Return the result with the poses, in target_frame, and the objects without one.

        Raises:
            VPOGError: the poses cannot be given in target_frame.
        """
        found, without = [], list(requested.missing)
        for estimate in estimates:
            reason = estimate.reason
            if estimate.T_cam_obj is not None and estimate.score < min_score:
                reason = (
                    f"The pose found has a score of {estimate.score:.2f}, under min_score ({min_score:g})."
                )
            if estimate.T_cam_obj is not None and not reason:
                found.append(estimate)
            else:
                row = ObjectWithoutPose(class_id=estimate.class_id, instance=estimate.instance, reason=reason)
                without.append(row)
        found, header = self._outputs.in_target_frame(found, header)
        poses = ObjectPoseArray(header=header, poses=[object_pose(estimate) for estimate in found])
        reasons = dict.fromkeys([*(row.reason for row in without), *requested.remarks])
        message = "" if found else " ".join(["No pose was found.", *reasons])
        return Result(poses=poses, without_pose=without, message=message)
