"""Onboard several objects by several processes; each of them writes what it makes to the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vpog_core import cancellation
from vpog_core.inference.failures import Failures
from vpog_core.inference.object_store import ObjectStore
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.objects.library import ObjectLibrary
from vpog_core.utils.worker_pool import WorkerPool

FEWEST = 4
"""Least number of objects for which starting processes saves time."""


@dataclass
class _Onboarder:
    """Onboards objects in a worker process, and keeps none of them in memory."""

    model: VPOGModel
    key: str
    folder: Path
    cache_dir: Path
    unit: str

    def onboard(self, object_id: str) -> None:
        library = ObjectLibrary(self.folder, self.cache_dir, self.unit)
        ObjectStore(self.model, library, self.key, Failures()).onboard_or_leave_out(object_id)


def fill_cache(
    store: ObjectStore,
    object_ids: Sequence[str],
    workers: int,
    progress: Callable[[int, int, str], None] | None = None,
) -> None:
    """Onboard those of some objects that are not in the cache yet, where several processes pay.

    What cannot be onboarded is not in the cache afterwards; whoever asks the store for it gets the reason.

    Args:
        progress: called with (objects done, objects, what is done).

    Raises:
        VPOGError: a worker process died.
        Cancelled: within `cancellation.stop_when`.
    """
    missing = [object_id for object_id in object_ids if not store.is_cached(object_id)]
    workers = min(workers, len(missing))
    library = store.library
    on_cpu = store.model.mean.device.type == "cpu"  # A GPU is quick, and its memory is shared.
    if workers < 2 or len(missing) < FEWEST or not on_cpu or not _is_writable(library.cache_dir):
        return
    arguments = (store.model, store.key, library.folder, library.cache_dir, library.unit)
    with WorkerPool(_Onboarder, arguments, workers) as pool:
        for done, _ in enumerate(pool.map(_Onboarder.onboard, missing), start=1):
            cancellation.check()
            if progress is not None:
                progress(done, len(missing), f"objects, {workers} at once")


def _is_writable(folder: Path) -> bool:
    """Tell whether files can be written to a folder, which is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
