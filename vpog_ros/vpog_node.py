"""Run the lifecycle node: images, camera and 2D detections in, 6D poses out."""

from __future__ import annotations

if __name__ == "__main__":
    from vpog_ros.start import prepare

    prepare(interrupted=0)

import contextlib
import dataclasses
import sys
import threading
from collections.abc import Callable
from functools import partial
from importlib import import_module

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from vpog_core.cancellation import stop_when
from vpog_core.types import VPOGError
from vpog_ros import optional, parameters
from vpog_ros.clock_watch import ClockWatch
from vpog_ros.diagnostics import Statistics, build_message
from vpog_ros.estimator_loading import EstimatorFactory, free_memory, load_estimator, log_ready
from vpog_ros.frame_dump import FrameDump
from vpog_ros.frame_inputs import FrameInputs
from vpog_ros.frame_lookup import Transforms
from vpog_ros.frame_processor import FrameProcessor
from vpog_ros.inputs.frame_buffer import Counts, FrameBuffer
from vpog_ros.known_plane import KnownPlane
from vpog_ros.manager_bond import ManagerBond
from vpog_ros.notices import Notices
from vpog_ros.outputs.publishers import Publishers
from vpog_ros.parameters import Settings
from vpog_ros.process import run
from vpog_ros.requests.on_demand import OnDemand
from vpog_ros.tracking_reset import TrackingReset
from vpog_ros.transitions import SUCCESS, run_transition
from vpog_ros.worker import Worker

WATCH_S = 0.5
"""Seconds between two checks of the inputs: for publishers that came or went, and silent topics."""

NETWORKS = "vpog_core.inference.estimator"
"""Module that imports torch, which takes seconds."""


