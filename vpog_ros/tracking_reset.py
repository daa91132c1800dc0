"""Offer the service ~/reset_tracking, which drops all tracks."""

from __future__ import annotations

from std_srvs.srv import Trigger

from vpog_ros.frame_processor import FrameProcessor


class TrackingReset:
    """Offers the service on a node.

    Attributes:
        processor: follows the objects while the node is active; None while it is not.
    """

    def __init__(self, node, callback_group) -> None:
        self.processor: FrameProcessor | None = None
        node.create_service(Trigger, "~/reset_tracking", self._answer, callback_group=callback_group)

    def _answer(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        processor = self.processor
        response.success = processor is not None
        response.message = "The node is not active: it follows nothing."
        if processor is not None:
            processor.reset_tracking()
            response.message = "The objects that were followed are forgotten."
        return response
