"""Share work among the workers of a Dask cluster, for `worker_pool.WorkerPool`.

Every worker must have this version of vpog_ros installed and see the same files under the same paths. Tasks
travel as pickled Python: a cluster is for a network that is trusted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from uuid import uuid4

from vpog_core.threads import use_one_thread
from vpog_core.types import VPOGError, sentence_of

CONNECT_S = 10
"""Seconds that a scheduler may take to answer."""


class ClusterPool:
    """Submits work to a cluster's workers, each of which makes its tool once; see `WorkerPool`.

    Args:
        address: of the scheduler, such as `tcp://10.0.0.1:8786`; make, arguments: make the tool.

    Raises:
        VPOGError: Dask is not installed, the scheduler does not answer, or a worker is unusable.
    """

    def __init__(self, address: str, make: Callable, arguments: tuple) -> None:
        self._client = _connect(address)
        try:
            _check_workers(address, self._client.run(_version))
        except BaseException:
            self._client.close()
            raise
        self._executor = self._client.get_executor(pure=False)
        self._recipe = uuid4().hex, make, arguments

    def submit(self, work: Callable, item) -> Future:
        """Submit work(tool, item) to a worker, with the worker's own tool."""
        return self._executor.submit(_do, self._recipe, work, item)

    def result(self, future: Future):
        """Wait for submitted work and return its result.

        Raises:
            BrokenExecutor: the work killed its worker, or the connection to the cluster was lost.
        """
        from distributed import CancelledError as DaskCancelledError
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        try:
            return future.result()
        except (KilledWorker, CommClosedError, DaskCancelledError, CancelledError) as error:
            raise BrokenExecutor(str(error)) from error

    def shutdown(self, cancel_futures: bool) -> None:
        """Cancel pending work, delete the workers' tools, and disconnect from the cluster."""
        self._executor.shutdown(wait=not cancel_futures)
        with suppress(OSError, RuntimeError, ValueError):  # The cluster has ended, and its tools with it.
            self._client.run(_forget, self._recipe[0])
        self._client.close()


def _connect(address: str):
    if find_spec("distributed") is None:
        raise VPOGError("--cluster needs the Python package 'distributed': pip install distributed.")
    from distributed import Client

    try:
        return Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise VPOGError(
            f"No Dask scheduler answers at '{address}' ({sentence_of(error)}): start one with "
            "'dask scheduler', and give the address it prints, such as tcp://10.0.0.1:8786."
        ) from error


def _check_workers(address: str, versions: dict[str, str]) -> None:
    """Refuse a cluster without workers, or with workers of another version of this package."""
    if not versions:
        raise VPOGError(
            f"The cluster at '{address}' has no workers: start some with "
            f"'dask worker {address} --nthreads 1'."
        )
    for worker, version in versions.items():
        if version != _version():
            raise VPOGError(
                f"The worker {worker} has vpog_ros {version} where {_version()} is at work: install the same "
                "version on every machine."
            )


def _version() -> str:
    # Imported by name, because the package root imports modules above this one.
    return import_module("vpog_core").__version__


_tools: dict[str, object] = {}
"""The tools of this worker, by pool."""
_lock = threading.Lock()
"""Lock around all work: a tool, and torch with its threads, serve one thread at a time."""


def _do(recipe: tuple, work: Callable, item):
    key, make, arguments = recipe
    with _lock:
        if key not in _tools:
            use_one_thread()
            _tools[key] = make(*arguments)
        return work(_tools[key], item)


def _forget(key: str) -> None:
    _tools.pop(key, None)
