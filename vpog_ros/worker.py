"""Process frames in one thread, which survives exceptions."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from vpog_core.cancellation import Cancelled, stop_when
from vpog_core.types import VPOGError
from vpog_ros.diagnostics import Statistics
from vpog_ros.errors import error_log, error_sentence
from vpog_ros.inputs.frame_buffer import Frame, FrameBuffer

STOP_S = 2.0
"""Seconds that a running frame may take to its next cancellation point."""

POLL_S = 0.5
"""Seconds that the worker waits for a frame before it checks whether it is to stop."""

REST_S = 0.05
"""Seconds, at most, that the worker sleeps at a time to keep to `max_rate`."""


class Worker:
    """Processes the newest frame of a buffer in a loop, in a thread of its own.

    Exceptions of `process` are logged and counted; the frame is dropped.

    Args:
        between_frames: called before each frame, and soon after `buffer.wake()`, in the same thread: for what
            must not happen during a frame. True: there is more to do than one call did.
    """

    def __init__(
        self,
        buffer: FrameBuffer,
        process: Callable[[Frame], None],
        statistics: Statistics,
        logger,
        between_frames: Callable[[], bool] = lambda: False,
        max_rate: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Make a worker, whose thread begins with `start`.

        Args:
            max_rate: returns the largest number of frames started in a second; 0: no limit.
        """
        self._buffer = buffer
        self._process = process
        self._between_frames = between_frames
        self._statistics = statistics
        self._logger = logger
        self._max_rate = max_rate
        self._began_s = -math.inf
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pose worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = STOP_S) -> bool:
        """Cancel the frame in work at its next step, and return whether the thread has ended."""
        self._stop.set()
        self._buffer.close()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with stop_when(self._stop.is_set):
            while not self._stop.is_set():
                more = self._call_safely(self._between_frames)
                if (rest_s := self._rest_s()) > 0:
                    if not more:
                        self._stop.wait(min(rest_s, REST_S))
                    continue
                frame = self._buffer.take(0.0 if more else POLL_S)
                if frame is not None:
                    self._began_s = time.monotonic()
                    self._call_safely(self._process, frame)

    def _rest_s(self) -> float:
        """Return the seconds to wait before the next frame."""
        rate = self._max_rate()
        return self._began_s + 1.0 / rate - time.monotonic() if rate > 0 else 0.0

    def _call_safely(self, work: Callable, *arguments):
        """Call a function and return its result; exceptions are counted and logged, and None is returned."""
        try:
            return work(*arguments)
        except Cancelled:
            return None
        except VPOGError as error:
            self._statistics.failure("frame", str(error))
            self._logger.warning(str(error), throttle_duration_sec=5.0)
        except Exception as error:
            self._statistics.failure("frame", error_sentence(error))
            self._logger.error(f"A frame was dropped: {error_log(error)}", throttle_duration_sec=5.0)
        return None
