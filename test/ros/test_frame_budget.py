"""Test that a time for each frame becomes a number of detections, from the time detections took."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import RegionOfInterest
from vpog_ros.msg import Instance2D, Instance2DArray

from vpog_core.messages.detections import DetectionReader
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.mesh import save_mesh
from vpog_core.synthetic.objects import make_object
from vpog_ros.diagnostics import Statistics
from vpog_ros.frame_budget import FrameBudget
from vpog_ros.notices import Notices


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


def test_the_best_come_first_and_the_rest_next_time(tmp_path):
    save_mesh(make_object(900_020, vertices=300), tmp_path / "mug.ply")
    said, statistics, budget = [], Statistics(), FrameBudget()
    notices = Notices(SimpleNamespace(info=said.append))
    reader = DetectionReader(ObjectLibrary(tmp_path), statistics, notices)
    message = Instance2DArray(
        instances=[
            Instance2D(
                class_id="mug",
                score=0.1 * n,
                roi=RegionOfInterest(x_offset=100 * n, y_offset=10, width=60, height=60),
            )
            for n in range(5)
        ]
    )
    places = []
    for _ in range(4):
        limit, name = budget.limit(0.25, 16)
        detections, _ = reader.read(message, 640, 480, limit, limited_by=name)
        places.append(sorted(round(d.box[0]) // 100 for d in detections))
        budget.add(0.1 * len(detections), len(detections))
    # The first frame is measured; then there is time for two, and the best have their turn again at the end.
    assert places == [[0, 1, 2, 3, 4], [3, 4], [1, 2], [0, 4]]
    assert statistics.left_out["detections over frame_budget"] == 9
    assert any("raise frame_budget to use more" in sentence for sentence in said)
