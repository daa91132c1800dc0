"""A time for each frame becomes a number of detections, by what detections took."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from vpog_ros.frame_budget import FrameBudget


@pytest.mark.parametrize(
    ("budget_s", "limit"),
    [
        (0.0, (16, "max_detections")),
        (0.35, (3, "frame_budget")),
        (0.01, (1, "frame_budget")),
        (60.0, (16, "max_detections")),
    ],
)
def test_as_many_as_there_is_time_for(budget_s, limit):
    budget = FrameBudget()
    assert budget.limit(budget_s, 16) == (16, "max_detections")
    budget.add(0.0, 0)
    budget.add(0.8, 8)
    assert budget.limit(budget_s, 16) == limit


def test_the_average_follows_a_machine_that_becomes_slower():
    budget = FrameBudget()
    limits = []
    for seconds in (0.1, *[0.2] * 15):
        budget.add(seconds, 1)
        limits.append(budget.limit(1.0, 16)[0])
    assert limits[0] == 10
    # One slow frame is not taken for all; a second of them is.
    assert 5 < limits[1] < 10
    assert limits[-1] == 5
    assert limits == sorted(limits, reverse=True)
