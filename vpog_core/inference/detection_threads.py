"""Divide the detections of an image among threads.

What is done for a detection is many short steps, of which only the largest would gain from several threads
for one operation. Detections side by side use several cores better: most of their time is spent where
Python's lock is free.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import replace
from typing import TypeVar

import torch

from vpog_core.inference.pipeline import Setup
from vpog_core.inference.query import Query

Found = TypeVar("Found")
Find = Callable[[Setup, Sequence[Query]], list[Found]]
"""Finds what is asked for of each query, in their order."""
MIN_DIVIDED_WIDTH = 384
"""Width of the tokens from which a network's operations are divided among threads. Two threads encode six
crops by vpog-small (384) in three quarters of the time of one, by vpog-tiny (192) in one and a half times of
it."""
MAX_THREADS = 256
"""Threads, at most; they are started when they are first needed."""


class DetectionThreads:
    """Finds poses of an image's detections in several threads: as many as `torch.get_num_threads()` tells.

    Threads that are left over work on the operations of a wide network on a CPU.

    Args:
        width: of the network's tokens; device: where it runs.
    """

    def __init__(self, width: int, device: str) -> None:
        self._divides_operations = device == "cpu" and width >= MIN_DIVIDED_WIDTH
        self._pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="vpog_detections")

    def share(self, find: Find, setup: Setup, queries: Sequence[Query]) -> list[Found]:
        """Call `find` on parts of the queries, one part in each thread.

        Returns:
            What was found of each query, in their order.

        Raises:
            What `find` raises, after all parts have ended.
        """
        threads = torch.get_num_threads()
        if threads == 1 or not queries:
            return find(setup, queries)
        begin = time.perf_counter()
        # Give each thread a part, and the context of this one: how to cancel it, and whom to tell of stages.
        parts = min(threads, len(queries))
        per_operation = threads // parts if self._divides_operations else 1
        setups = [replace(setup, timings=setup.timings.anew()) for _ in range(parts)]
        futures = [
            self._pool.submit(copy_context().run, _in_thread, per_operation, find, of_part, queries[n::parts])
            for n, of_part in enumerate(setups)
        ]
        wait(futures)
        # Threads that torch meets later take the number that was set last.
        torch.set_num_threads(threads)
        # Put together what they found.
        setup.timings.add_parallel([of_part.timings for of_part in setups], time.perf_counter() - begin)
        found: list[Found | None] = [None] * len(queries)
        for n, future in enumerate(futures):
            found[n::parts] = future.result()
        return found


def _in_thread(per_operation: int, find: Find, setup: Setup, queries: Sequence[Query]) -> list[Found]:
    """Call `find` with a number of torch's threads for each operation of this thread."""
    # A thread's first question sets its number to that of the process, so it comes before.
    if torch.get_num_threads() != per_operation:
        torch.set_num_threads(per_operation)
    return find(setup, queries)
