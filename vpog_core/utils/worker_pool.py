"""Share work among processes, each of which makes its tool (a network, a renderer) once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from functools import partial

from vpog_core.threads import use_one_thread, wait_passively
from vpog_core.types import VPOGError
from vpog_core.utils.cluster_pool import ClusterPool

DIED = (
    "A worker process died, perhaps for want of memory: run again with fewer workers; what is on disk "
    "already is kept."
)


class WorkerPool:
    """Runs processes with a tool and one torch thread each; with one worker, this process does the work.

        with WorkerPool(make, arguments, workers) as pool:
            for result in pool.map(work, items):  # work(make(*arguments), item)

    Args:
        make, arguments: make the tool; for several workers picklable, as `work` and the items are.
        cluster: address of a Dask scheduler whose workers are used in place of processes here, see `cluster`.

    Raises:
        VPOGError: what `make` raises, which is called in this process first; a cluster that cannot be used.
    """

    def __init__(self, make: Callable, arguments: tuple, workers: int, cluster: str | None = None) -> None:
        if cluster is not None:
            self._others = set(multiprocessing.active_children())
            self.pool = ClusterPool(cluster, make, arguments)
            self._submit, self._result = self.pool.submit, self.pool.result
            return
        tool = make(*arguments)
        if workers <= 1:
            self.tool, self.pool = tool, None
            return
        wait_passively()
        self._others = set(multiprocessing.active_children())
        self.pool = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(make, arguments),
        )
        self._submit, self._result = partial(self.pool.submit, _do), Future.result

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if self.pool is None:
            return
        if kind is not None:
            # Terminate the workers: their results are not needed any more, and files are written atomically.
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()
        self.pool.shutdown(cancel_futures=True)

    def map(self, work: Callable, items: Iterable) -> Iterator:
        """Yield results as they come; with one worker, in order."""
        if self.pool is None:
            yield from (work(self.tool, item) for item in items)
            return
        waiting = {self._submit(work, item) for item in items}
        while waiting:
            ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ready:
                try:
                    yield self._result(future)
                except BrokenExecutor as error:
                    raise VPOGError(DIED) from error


_tool = None
"""The tool of this worker process, made at its start."""


def _start(make: Callable, arguments: tuple) -> None:
    global _tool
    use_one_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The main process handles Ctrl-C, and ends the others.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _tool = make(*arguments)


def _end_with_parent() -> None:
    """End this worker when the main process ends, even when that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(work: Callable, item):
    return work(_tool, item)
