"""Convert unexpected errors to a sentence for the user, and log the traceback once."""

from __future__ import annotations

import logging

import torch

from vpog_core.types import Detection, PoseEstimate, VPOGError, sentence_of

_LOG = logging.getLogger(__name__)


class Failures:
    """Converts errors to sentences; the traceback of each kind of error is logged the first time."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def reason(self, what: str, error: Exception) -> str:
        """Return the sentence of a VPOGError; for any other error, one that says that `what` failed."""
        if isinstance(error, VPOGError):
            return str(error)
        summary = sentence_of(error)
        level = logging.DEBUG if summary in self._logged else logging.ERROR
        self._logged.add(summary)
        _LOG.log(level, "%s failed: %s", what, summary, exc_info=error)
        remedy = "this is a defect, please report it with the traceback in the log"
        if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
            remedy = "use fewer detections at once, or a device with more memory"
        elif isinstance(error, getattr(torch, "AcceleratorError", ())):
            remedy = "start the program again; if it comes again, check the GPU and its driver"
        return f"{what} failed ({summary}): {remedy}."

    def estimate(self, detection: Detection, error: Exception) -> PoseEstimate:
        """Make an estimate without a pose for a detection that failed with an error."""
        what = f"The estimate of '{detection.class_id}'"
        return PoseEstimate(detection.class_id, detection.instance, reason=self.reason(what, error))
