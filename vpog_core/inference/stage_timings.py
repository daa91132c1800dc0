"""The seconds that each stage of a call takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from vpog_core import cancellation


class StageTimings:
    """Measures the stages of one call; a stage that is run several times is added up.

    A stage within a stage counts by itself, and not in the outer one: all stages together are the whole.

    Attributes:
        seconds: of each stage, in the order of their first run.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what is done within as a stage; the work can be cancelled before it."""
        cancellation.check()
        self.seconds.setdefault(name, 0.0)
        self._inner.append(0.0)
        begin = time.perf_counter()
        yield
        seconds = time.perf_counter() - begin
        self.seconds[name] += seconds - self._inner.pop()
        self._inner[-1] += seconds
