from __future__ import annotations

import numpy as np
import pytest

from vpog_core.messages.instance_numbers import MEMORY_FRAMES, InstanceNumbers

LEFT, MIDDLE, RIGHT = (np.array([x, 100.0, x + 80.0, 180.0]) for x in (0.0, 200.0, 400.0))


def frame(numbers: InstanceNumbers, given: list, boxes: list) -> list[int]:
    numbers.next_frame()
    return numbers.assign("mug", given, boxes)


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ([None, None], [0, 1]),
        ([17, 4], [17, 4]),
        ([1, None], [1, 0]),
        ([0, None], [0, 1]),
        ([5, 5], [0, 1]),
        ([0, 0, 7], [0, 1, 2]),
    ],
)
def test_each_number_is_given_once(given, result):
    assert frame(InstanceNumbers(), given, [LEFT, MIDDLE, RIGHT][: len(given)]) == result


@pytest.mark.parametrize("given", [None, 3])
def test_numbers_stay_with_their_objects_when_the_order_changes(given):
    numbers = InstanceNumbers()
    assert frame(numbers, [given] * 3, [LEFT, MIDDLE, RIGHT]) == [0, 1, 2]
    assert frame(numbers, [given] * 3, [RIGHT + 6, LEFT - 4, MIDDLE + 9]) == [2, 0, 1]
    assert frame(numbers, [given], [MIDDLE]) == [1]
    assert frame(numbers, [given] * 3, [RIGHT, MIDDLE, LEFT]) == [2, 1, 0]


def test_a_detector_that_gave_one_number_twice_is_not_asked_again():
    """The second mug alone comes with the number that means the first one here."""
    numbers = InstanceNumbers()
    assert frame(numbers, [0, 0], [LEFT, RIGHT]) == [0, 1]
    assert frame(numbers, [0], [RIGHT]) == [1]


def test_an_object_that_jumps_keeps_its_number():
    numbers = InstanceNumbers()
    frame(numbers, [None], [LEFT])
    assert frame(numbers, [None], [RIGHT]) == [0]


def test_a_new_object_takes_the_number_of_none_that_may_come_back():
    numbers = InstanceNumbers()
    frame(numbers, [None, None], [LEFT, MIDDLE])
    frame(numbers, [None], [MIDDLE])
    assert frame(numbers, [None, None], [MIDDLE, RIGHT]) == [1, 2]
    for _ in range(MEMORY_FRAMES + 1):
        frame(numbers, [None], [MIDDLE])
    assert frame(numbers, [None, None], [MIDDLE, RIGHT]) == [1, 0]


def test_an_object_that_is_followed_keeps_its_number_however_long_it_is_not_detected():
    numbers = InstanceNumbers()
    assert frame(numbers, [None, None], [LEFT, RIGHT]) == [0, 1]
    for _ in range(2 * MEMORY_FRAMES):
        frame(numbers, [None], [LEFT])
        numbers.keep("mug", 1, MIDDLE)
    assert frame(numbers, [None, None], [MIDDLE, LEFT]) == [1, 0]


def test_a_detector_s_number_goes_before_what_is_remembered():
    numbers = InstanceNumbers()
    frame(numbers, [None], [LEFT])
    assert frame(numbers, [0, None], [RIGHT, LEFT]) == [0, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e308])
def test_broken_boxes_get_a_number_too(value):
    numbers = InstanceNumbers()
    for _ in range(2):
        assert sorted(frame(numbers, [None, None], [np.full(4, value), LEFT])) == [0, 1]


def test_classes_are_numbered_apart():
    numbers = InstanceNumbers()
    numbers.next_frame()
    assert numbers.assign("mug", [None], [LEFT]) == [0]
    assert numbers.assign("can", [None], [LEFT]) == [0]
