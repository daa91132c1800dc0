from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus

from vpog_ros.diagnostics import WINDOW_S, Statistics, build_message
from vpog_ros.inputs.frame_buffer import Counts


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def status(statistics: Statistics, state: str, activity: str = "") -> DiagnosticStatus:
    message = build_message(statistics, Counts(matched=7), "/vpog_node", state, activity, "cpu", Time())
    return message.status[0]


def test_rates_forget_what_is_old(clock):
    statistics = Statistics(clock)
    for _ in range(20):
        statistics.event("images")
    assert statistics.rates() == {"images": 20 / WINDOW_S}
    clock.now += WINDOW_S + 0.1
    assert statistics.rates() == {"images": 0.0}


def test_latencies_are_percentiles_of_the_window(clock):
    statistics = Statistics(clock)
    statistics.duration("match", 99.0)
    clock.now += WINDOW_S + 0.1
    for milliseconds in range(1, 102):
        statistics.duration("match", milliseconds * 1e-3)
    np.testing.assert_allclose(statistics.latencies()["match"], (0.051, 0.096))


def test_message_tells_counts_and_latencies(clock):
    statistics = Statistics(clock)
    statistics.duration("latency match", 0.02)
    values = {item.key: item.value for item in status(statistics, "active").values}
    assert values["frames matched"] == "7"
    assert values["latency match p50 [ms]"] == "20.0"
    assert values["device"] == "cpu"


def test_levels(clock):
    statistics = Statistics(clock)
    assert status(statistics, "active").level == DiagnosticStatus.OK
    statistics.failure("frame", "Too dark.")
    assert status(statistics, "active").level == DiagnosticStatus.WARN
    clock.now += WINDOW_S + 1
    assert status(statistics, "active").level == DiagnosticStatus.OK
    failed = status(statistics, "unconfigured")
    assert (failed.level, failed.message) == (DiagnosticStatus.ERROR, "Too dark.")
    statistics.clear_error()
    assert status(statistics, "unconfigured").level == DiagnosticStatus.OK


def test_failures_are_counted_by_kind(clock):
    statistics = Statistics(clock)
    for kind in ("frame", "detection", "detection"):
        statistics.failure(kind, "x")
    values = {item.key: item.value for item in status(statistics, "active").values}
    assert (values["failures, detection"], values["failures, frame"]) == ("2", "1")


def test_activity_is_the_summary(clock):
    assert status(Statistics(clock), "configuring", "onboarding mug: 3 of 162").message.startswith(
        "onboarding mug"
    )


def test_hints_on_objects_are_values_and_no_warning(clock):
    statistics = Statistics(clock)
    statistics.hints["symmetry of can"] = "It looks the same after any turn."
    shown = status(statistics, "active")
    assert shown.level == DiagnosticStatus.OK
    assert {v.key: v.value for v in shown.values}["symmetry of can"] == "It looks the same after any turn."
