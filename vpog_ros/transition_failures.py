"""Logs exceptions of lifecycle transitions: rclpy enters the error state without logging them."""

from __future__ import annotations

import functools
from collections.abc import Callable

from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from vpog_ros.worker import format_traceback

TRANSITIONS = ("on_deactivate", "on_cleanup", "on_shutdown", "on_error")
"""Transitions that do not log their exceptions themselves."""
CONSEQUENCE = "the node gives up all it holds and is unconfigured: configure it again"
CONSEQUENCE_OF_ERROR = "the node is finalized: start its process again"


def report_failures(node_class: type) -> type:
    """Make the transitions of a lifecycle node's class log what they raise, and keep it for /diagnostics.

    Args:
        node_class: its nodes have a logger and `_statistics`.
    """
    for name in TRANSITIONS:
        setattr(node_class, name, _reporting(getattr(node_class, name)))
    return node_class


def _reporting(transition: Callable) -> Callable:
    label = transition.__name__.removeprefix("on_")
    consequence = CONSEQUENCE_OF_ERROR if label == "error" else CONSEQUENCE

    @functools.wraps(transition)
    def reporting(node, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            sentence = (
                f"The transition '{label}' failed ({type(error).__name__}: {error}), and {consequence}."
            )
            node._statistics.failure(label, sentence)
            node.get_logger().error(f"{sentence} {format_traceback(error)}")
            return TransitionCallbackReturn.ERROR

    return reporting
