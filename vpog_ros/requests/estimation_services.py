"""Offer the action ~/estimate and the service ~/estimate_once: poses on demand."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType

from vpog_core.messages.ring import remember
from vpog_core.types import VPOGError
from vpog_ros import optional
from vpog_ros.action import Estimate
from vpog_ros.diagnostics import Statistics
from vpog_ros.requests.estimation_request import (
    CANCELLED,
    EstimationRequest,
    OpenRequests,
    Result,
    TimeOfRequest,
    refusal,
)
from vpog_ros.srv import EstimateOnce

EXPIRE_S = 0.2
"""Seconds between two checks whether requests were cancelled or have timed out."""
MOST_ACCEPTED = 64
"""Largest number of goals whose time is kept until rclpy has told their callers that they are accepted."""


class EstimationServices:
    """Turns goals and calls into requests. No thread of the executor waits for a goal; one does for a call.

    Args:
        node: the node that has them.
        requests: where the requests wait for the worker.
        timeout_s: gives the parameter request_timeout.
        statistics: record the requests that were answered without a pose.
    """

    def __init__(
        self, node, requests: OpenRequests, timeout_s: Callable[[], float], statistics: Statistics
    ) -> None:
        self._node, self._requests, self._timeout_s = node, requests, timeout_s
        self._statistics = statistics
        self._asked: OrderedDict[int, TimeOfRequest] = OrderedDict()
        """When goals came, by the identity of their messages."""
        # One at a time: each call blocks a thread of the executor until it is complete.
        calls = MutuallyExclusiveCallbackGroup()
        node.create_service(EstimateOnce, "~/estimate_once", self._call, callback_group=calls)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        group = MutuallyExclusiveCallbackGroup()
        node.create_timer(EXPIRE_S, requests.expire, callback_group=group, clock=steady)
        self._action = None
        if optional.ActionServer is not None:
            self._action = optional.ActionServer(
                node,
                Estimate,
                "~/estimate",
                goal_callback=self._note_time,
                execute_callback=lambda goal_handle: Estimate.Result(),  # Never called: see _finish.
                handle_accepted_callback=self._accept,
                cancel_callback=lambda goal_handle: optional.CancelResponse.ACCEPT,
                callback_group=ReentrantCallbackGroup(),
            )

    def destroy(self) -> None:
        """Destroy the action, which a node does not do when it is destroyed."""
        if self._action is not None:
            self._action.destroy()
            self._action = None

    def _note_time(self, goal) -> object:
        """Accept a goal, and store when it came.

        rclpy tells the caller that the goal is accepted before it calls `_accept`: an image that the caller
        has taken in between is one from after the request.
        """
        remember(self._asked, id(goal), self._now(), MOST_ACCEPTED)
        return optional.GoalResponse.ACCEPT

    def _accept(self, goal_handle) -> None:
        def tell(stage: str, sentence: str) -> None:
            goal_handle.publish_feedback(Estimate.Feedback(stage=stage, message=sentence))

        self._open(
            goal_handle.request,
            self._asked.pop(id(goal_handle.request), None) or self._now(),
            functools.partial(self._finish, goal_handle),
            tell,
            lambda: goal_handle.is_cancel_requested,
        )

    def _open(self, goal, asked: TimeOfRequest, on_result: Callable[[Result], None], *more) -> None:
        def record(result: Result) -> None:
            if result.message and result.message != CANCELLED:
                self._statistics.failure("request", result.message)
            on_result(result)

        try:
            request = EstimationRequest(goal, self._timeout_s(), record, *more, asked=asked)
        except VPOGError as error:
            record(refusal(str(error)))
            return
        self._requests.add(request)

    def _now(self) -> TimeOfRequest:
        return TimeOfRequest(self._node.get_clock().now().nanoseconds)

    def _finish(self, goal_handle, result: Result) -> None:
        """Complete a goal with its result. Called in any thread; the executor concludes the goal at once."""

        def conclude(handle) -> Result:
            if handle.is_cancel_requested:
                handle.canceled()
            elif result.poses.poses:
                handle.succeed()
            else:
                handle.abort()
            return result

        try:
            goal_handle.execute(conclude)
        except RuntimeError:  # It was cancelled while rclpy checked its state.
            goal_handle.execute(conclude)

    def _call(self, call: EstimateOnce.Request, response: EstimateOnce.Response) -> EstimateOnce.Response:
        results: list[Result] = []
        is_complete = threading.Event()

        def on_result(result: Result) -> None:
            results.append(result)
            is_complete.set()

        self._open(call, self._now(), on_result)
        # Check the timeout here as well, as this may be the executor's only thread.
        while not is_complete.wait(EXPIRE_S):
            self._requests.expire()
        response.poses, response.without_pose = results[0].poses, results[0].without_pose
        response.message, response.success = results[0].message, bool(results[0].poses.poses)
        return response
