"""Handle requests to the node: for poses on demand, and for objects that are added while it runs."""

from __future__ import annotations

from collections.abc import Callable

from vpog_core.messages.camera_infos import CameraInfos
from vpog_ros.diagnostics import Statistics
from vpog_ros.frame_processor import FrameProcessor
from vpog_ros.inputs.frame_buffer import FrameBuffer
from vpog_ros.objects.manager import ObjectManager
from vpog_ros.objects.services import ObjectServices
from vpog_ros.outputs.publishers import Publishers
from vpog_ros.parameter_table import IN_BACKGROUND, ON_DEMAND, WHEN_ASKED
from vpog_ros.requests.detections import RequestDetections
from vpog_ros.requests.estimation_request import OpenRequests
from vpog_ros.requests.estimation_services import EstimationServices
from vpog_ros.requests.newest_detections import NewestDetections
from vpog_ros.requests.server import Found, RequestServer

NOT_ACTIVE = (
    "The node is not active, and estimates poses when it is: configure and activate it, and ask again."
)
IDLE = "waiting to be asked (trigger: on_demand)"


class OnDemand:
    """Joins services, requests and objects, and follows the node's lifecycle.

    Args:
        node: the node, with `settings`.
        statistics: record requests that failed, and how long they take.
    """

    def __init__(self, node, statistics: Statistics) -> None:
        self._node, self._statistics = node, statistics
        self._buffer: FrameBuffer | None = None
        self._estimator = None
        self._processor: FrameProcessor | None = None
        self._outputs: Publishers | None = None
        self._detections = NewestDetections()
        self._infos = CameraInfos(wait_s=0.0)
        self.objects: ObjectManager | None = None
        self.requests = OpenRequests(self._wake)
        self.requests.close(NOT_ACTIVE)
        self._services = EstimationServices(
            node, self.requests, lambda: node.settings.request_timeout, statistics
        )
        ObjectServices(node, lambda: self.objects)

    def configure(self, estimator, outputs: Publishers) -> None:
        """Start to manage the objects of an estimator."""
        logger, onboarding = self._node.get_logger(), self._node.settings.onboarding
        self._estimator, self._outputs = estimator, outputs
        self.objects = ObjectManager(estimator, self._wake, logger, onboarding == WHEN_ASKED)
        waiting = estimator.objects.to_onboard() if onboarding == IN_BACKGROUND else []
        if waiting:
            self.objects.onboard(waiting)
            logger.info(f"Onboarding in the background: {', '.join(waiting)}.")

    def prepare(self) -> None:
        """Replace objects that were read again while the node was inactive, before it is activated."""
        self._exchange()

    def activate(self, estimator, processor: FrameProcessor, buffer: FrameBuffer) -> Callable[[], bool]:
        """Accept requests, and return the function that the worker calls between its frames."""
        manager = self.objects
        self._buffer, self._processor = buffer, processor
        # Keep calibrations separately from those of frames: the worker does not wait for one of a request.
        self._infos = CameraInfos(wait_s=0.0)
        self._detections.label_maps = processor.label_maps
        detections = RequestDetections(
            lambda: estimator.library,
            manager.why_not,
            lambda: estimator.left_out,
            self._detections,
            lambda: {} if self.only else processor.tracked_boxes(),
        )
        server = RequestServer(
            self._node,
            estimator,
            self.requests,
            detections,
            self._infos.of_image,
            processor,
            self._outputs,
            self._statistics,
            self._publish,
        )
        processor.why_not = manager.why_not
        self.requests.close("")

        def between_frames() -> bool:
            self._exchange()
            return server.serve(lambda: self._node.settings)

        return between_frames

    def deactivate(self, sentence: str = NOT_ACTIVE) -> None:
        """Refuse open and new requests with a sentence."""
        self.requests.close(sentence)
        self._buffer = self._processor = None

    def release(self) -> None:
        """Stop onboarding objects."""
        if self.objects is not None:
            self.objects.stop()
        self.objects = self._outputs = self._estimator = None

    def destroy(self) -> None:
        """Destroy the services."""
        self._services.destroy()

    def add_image(self, message) -> bool:
        """Add an image, and return whether it is to be processed without a request."""
        self.requests.add_image(message)
        return not self.only

    def add_camera_info(self, message) -> None:
        """Add a calibration."""
        self._infos.add(message)
        self.requests.wake_if_open()
        processor = self._processor
        if processor is not None:
            processor.views.camera_infos.add(message)

    def add_detections(self, message) -> bool:
        """Add detections, and return whether they are to be processed without a request."""
        self._detections.add(message)
        self.requests.wake_if_open()
        return not self.only

    @property
    def only(self) -> bool:
        """Tell whether the node works only on requests."""
        return self._node.get_parameter("trigger").value == ON_DEMAND

    def activity(self) -> str:
        """Return the current activity in words, or ""."""
        manager = self.objects
        if manager is not None and manager.activity:
            others = len(manager.waiting()) - 1
            return manager.activity + (f", {others} more to come" if others > 0 else "")
        return IDLE if self._buffer is not None and self.only else ""

    def warnings(self) -> list[str]:
        """Return the warnings on objects that hold now."""
        manager = self.objects
        errors = [] if manager is None else [manager.last_error, *manager.outdated]
        return [sentence for sentence in errors if sentence]

    def values(self) -> dict[str, str]:
        """Return what /diagnostics is to show."""
        manager = self.objects
        return {
            "trigger": self._node.get_parameter("trigger").value,
            "requests waiting": len(self.requests.open()),
            "requests answered": self.requests.answered,
            "objects to onboard": 0 if manager is None else len(manager.waiting()),
            **({} if manager is None else manager.hints),
        }

    def _exchange(self) -> None:
        # Use local copies, because another thread may release them.
        manager, estimator, outputs, processor = self.objects, self._estimator, self._outputs, self._processor
        changed = None if manager is None else manager.exchange()
        if changed is None or outputs is None:
            return
        store = estimator.objects
        outputs.use(store.library, changed)
        if processor is not None:
            processor.use(store.library, store.left_out, changed)

    def _publish(self, found: Found) -> None:
        """Publish what was found on request, where nothing else is published."""
        processor = self._processor
        if self.only and processor is not None:
            processor.publish(found.image, found.camera, found.estimates, found.header, found.requested)

    def _wake(self) -> None:
        buffer = self._buffer
        if buffer is not None:
            buffer.wake()
