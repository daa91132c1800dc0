"""The lifecycle node: images, camera and 2D detections in, 6D poses out."""

from __future__ import annotations

if __name__ == "__main__":
    from vpog_ros.start import prepare

    prepare(interrupted=0)

import copy
import dataclasses
import gc
import sys
import threading
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vpog_core.cancellation import Cancelled, stop_when
from vpog_core.types import VPOGError
from vpog_ros import optional, parameters
from vpog_ros.conversions import stamp_to_ns
from vpog_ros.diagnostics import Statistics, build_message
from vpog_ros.frame_buffer import Counts, FrameBuffer
from vpog_ros.frame_processor import FrameProcessor
from vpog_ros.image_conversion import cv_bridge_works
from vpog_ros.msg import Instance2DArray
from vpog_ros.parameters import Settings
from vpog_ros.process import run
from vpog_ros.publishers import Publishers
from vpog_ros.worker import Worker, describe

Progress = Callable[[int, int, str], None]
EstimatorFactory = Callable[[Settings, Progress], object]

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE


def load_estimator(settings: Settings, progress: Progress):
    """The PoseEstimator the settings ask for, with the folder's objects onboarded.

    Raises:
        VPOGError: a setting that cannot be followed; no object can be used, or not all where they must be.
    """
    if not settings.objects_dir:
        raise VPOGError("objects_dir is not set: give the folder that holds the meshes.")
    from vpog_core.inference.estimator import PoseEstimator
    from vpog_core.threads import use_threads

    use_threads(settings.num_threads)
    estimator = PoseEstimator.from_files(
        weights=settings.weights or None,
        objects_dir=settings.objects_dir,
        device=settings.device,
        mode=settings.mode,
        cache_dir=settings.cache_dir or None,
        hypotheses=settings.hypotheses,
        retry_views=settings.second_look,
        retry_below_score=settings.second_look_below,
        rolls=settings.rolls,
        refinements=settings.refinements,
        alignments=settings.alignments,
    )
    estimator.onboard(progress=progress, strict=settings.strict_objects)
    return estimator


