import numpy as np
import pytest

from vpog_core.evaluation.tally import PoseTally
from vpog_core.geometry.se3 import rotation_z, transform

POINTS = np.array([[1, 1, 0], [1, -1, 0], [-1, -1, 0], [-1, 1, 0.0]]) * 0.05
DIAMETER = 0.1 * np.sqrt(2)
TRUTH = transform(np.eye(3), [0, 0, 1.0])


def shifted(share):
    return transform(np.eye(3), [share * DIAMETER, 0, 1.0])


def test_shares_count_missing_poses_as_wrong():
    tally = PoseTally()
    tally.count("mug", shifted(0.05), TRUTH, POINTS, DIAMETER)
    tally.count("mug", shifted(0.2), TRUTH, POINTS, DIAMETER)
    tally.count("can", None, TRUTH, POINTS, DIAMETER)
    tally.count("can", TRUTH, TRUTH, POINTS, DIAMETER)
    assert tally.share_right == 0.5
    assert tally.object_lines()[1].startswith("can  1 of 2 answered")
    assert "3 of 4 answered" in tally.summary()
    assert "translation error median 5.0 %" in tally.summary()
    assert tally.summary().endswith("for 50 %")


def test_score_is_in_shares_of_the_diameter_and_radians():
    score = PoseTally().count(
        "mug", shifted(0.05) @ transform(rotation_z(0.3), [0, 0, 0]), TRUTH, POINTS, DIAMETER
    )
    assert score.translation == pytest.approx(0.05)
    assert score.rotation == pytest.approx(0.3)


def test_symmetric_objects_are_judged_by_adds():
    quarter = TRUTH @ transform(rotation_z(np.pi / 2), [0, 0, 0])
    tally = PoseTally()
    assert not tally.count("plate", quarter, TRUTH, POINTS, DIAMETER).right
    assert tally.count("plate", quarter, TRUTH, POINTS, DIAMETER, symmetric=True).right


def test_latencies_and_an_empty_tally():
    tally = PoseTally(latencies=[0.1, 0.2, 0.3])
    assert tally.share_right == 0.0
    assert "median 200 ms, p95 290 ms over 3 frames" in tally.summary()
    assert tally.object_lines() == []
