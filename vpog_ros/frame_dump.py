"""Offer the service ~/dump, which writes inputs and results of the last frame into a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from std_srvs.srv import Trigger

from vpog_core.frame_dump.recorder import RecordedEstimator
from vpog_core.types import VPOGError
from vpog_ros.parameters import Settings

OFF = "dump_dir is not set, so nothing is written: start the node with dump_dir set to a folder."
NO_FRAME = (
    "No frame with detections of known objects has been answered yet, so there is nothing to write: "
    "/diagnostics tells what is missing."
)


class FrameDump:
    """Stores the last frame that was processed, and writes it on request.

    Args:
        node: the node that has the service.
        settings, diagnostics: give the parameters, and what /diagnostics says, now.
    """

    def __init__(
        self,
        node,
        callback_group,
        settings: Callable[[], Settings],
        diagnostics: Callable[[], DiagnosticArray],
    ) -> None:
        self._settings, self._diagnostics = settings, diagnostics
        self._recorded: RecordedEstimator | None = None
        self._service = node.create_service(Trigger, "~/dump", self._answer, callback_group=callback_group)

    def recorded(self, estimator) -> RecordedEstimator:
        """Return an estimator that does the same and whose calls are recorded."""
        self._recorded = RecordedEstimator(estimator)
        return self._recorded

    def with_context(self, process: Callable) -> Callable:
        """Return the function that processes a frame, which first records the context of the frame."""
        recorded = self._recorded

        def work(frame):
            recorded.context = context_of(frame.image.header)
            return process(frame)

        return work

    def forget(self) -> None:
        """Release the frame and the estimator, as the node is cleaned up."""
        self._recorded = None

    def _answer(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message = f"The frame is written to {self._write()}."
            response.success = True
        except VPOGError as error:
            response.message = str(error)
        return response

    def _write(self) -> Path:
        settings, recorded = self._settings(), self._recorded
        if not settings.dump_dir:
            raise VPOGError(OFF)
        call = None if recorded is None else recorded.last
        if call is None:
            raise VPOGError(NO_FRAME)
        # Imported here, because it imports torch.
        from vpog_core.frame_dump.write import write_dump
        from vpog_core.inference.networks import DEFAULT_REFINER
        from vpog_core.models.checkpoint import weights_key

        weights = {
            "network": recorded.networks.key,
            "refiner": weights_key(settings.refiner_weights or DEFAULT_REFINER),
        }
        folder = Path(settings.dump_dir).expanduser()
        name = f"frame_{call.context.get('stamp', 'unknown')}"
        about = dataclasses.asdict(settings) | {"diagnostics": _values(self._diagnostics())}
        return write_dump(folder, name, call, recorded, weights, about)


def context_of(header) -> dict[str, str]:
    """Return which frame a call of the estimator is about."""
    stamp = f"{header.stamp.sec}.{header.stamp.nanosec:09d}"
    return {"stamp": stamp, "frame_id": header.frame_id}


def _values(message: DiagnosticArray) -> dict[str, str]:
    status = message.status[0]
    return {item.key: item.value for item in status.values} | {"message": status.message}
