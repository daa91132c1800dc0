"""Run the work of lifecycle transitions, and tell users what it raises, which rclpy would swallow."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.lifecycle import TransitionCallbackReturn

from vpog_core.cancellation import Cancelled
from vpog_core.types import VPOGError, sentence_of
from vpog_ros.diagnostics import Statistics
from vpog_ros.errors import error_log

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE
ERROR = TransitionCallbackReturn.ERROR

UNDONE = "the node is as it was before: the traceback is in the log"
RELEASED = "the node gives up all it holds and is unconfigured: configure it again"
FINALIZED = "the node is finalized: start its process again"


def run_transition(
    label: str,
    work: Callable[[], None],
    statistics: Statistics,
    logger,
    undo: Callable[[str], None] | None = None,
) -> TransitionCallbackReturn:
    """Run the work of a transition; what it raises is logged, and kept for /diagnostics.

    Args:
        label: name of the transition, such as `configure`.
        undo: called with the sentence of the failure, and returns the node to its state before the
            transition; None: the node enters the error state.
    """
    try:
        work()
        return SUCCESS
    except Cancelled:
        told = f"The node was stopped during {label}."
        logger.info(told)
    except Exception as error:
        told = _sentence(label, error, undo is not None)
        statistics.failure(label, told)
        logger.error(told if isinstance(error, VPOGError) else f"{told} {error_log(error)}")
    if undo is None:
        return ERROR
    undo(told)
    return FAILURE


def _sentence(label: str, error: Exception, is_undone: bool) -> str:
    """Return the sentence on the failure of a transition, with its consequence."""
    if is_undone and isinstance(error, VPOGError):
        return str(error)
    consequence = UNDONE if is_undone else FINALIZED if label == "error" else RELEASED
    return f"The transition '{label}' failed ({sentence_of(error)}), and {consequence}."
