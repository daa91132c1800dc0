from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from vpog_ros.notices import MAX_REMEMBERED, REPEAT_S, Notices


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str) -> None:
        self.lines.append(text)

    warning = info


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_warning_is_logged_when_it_begins_and_shown_while_it_holds(log):
    now = [0.0]
    notices = Notices(log, lambda: now[0])
    for second in range(5):
        now[0] = second
        notices.warn_while("stamps", f"{second} s apart.")
    assert log.lines == ["0 s apart."]
    assert notices.warnings() == ["4 s apart."]
    notices.warn_while("stamps", "")
    assert notices.warnings() == []
    notices.warn_while("stamps", "Again.")
    notices.warn_while("stamps", "")
    assert log.lines == ["0 s apart."]
    now[0] += REPEAT_S
    notices.warn_while("stamps", "And again.")
    assert log.lines == ["0 s apart.", "And again."]


def test_what_is_said_once_is_said_once_until_a_new_start(log):
    notices = Notices(log)
    for _ in range(3):
        notices.log_once("a", "A.")
    notices.start_anew()
    notices.log_once("a", "A.")
    assert log.lines == ["A.", "A."]


def test_endless_notices_come_to_an_end(log):
    notices = Notices(log)
    for number in range(10 * MAX_REMEMBERED):
        notices.log_once("class", f"{number}.", of=f"{number}")
    assert len(log.lines) == MAX_REMEMBERED + 1
    notices.log_once("score", "Another kind is still heard.")
    assert log.lines[-1] == "Another kind is still heard."