class VpogNode(parameters.RenamedParameters, LifecycleNodeMixin, Node):
    """Estimates poses of detected objects; see docs/interface.md for topics and parameters."""

    def __init__(
        self, estimator_factory: EstimatorFactory = load_estimator, node_name: str = "vpog_node", **kwargs
    ) -> None:
        """Declare the parameters, and make the parts that exist in every state.

        Args:
            estimator_factory: makes the estimator at configure, reporting progress; kwargs: for Node.

        Raises:
            rclpy.exceptions.ParameterException: a parameter given at start is refused.
        """
        Node.__init__(self, node_name, **kwargs)
        # Reentrant: the node reports its state while configure loads and onboards.
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        self._estimator_factory = estimator_factory
        self._estimator = None
        self._outputs: Publishers | None = None
        self._transforms: Transforms | None = None
        self._known_plane: KnownPlane | None = None
        self._worker: Worker | None = None
        self._inputs: FrameInputs | None = None
        self._input_group = MutuallyExclusiveCallbackGroup()
        self._configuring = False
        self._stopping = threading.Event()
        self._activity = self._why_inactive = ""
        self._statistics = Statistics()
        self._notices = Notices(self.get_logger())
        self._totals = Counts()
        self._clock_watch = ClockWatch(self)
        # Parallel to the other callbacks, as writing takes time.
        own_group = MutuallyExclusiveCallbackGroup()
        self._dump = FrameDump(self, own_group, lambda: self.settings, self._diagnosis)
        self._on_demand = OnDemand(self, self._statistics)
        self._bond = ManagerBond(self)
        self._tracking_reset = TrackingReset(self, own_group)
        self.add_on_set_parameters_callback(self._check_parameters)
        parameters.declare(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Use a steady clock: with simulated time the node's own stands still until /clock is received.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        for period_s, callback in (
            (self.settings.diagnostics_period, self._publish_diagnostics),
            (WATCH_S, self._watch),
        ):
            group = MutuallyExclusiveCallbackGroup()
            self.create_timer(period_s, callback, callback_group=group, clock=steady)
        for sentence in optional.missing_features():
            self.get_logger().info(sentence)

    @property
    def settings(self) -> Settings:
        """Return the parameters' values now."""
        return parameters.read(self)

    def _check_parameters(self, changes: list):
        configured = self._estimator is not None or self._configuring
        now = {c.name: self.get_parameter(c.name).value for c in changes if self.has_parameter(c.name)}
        result = parameters.check_all(changes, now, configured)
        for change in changes:
            if result.successful and change.name == "target_object" and change.value and self._estimator:
                try:
                    self._estimator.library.resolve(change.value)
                except VPOGError as error:
                    result.successful, result.reason = False, str(error)
        return result

    # Transitions.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._run("configure", self._configure, lambda sentence: self._release())

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._run("activate", lambda: self._activate(state), self._undo_activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._run("deactivate", lambda: self._deactivate(state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._run("cleanup", self._clean_up)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._run("shutdown", self._end)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._run("error", self._end)

    def _run(
        self, label: str, work: Callable[[], None], undo: Callable[[str], None] | None = None
    ) -> TransitionCallbackReturn:
        return run_transition(label, work, self._statistics, self.get_logger(), undo)

    def _configure(self) -> None:
        self._configuring = True
        self._statistics.clear_error()
        self._activity = "loading weights and objects"
        try:
            with stop_when(self._stopping.is_set):
                self._load(self.settings)
        finally:
            self._configuring = False
            self._activity = ""

    def _load(self, settings: Settings) -> None:
        estimator = self._estimator_factory(settings, self._on_progress)
        if settings.target_object:
            estimator.library.resolve(settings.target_object)
        self._transforms = Transforms(self)
        self._outputs = Publishers(self, estimator.library, self._transforms, self._notices)
        self._known_plane = KnownPlane(self._transforms, settings, estimator.library, self._notices)
        self._estimator = estimator
        self._on_demand.configure(estimator, self._outputs)
        self._statistics.hints = log_ready(estimator, self.get_logger())

    def _left_out(self) -> dict[str, str]:
        """Return the objects that cannot be used, each with the sentence that says why."""
        return {} if self._estimator is None else self._estimator.left_out

    def _on_progress(self, done: int, total: int, object_id: str) -> None:
        """Log the progress of onboarding, as the estimator tells it."""
        self._activity = f"onboarding {object_id}: {done} of {total}"
        self.get_logger().info(f"Onboarding {object_id}: {done} of {total}", throttle_duration_sec=2.0)

    def _activate(self, state: LifecycleState) -> None:
        self._why_inactive = ""
        self._start_work(self.settings)
        LifecycleNodeMixin.on_activate(self, state)

    def _undo_activate(self, sentence: str) -> None:
        self._why_inactive = sentence
        self._stop_work()

    def _start_work(self, settings: Settings) -> None:
        self._notices.start_anew()
        self._on_demand.prepare()
        # Make what processes frames, and requests between them.
        tolerance_ns = round(settings.stamp_tolerance * 1e9)
        buffer = FrameBuffer(settings.image_buffer_size, self._totals, tolerance_ns=tolerance_ns)
        recorded = self._dump.recorded(self._estimator)
        processor = FrameProcessor(
            self, recorded, self._outputs, self._statistics, self._notices, buffer, self._known_plane
        )
        self._tracking_reset.processor = processor
        process = self._dump.with_context(processor.process)
        serve = self._on_demand.activate(recorded, processor, buffer)
        between_frames = partial(self._between_frames, serve, self._outputs)
        counts, log = self._statistics, self.get_logger()
        # Start the worker, then let messages in.
        self._worker = Worker(buffer, process, counts, log, between_frames, lambda: self.settings.max_rate)
        self._worker.start()
        self._inputs = FrameInputs(self, processor, buffer, self._on_demand, counts, self._input_group)
        # Tell the lifecycle manager that the node is alive.
        self._bond.form(settings.bond)
        if sentence := parameters.ignored(self):
            self.get_logger().warning(sentence)

    def _between_frames(self, serve: Callable[[], bool], outputs: Publishers) -> bool:
        """Remove objects without a pose, also where images have stopped; then serve a request."""
        outputs.update_scene(self._on_demand.only)
        return serve()

    def _deactivate(self, state: LifecycleState) -> None:
        self._stop_work()
        self._outputs.clear_scene()
        LifecycleNodeMixin.on_deactivate(self, state)

    def _end(self) -> None:
        self._stop_work()
        self._release()

    def _stop_work(self) -> None:
        self._bond.end()
        self._on_demand.deactivate()
        if self._inputs is not None:
            self._inputs.close()
        if self._worker is not None and not self._worker.stop():
            self.get_logger().warning(
                "The frame in work has not ended yet: it ends at its next step, and is not published."
            )
        self._worker = self._inputs = self._tracking_reset.processor = None

    def _clean_up(self) -> None:
        self._release()
        self._statistics.clear_error()

    def _release(self) -> None:
        self._on_demand.release()
        held = (self._outputs, self._transforms)
        self._outputs = self._transforms = self._known_plane = self._estimator = None
        for item in held:
            if item is not None:
                item.destroy()
        self._dump.forget()
        self._why_inactive = ""
        if self._stopping.is_set():
            return  # The process is ending, which releases everything.
        free_memory()

    def destroy_node(self) -> None:
        self.request_stop()
        self._stop_work()
        self._release()
        self._on_demand.destroy()
        super().destroy_node()
        # The reference would keep the node alive on DDS, where others would still call it.
        self._state_machine = None

    def _watch(self) -> None:
        """Warn of missing inputs: silent topics, unmatched stamps, a clock that does not start."""
        inputs = self._inputs
        if inputs is not None:
            inputs.watch(self._notices)
        else:
            self._notices.end_warnings()
        self._notices.warn_while("clock", self._clock_watch.trouble())

    def _publish_diagnostics(self) -> None:
        self._diagnostics.publish(self._diagnosis())

    def _diagnosis(self) -> DiagnosticArray:
        """Return the message on the state of the node."""
        estimator = self._estimator
        warnings = [
            self._why_inactive,
            *self._left_out().values(),
            *self._on_demand.warnings(),
            *self._notices.warnings(),
        ]
        return build_message(
            self._statistics,
            dataclasses.replace(self._totals),
            self.get_fully_qualified_name(),
            self._state_machine.current_state[1],
            self._activity or self._on_demand.activity(),
            estimator.device if estimator is not None else "",
            self.get_clock().now().to_msg(),
            [sentence for sentence in warnings if sentence],
            self._on_demand.values(),
        )

    def start(self) -> None:
        """Configure and activate, as a lifecycle manager would."""
        try:
            if self.trigger_configure() == SUCCESS and not self._stopping.is_set():
                self.trigger_activate()
        except Exception:
            # The node may be destroyed before this method returns.
            if not self._stopping.is_set():
                raise

    def request_stop(self) -> None:
        """Cancel what is under way, at its next step: an onboarding, or a frame."""
        self._stopping.set()
        self._on_demand.deactivate()


def make_node() -> VpogNode:
    """Make the node, and import torch in a thread, which makes configure quicker."""
    node = VpogNode()
    threading.Thread(target=_import_networks, name="imports", daemon=True).start()
    return node


def _import_networks() -> None:
    # Configure reports what is missing.
    with contextlib.suppress(Exception):
        import_module(NETWORKS)


def main() -> int:
    """Run the node until a signal ends it, and return the process's exit status."""
    return run(make_node)


if __name__ == "__main__":
    sys.exit(main())
