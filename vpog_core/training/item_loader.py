"""Load the items of a dataset in worker processes."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import DataLoader

from vpog_core.threads import use_one_thread
from vpog_core.types import VPOGError


class ItemLoader(DataLoader):
    """Loads items in worker processes of one thread each; a worker's VPOGError or OSError has its own text.

    PyTorch raises an error of a worker again with the worker's traceback as its text.

    Args:
        dataset, options: as of `DataLoader`.
    """

    def __init__(self, dataset, **options) -> None:
        super().__init__(dataset, worker_init_fn=_one_thread, **options)

    def __iter__(self) -> Iterator:
        try:
            yield from super().__iter__()
        except (VPOGError, OSError) as error:
            text = str(error).strip()
            if not text.startswith(f"Caught {type(error).__name__} in DataLoader worker"):
                raise
            # The last line of a traceback is the name of the error and its text.
            raise type(error)(text.splitlines()[-1].partition(": ")[2]) from None


def _one_thread(worker: int) -> None:
    use_one_thread()
