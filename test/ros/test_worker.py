from __future__ import annotations

import threading

import pytest

pytest.importorskip("rclpy")

from vpog_core.types import VPOGError
from vpog_ros.diagnostics import Statistics
from vpog_ros.frame_buffer import FrameBuffer
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
