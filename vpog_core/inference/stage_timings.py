"""The seconds that each stage of a call takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from vpog_core import cancellation


class StageTimings:
    """Measures the stages of one call; a stage that is run several times is added up.

    Attributes:
        seconds: of each stage, in the order of their first run.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what is done within as a stage; the work can be cancelled before it."""
        cancellation.check()
        begin = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin
