"""Work shared by several processes, each of which makes what it works with once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial

import cv2
import torch

from vpog_core.cluster import ClusterPool
from vpog_core.threads import wait_passively
from vpog_core.types import VPOGError


class Crew:
    """Processes with a tool each, and a torch thread each; with one worker, this process as it is.

        with Crew(make, arguments, workers) as crew:
            for result in crew.map(work, items):  # work(make(*arguments), item)

    Args:
        make, arguments: make the tool; for several workers picklable, as `work` and the items are.
        cluster: address of a Dask scheduler whose workers are used in place of processes here, see `cluster`.

    Raises:
        VPOGError: what `make` raises of it, here and not in a dying worker; a cluster that cannot be used.
    """

    def __init__(self, make: Callable, arguments: tuple, workers: int, cluster: str | None = None) -> None:
        if cluster is not None:
            self._others = set(multiprocessing.active_children())
            self.pool = ClusterPool(cluster, make, arguments)
            self._submit = self.pool.submit
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
        self._submit = partial(self.pool.submit, _do)

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if self.pool is None:
            return
        if kind is not None:
            # Nobody waits for what they work on any more; files they write are whole or not there.
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()
        self.pool.shutdown(cancel_futures=True)

    def map(self, work: Callable, items: Iterable) -> Iterator:
        """Results as they come; of one worker, in order."""
        if self.pool is None:
            yield from (work(self.tool, item) for item in items)
            return
        waiting = {self._submit(work, item) for item in items}
        while waiting:
            ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in ready:
                try:
                    yield future.result()
                except BrokenProcessPool as error:
                    raise VPOGError(
                        "A worker process died, perhaps for want of memory: run again with fewer --workers; "
                        "what is on disk already is kept."
                    ) from error


_tool = None
"""A worker's own."""


def _start(make: Callable, arguments: tuple) -> None:
    global _tool
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The first process hears Ctrl-C, and ends the others.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _tool = make(*arguments)


def _end_with_parent() -> None:
    """A killed first process must not leave its workers behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(work: Callable, item):
    return work(_tool, item)
