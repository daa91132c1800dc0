import numpy as np
import pytest

from vpog_core.evaluation.pose_metrics import PoseMetrics
from vpog_core.geometry.se3 import rotation_z, transform

POINTS = np.array([[1, 1, 0], [1, -1, 0], [-1, -1, 0], [-1, 1, 0.0]]) * 0.05
DIAMETER = 0.1 * np.sqrt(2)
TRUTH = transform(np.eye(3), [0, 0, 1.0])


def shifted(fraction):
    return transform(np.eye(3), [fraction * DIAMETER, 0, 1.0])


def test_shares_count_missing_poses_as_wrong():
    metrics = PoseMetrics()
    metrics.update("mug", shifted(0.05), TRUTH, POINTS, DIAMETER)
    metrics.update("mug", shifted(0.2), TRUTH, POINTS, DIAMETER)
    metrics.update("can", None, TRUTH, POINTS, DIAMETER)
    metrics.update("can", TRUTH, TRUTH, POINTS, DIAMETER)
    assert metrics.recall == 0.5
    assert metrics.object_lines()[1].startswith("can  1 of 2 answered")
    assert "3 of 4 answered" in metrics.summary()
    assert "translation error median 5.0 %" in metrics.summary()
    assert metrics.summary().endswith("for 50 %")


def test_score_is_in_shares_of_the_diameter_and_radians():
    score = PoseMetrics().update(
        "mug", shifted(0.05) @ transform(rotation_z(0.3), [0, 0, 0]), TRUTH, POINTS, DIAMETER
    )
    assert score.translation == pytest.approx(0.05)
    assert score.rotation == pytest.approx(0.3)


def test_symmetric_objects_are_judged_by_adds():
    quarter = TRUTH @ transform(rotation_z(np.pi / 2), [0, 0, 0])
    metrics = PoseMetrics()
    assert not metrics.update("plate", quarter, TRUTH, POINTS, DIAMETER).correct
    assert metrics.update("plate", quarter, TRUTH, POINTS, DIAMETER, symmetric=True).correct


def test_latencies_and_an_empty_tally():
    metrics = PoseMetrics(latencies=[0.1, 0.2, 0.3])
    assert metrics.recall == 0.0
    assert "median 200 ms, p95 290 ms over 3 frames" in metrics.summary()
    assert metrics.object_lines() == []
