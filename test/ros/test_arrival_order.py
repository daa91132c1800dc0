"""Test images and detections without stamps: they are paired only where that cannot be wrong."""

from __future__ import annotations

import pytest

from vpog_core.messages.arrival_order import QUIET_S, START_QUIET_S, ArrivalOrder


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def play(order: ArrivalOrder, clock: Clock, events: str) -> list[str | None]:
    """Return what each detections message meets. A letter is an image, ! detections, _ a tenth of a second.

    A . is the pause before the first image, and : the one that lets the order start anew.
    """
    met = []
    for event in events:
        clock.now += {"_": 0.1, ".": START_QUIET_S, ":": QUIET_S}.get(event, 0.0)
        if event == "!":
            met.append(order.take_image())
        elif event.isalpha():
            order.add_image(event)
    return met


@pytest.mark.parametrize(
    ("events", "met"),
    [
        (".a!", ["a"]),
        (".a_!b__!c!", ["a", "b", "c"]),
        # Two images wait: the detections may be of either.
        (".a_b_!", [None]),
        # The answer to b is still to come, and must not meet c.
        (".a_b_!c_!", [None, None]),
        # Two detectors, or an answer to an image that was lost.
        (".a!!b!", ["a", None, None]),
        # The node comes to a running stream, whose detector is behind by an image.
        ("a!b!c!", [None, None, None]),
        (".a_b_!:c_!d!", [None, "c", "d"]),
        # A detector that takes its time is waited for.
        (".a:!b!", ["a", "b"]),
    ],
)
def test_only_what_takes_turns_is_paired(clock, events, met):
    assert play(ArrivalOrder(clock), clock, events) == met


def test_both_states_are_told(clock):
    order = ArrivalOrder(clock)
    play(order, clock, ".a!")
    assert "paired by the order they come in" in order.notices()["paired by order"]
    assert order.notices()["out of order"] == ""
    play(order, clock, "bc")
    assert order.notices()["paired by order"] == ""
    assert "do not take turns" in order.notices()["out of order"]