class VpogNode(LifecycleNodeMixin, Node):
    """See the README for topics and `vpog_ros.parameters` for parameters."""

    def __init__(
        self, estimator_factory: EstimatorFactory = load_estimator, node_name: str = "vpog_node", **kwargs
    ) -> None:
        """
        Args:
            estimator_factory: makes the estimator at configure; may take long, and tells its progress.
            kwargs: for rclpy.node.Node.

        Raises:
            rclpy.exceptions.ParameterException: a parameter given at start is refused.
        """
        Node.__init__(self, node_name, **kwargs)
        # Reentrant: the node tells its state while a configure that loads and onboards is under way.
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        self._estimator_factory = estimator_factory
        self._estimator = None
        self._outputs: Publishers | None = None
        self._buffer: FrameBuffer | None = None
        self._worker: Worker | None = None
        self._subscriptions_live: list = []
        self._input_group = MutuallyExclusiveCallbackGroup()
        self._configuring = False
        self._stopping = threading.Event()
        self._activity = ""
        self._statistics = Statistics()
        self._totals = Counts()
        self.add_on_set_parameters_callback(self._check_parameters)
        parameters.declare(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(
            self.settings.diagnostics_period,
            self._publish_diagnostics,
            callback_group=MutuallyExclusiveCallbackGroup(),
        )
        for sentence in optional.what_is_off():
            self.get_logger().info(sentence)

    @property
    def settings(self) -> Settings:
        """The parameters' values now."""
        return parameters.read(self)

    def _check_parameters(self, changes: list):
        configured = self._estimator is not None or self._configuring
        answer = parameters.check_all(changes, configured)
        for change in changes:
            if answer.successful and change.name == "target_object" and change.value and self._estimator:
                try:
                    self._estimator.library.resolve(change.value)
                except VPOGError as error:
                    answer.successful, answer.reason = False, str(error)
        return answer

    # Transitions. rclpy swallows what they raise, so each tells of its failures itself.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._configuring = True
        self._statistics.forgive()
        try:
            with stop_when(self._stopping.is_set):
                self._configure(self.settings)
        except Cancelled:
            sentence = "The node was stopped while it was getting ready."
            return self._configure_failed(sentence, sentence)
        except VPOGError as error:
            return self._configure_failed(str(error), str(error))
        except Exception as error:
            return self._configure_failed(f"{type(error).__name__}: {error}", describe(error))
        finally:
            self._configuring = False
            self._activity = ""
        return SUCCESS

    def _configure(self, settings: Settings) -> None:
        self._activity = "loading weights and objects"
        estimator = self._estimator_factory(settings, self._on_progress)
        if settings.target_object:
            estimator.library.resolve(settings.target_object)
        self._outputs = Publishers(self, estimator.library)
        self._estimator = estimator
        for object_id, sentence in self._left_out().items():
            self.get_logger().error(f"'{object_id}' is left out. {sentence}")
        images = "cv_bridge" if cv_bridge_works() else "rosbags-image"
        names = ", ".join(name for name in estimator.object_ids if name not in self._left_out())
        self.get_logger().info(f"Ready on {estimator.device}, images through {images}, objects: {names}.")

    def _left_out(self) -> dict[str, str]:
        """The objects that cannot be used, each with the sentence that says why."""
        return {} if self._estimator is None else self._estimator.left_out

    def _configure_failed(self, sentence: str, log: str) -> TransitionCallbackReturn:
        self._statistics.failure("configure", sentence)
        self._release()
        self.get_logger().error(log)
        return FAILURE

    def _on_progress(self, done: int, total: int, object_id: str) -> None:
        """Told by the estimator while it onboards."""
        self._activity = f"onboarding {object_id}: {done} of {total}"
        self.get_logger().info(f"Onboarding {object_id}: {done} of {total}", throttle_duration_sec=2.0)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._activate(self.settings)
        except Exception as error:
            self._statistics.failure("activate", f"{type(error).__name__}: {error}")
            self.get_logger().error(describe(error))
            self._stop_work()
            return FAILURE
        return LifecycleNodeMixin.on_activate(self, state)

    def _activate(self, settings: Settings) -> None:
        self._buffer = FrameBuffer(settings.image_buffer_size, counts=self._totals)
        processor = FrameProcessor(self, self._estimator, self._outputs, self._statistics)
        self._worker = Worker(self._buffer, processor.process, self._statistics, self.get_logger())
        self._worker.start()
        image_type = Image if settings.image_transport == "raw" else CompressedImage
        self._subscribe(CameraInfo, "camera_info", processor.on_camera_info)
        self._subscribe(image_type, "image", self._on_image)
        self._subscribe(Instance2DArray, "instances", self._on_detections)
        if optional.Detection2DArray:
            self._subscribe(optional.Detection2DArray, "detections", self._on_detections)

    def _subscribe(self, message_type, topic: str, callback: Callable) -> None:
        subscription = self.create_subscription(
            message_type,
            topic,
            callback,
            # A copy: rclpy writes overrides into the profile it is given.
            copy.copy(qos_profile_sensor_data),
            callback_group=self._input_group,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
        self._subscriptions_live.append(subscription)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_work()
        return LifecycleNodeMixin.on_deactivate(self, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_work()
        self._release()
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_work()
        self._release()
        return SUCCESS

    def _stop_work(self) -> None:
        for subscription in self._subscriptions_live:
            self.destroy_subscription(subscription)
        self._subscriptions_live.clear()
        if self._worker is not None and not self._worker.stop():
            self.get_logger().warning(
                "The frame in work has not ended yet: it ends at its next step, and is not published."
            )
        self._worker = self._buffer = None

    def _release(self) -> None:
        if self._outputs is not None:
            self._outputs.destroy()
        self._outputs = self._estimator = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def destroy_node(self) -> None:
        self.request_stop()
        self._stop_work()
        self._release()
        super().destroy_node()

    # Inputs: each callback only remembers; the worker does the work.

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._statistics.event("images")
        if self._buffer is not None:
            self._buffer.add_image(stamp_to_ns(message.header.stamp), message)

    def _on_detections(self, message) -> None:
        self._statistics.event("detections")
        if self._buffer is not None:
            self._buffer.add_detections(stamp_to_ns(message.header.stamp), message)

    def _publish_diagnostics(self) -> None:
        estimator = self._estimator
        message = build_message(
            self._statistics,
            dataclasses.replace(self._totals),
            self.get_fully_qualified_name(),
            self._state_machine.current_state[1],
            self._activity,
            estimator.device if estimator is not None else "",
            self.get_clock().now().to_msg(),
            list(self._left_out().values()),
        )
        self._diagnostics.publish(message)

    def start(self) -> None:
        """Configure and activate, as a lifecycle manager would."""
        if self.trigger_configure() == SUCCESS and not self._stopping.is_set():
            self.trigger_activate()

    def request_stop(self) -> None:
        """End what is under way at its next step: an onboarding, or a frame."""
        self._stopping.set()


def main() -> int:
    """Run the node until it is told to end; returns the process's exit status."""
    return run(VpogNode)


if __name__ == "__main__":
    sys.exit(main())
