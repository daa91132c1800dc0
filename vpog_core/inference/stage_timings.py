"""Measure the seconds that each stage of a call takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from vpog_core import cancellation

_on_stage: ContextVar[Callable[[str], None] | None] = ContextVar("on_stage", default=None)


@contextmanager
def report_stages(on_stage: Callable[[str], None]) -> Iterator[None]:
    """Call `on_stage(name)` at the start of each stage of a call made within, in this thread."""
    token = _on_stage.set(on_stage)
    try:
        yield
    finally:
        _on_stage.reset(token)


def _wait_for_stream() -> None:
    """Wait for what this thread has queued; a wait for the whole device would break a graph's recording."""
    done = torch.cuda.Event(blocking=True)
    done.record()
    done.synchronize()


class StageTimings:
    """Measures the stages of one call; the times of a stage that runs several times are added up.

    A stage within a stage counts by itself, and not in the outer one: all stages together are the whole. On a
    GPU a stage ends when its work is done, not when it is queued.

    Args:
        device: where the networks run.

    Attributes:
        seconds: of each stage, in the order of their first run.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    def anew(self) -> StageTimings:
        """Return timings of the same device that have measured nothing."""
        return StageTimings(self._device)

    def add_parallel(self, parts: Sequence[StageTimings], seconds: float) -> None:
        """Add what threads measured side by side: each stage gets its share of the seconds that all took."""
        worked = sum(sum(part.seconds.values()) for part in parts)
        scale = seconds / worked if worked else 0.0
        for part in parts:
            for name, value in part.seconds.items():
                self.seconds[name] = self.seconds.get(name, 0.0) + scale * value

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a stage; the call can be cancelled before it begins."""
        cancellation.check()
        on_stage = _on_stage.get()
        if on_stage is not None:
            on_stage(name)
        self.seconds.setdefault(name, 0.0)
        self._inner.append(0.0)
        begin = time.perf_counter()
        yield
        if self._device.startswith("cuda"):
            _wait_for_stream()
        seconds = time.perf_counter() - begin
        self.seconds[name] += seconds - self._inner.pop()
        self._inner[-1] += seconds
