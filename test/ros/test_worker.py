from __future__ import annotations

import threading
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from vpog_core.types import VPOGError
from vpog_ros.diagnostics import Statistics
from vpog_ros.inputs.frame_buffer import FrameBuffer
from vpog_ros.worker import Worker


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str, **_) -> None:
        self.lines.append(text)

    error = warning


def feed(buffer: FrameBuffer, stamp: int) -> None:
    buffer.add_image(stamp, stamp)
    buffer.add_detections(stamp, stamp)


def test_failures_are_counted_and_do_not_stop_the_worker():
    buffer, statistics, log = FrameBuffer(), Statistics(), Log()
    done, seen = threading.Semaphore(0), []

    def process(frame) -> None:
        seen.append(frame.stamp_ns)
        done.release()
        if frame.stamp_ns == 1:
            raise VPOGError("The image is upside down.")
        if frame.stamp_ns == 2:
            raise ZeroDivisionError("by hand")

    worker = Worker(buffer, process, statistics, log)
    worker.start()
    for stamp in (1, 2, 3):
        feed(buffer, stamp)
        assert done.acquire(timeout=5.0)
    assert worker.stop()
    assert seen == [1, 2, 3]
    assert statistics.failures["frame"] == 2
    assert log.lines[0] == "The image is upside down."
    assert "ZeroDivisionError: by hand" in log.lines[1]
    assert "in process" in log.lines[1]


def test_stop_waits_for_the_frame_in_work():
    buffer, started, go, ended = FrameBuffer(), threading.Event(), threading.Event(), []

    def process(frame) -> None:
        started.set()
        go.wait(5.0)
        ended.append(frame.stamp_ns)

    worker = Worker(buffer, process, Statistics(), Log())
    worker.start()
    feed(buffer, 1)
    assert started.wait(5.0)
    assert not worker.stop(timeout_s=0.05)
    go.set()
    assert worker.stop(timeout_s=5.0)
    assert ended == [1]


def test_frames_begin_at_the_highest_rate_and_the_newest_is_taken():
    buffer, times, seen = FrameBuffer(), [], []

    def process(frame) -> None:
        times.append(time.monotonic())
        seen.append(frame.stamp_ns)

    worker = Worker(buffer, process, Statistics(), Log(), max_rate=lambda: 5.0)
    worker.start()
    for stamp in range(1, 101):
        feed(buffer, stamp)
        time.sleep(0.01)
    deadline = time.monotonic() + 5.0
    while seen[-1:] != [100] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert worker.stop()
    # A wait is never cut short; how much longer it takes depends on the machine.
    assert min(np.diff(times)) >= 0.2
    assert seen[0] == 1
    assert seen[-1] == 100
    assert buffer.counts.dropped_busy == 100 - len(seen)


def test_a_worker_that_waits_for_its_rate_stops_at_once():
    buffer, done = FrameBuffer(), threading.Event()
    worker = Worker(buffer, lambda frame: done.set(), Statistics(), Log(), max_rate=lambda: 0.01)
    worker.start()
    feed(buffer, 1)
    assert done.wait(5.0)
    assert worker.stop(timeout_s=1.0)
