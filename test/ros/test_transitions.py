"""Test that a lifecycle transition that fails is told of, undone where it can be, and never raises."""

from __future__ import annotations

import logging

import pytest

pytest.importorskip("rclpy")

from vpog_core.cancellation import Cancelled
from vpog_core.types import VPOGError
from vpog_ros.diagnostics import Statistics
from vpog_ros.transitions import ERROR, FAILURE, SUCCESS, run_transition

LOG = logging.getLogger("transitions")


def failing(error: Exception):
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "label", "is_undone", "result", "sentence"),
    [
        (VPOGError("There is no folder 'x'."), "configure", True, FAILURE, "There is no folder 'x'."),
        (
            RuntimeError("no memory"),
            "activate",
            True,
            FAILURE,
            "The transition 'activate' failed (RuntimeError: no memory), and the node is as it was before: "
            "the traceback is in the log.",
        ),
        (
            VPOGError("It is stuck."),
            "deactivate",
            False,
            ERROR,
            "The transition 'deactivate' failed (VPOGError: It is stuck.), and the node gives up all it "
            "holds and is unconfigured: configure it again.",
        ),
        (
            RuntimeError("gone"),
            "error",
            False,
            ERROR,
            "The transition 'error' failed (RuntimeError: gone), and the node is finalized: start its "
            "process again.",
        ),
    ],
)
def test_a_failure_is_one_sentence_with_its_consequence(caplog, error, label, is_undone, result, sentence):
    statistics, undone = Statistics(), []
    undo = undone.append if is_undone else None
    assert run_transition(label, failing(error), statistics, LOG, undo) == result
    assert undone == [sentence] * is_undone
    assert (statistics.last_error, dict(statistics.failures)) == (sentence, {label: 1})
    (record,) = caplog.records
    assert record.getMessage().startswith(sentence)
    assert ("Traceback" in record.getMessage()) is not isinstance(error, VPOGError)


def test_a_transition_that_was_cancelled_is_no_failure(caplog):
    caplog.set_level(logging.INFO)
    statistics, undone = Statistics(), []
    assert run_transition("configure", failing(Cancelled()), statistics, LOG, undone.append) == FAILURE
    assert undone == ["The node was stopped during configure."]
    assert (statistics.last_error, caplog.records[0].levelname) == ("", "INFO")


def test_a_transition_that_succeeds_undoes_nothing():
    undone: list[str] = []
    assert run_transition("configure", lambda: None, Statistics(), LOG, undone.append) == SUCCESS
    assert undone == []
