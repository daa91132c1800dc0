"""Test that the journal of a replay resumes what was written, and is written by one replay at a time."""

from __future__ import annotations

import os

import pytest

from vpog_core.replay.journal import FrameResult, open_journal
from vpog_core.types import VPOGError

PLAN = {"the weights": "abc"}


@pytest.fixture
def output(tmp_path):
    """Return an output folder with a journal of two frames."""
    with open_journal(tmp_path / "out", PLAN) as journal:
        for number in range(2):
            journal.add(FrameResult(number, failure="dark"), b"png")
    return tmp_path / "out"


def refusal(output, plan=PLAN) -> str:
    """Return the sentence that a journal is refused with."""
    with pytest.raises(VPOGError) as error, open_journal(output, plan):
        pass
    return str(error.value)


def test_a_frame_that_is_done_is_on_the_disk(output, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    with open_journal(output, PLAN) as journal:
        journal.add(FrameResult(2))
        assert synced == [(output / ".replay" / "frames.jsonl").stat().st_size]


def test_a_second_replay_is_refused_while_the_first_writes(output):
    with open_journal(output, PLAN) as journal:
        assert "Another replay writes into" in refusal(output)
        with pytest.raises(VPOGError, match="Another replay"), open_journal(output, PLAN, restart=True):
            pass
        journal.add(FrameResult(2))
    with open_journal(output, PLAN) as journal:
        assert [result.number for result in journal.results] == [0, 1, 2]


def test_frames_that_are_not_in_order_are_refused(output):
    file = output / ".replay" / "frames.jsonl"
    first, second = file.read_bytes().splitlines(keepends=True)
    for lines in ([first, second, first], [first, first], [second]):
        file.write_bytes(b"".join(lines))
        assert "is broken: start again from the first frame with --restart" in refusal(output)
    with open_journal(output, PLAN, restart=True) as journal:
        assert journal.results == []
        assert not journal.flow_path(0).exists()


@pytest.mark.parametrize("content", ["", "[]", "3", None])
def test_a_broken_plan_is_refused(output, content):
    plan = output / ".replay" / "plan.json"
    plan.unlink()
    if content is not None:
        plan.write_text(content)
    # A list without entries is a plan that differs in everything.
    assert ("differs in the weights" if content == "[]" else "is broken") in refusal(output)


def test_a_journal_without_frames_is_begun_anew(tmp_path):
    with open_journal(tmp_path, PLAN):
        pass
    (tmp_path / ".replay" / "plan.json").write_text("")
    with open_journal(tmp_path, {"the weights": "other"}) as journal:
        journal.add(FrameResult(0))
    assert "differs in the weights" in refusal(tmp_path)


def test_an_image_of_matches_that_is_left_over_is_dropped(output):
    with open_journal(output, PLAN) as journal:
        journal.go_back_to(1)
        journal.add(FrameResult(1))
        assert journal.flow_path(0).is_file()
        assert not journal.flow_path(1).is_file()
