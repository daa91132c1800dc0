"""Test frames with more detections than time: the best come first, and each has its turn."""

from __future__ import annotations

import numpy as np

from vpog_core.messages.round_robin import RoundRobin, overlaps


def row_of_boxes(count: int) -> np.ndarray:
    """Return boxes beside each other."""
    left = 100.0 * np.arange(count)
    return np.stack([left, np.zeros(count), left + 50, np.full(count, 50.0)], axis=1)


def test_those_left_out_come_first_in_the_next_image():
    round_robin, boxes = RoundRobin(), row_of_boxes(5)
    assert round_robin.choose(["mug"] * 5, boxes, 3) == [0, 1, 2]
    assert round_robin.choose(["mug"] * 5, boxes + 4, 3) == [0, 3, 4]
    assert round_robin.choose(["mug"] * 5, boxes + 8, 5) == [0, 1, 2, 3, 4]
    assert round_robin.choose(["mug"] * 5, boxes, 3) == [0, 1, 2]


def test_with_one_at_a_time_all_have_their_turn():
    round_robin, boxes = RoundRobin(), row_of_boxes(4)
    used = [round_robin.choose(["mug"] * 4, boxes, 1)[0] for _ in range(8)]
    assert sorted(used[:4]) == sorted(used[4:]) == [0, 1, 2, 3]


def test_what_is_elsewhere_or_of_another_class_has_not_waited():
    round_robin, boxes = RoundRobin(), row_of_boxes(2)
    round_robin.choose(["mug", "mug"], boxes, 1)
    assert round_robin.choose(["mug", "drill"], boxes, 1) == [0]
    round_robin.choose(["mug", "mug"], boxes, 1)
    assert round_robin.choose(["mug", "mug"], boxes + np.array([[0, 0, 0, 0], [0, 40, 0, 40]]), 1) == [0]


def test_overlaps_of_boxes_that_are_none_are_zero():
    broken = np.array([[np.nan] * 4, [5, 5, 1, 1], [0, 0, np.inf, np.inf], [0, 0, 10, 10]])
    table = overlaps(broken, np.array([[0.0, 0, 10, 20]]))
    assert table[:, 0].tolist() == [0.0, 0.0, 0.0, 0.5]
