"""Load batches in a fixed order: batch k of a run is the same on every machine and after every resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import lightning.pytorch as L
import torch
from torch.utils.data import Dataset, Sampler

from vpog_core.training.item_loader import ItemLoader
from vpog_core.training.train_config import LoaderConfig
from vpog_core.types import VPOGError

BuildDatasets = Callable[[], tuple[Dataset, Dataset]]


class ConsecutiveBatches(Sampler[list[int]]):
    """Yields batches of consecutive items; R processes take them in turn.

    Args:
        batch_size: items of a batch; batches: how many a process has in the whole run.
        first: how many of them are done already; rank, ranks: this process among R.
    """

    def __init__(self, batch_size: int, batches: int, first: int = 0, rank: int = 0, ranks: int = 1) -> None:
        self.batch_size, self.batches, self.first, self.rank, self.ranks = (
            batch_size,
            batches,
            first,
            rank,
            ranks,
        )

    def __len__(self) -> int:
        """Return the number of batches of the whole run, which a progress bar counts to."""
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        for k in range(self.first, self.batches):
            start = (k * self.ranks + self.rank) * self.batch_size
            yield list(range(start, start + self.batch_size))


def rank_batches(items: int, batch_size: int, rank: int, ranks: int) -> list[list[int]]:
    """Return the batches of `rank` over `items` of a data set; all ranks have equally many."""
    each = math.ceil(items / ranks)
    mine = [(rank + n * ranks) % items for n in range(each)]
    return [mine[i : i + batch_size] for i in range(0, each, batch_size)]


class VPOGDataModule(L.LightningDataModule):
    """Makes the loaders of the training and validation sets.

    Args:
        build: makes both sets; called on one process of each machine first, which renders for all.
        config: batches and workers; batches: of one process in the whole run.
    """

    def __init__(self, build: BuildDatasets, config: LoaderConfig, batches: int) -> None:
        super().__init__()
        self.build, self.config, self.batches = build, config, batches
        self.sets: tuple[Dataset, Dataset] | None = None

    def prepare_data(self) -> None:
        """Render what is rendered once, on one process of each machine."""
        self.sets = self.build()

    def setup(self, stage: str) -> None:
        """Load it, on every process."""
        self.sets = self.sets or self.build()

    def train_dataloader(self) -> ItemLoader:
        """Return the loader that begins at the first item that was not trained on."""
        ranks = self.trainer.world_size
        first = self.trainer.lightning_module.items // (self.config.batch_size * ranks)
        sampler = ConsecutiveBatches(
            self.config.batch_size, self.batches, first, self.trainer.global_rank, ranks
        )
        if len(self.sets[0]) < len(sampler) * ranks * self.config.batch_size:
            raise VPOGError(
                f"The training set has {len(self.sets[0])} items and the run needs "
                f"{len(sampler) * ranks * self.config.batch_size}: lower trainer.max_epochs."
            )
        return self._loader(self.sets[0], sampler, self.config.workers)

    def val_dataloader(self) -> ItemLoader:
        """Return the loader of this process's batches of the validation set."""
        batches = rank_batches(
            len(self.sets[1]), self.config.batch_size, self.trainer.global_rank, self.trainer.world_size
        )
        return self._loader(self.sets[1], batches, min(self.config.workers, len(batches)))

    def _loader(self, dataset: Dataset, batches, workers: int) -> ItemLoader:
        return ItemLoader(
            dataset, batch_sampler=batches, num_workers=workers,
            prefetch_factor=self.config.prefetch if workers else None, pin_memory=torch.cuda.is_available(),
        )  # fmt: skip

    def on_before_batch_transfer(self, batch: dict[str, torch.Tensor], dataloader_idx: int):
        """Turn named arrays into the batch type of the data set."""
        return self.sets[0].batch_type(**batch)
