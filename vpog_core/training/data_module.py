"""Load batches in a fixed order, the same on every machine and after every resume."""

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
        done: how many of them are behind it; first: the first item that was not trained on.
        rank, ranks: this process among R.
    """

    def __init__(
        self, batch_size: int, batches: int, done: int = 0, first: int = 0, rank: int = 0, ranks: int = 1
    ) -> None:
        self.batch_size, self.batches, self.done, self.first = batch_size, batches, done, first
        self.rank, self.ranks = rank, ranks

    def __len__(self) -> int:
        """Return the number of batches of the whole run, which a progress bar counts to."""
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        for k in range(self.batches - self.done):
            start = self.first + (k * self.ranks + self.rank) * self.batch_size
            yield list(range(start, start + self.batch_size))

    @property
    def end(self) -> int:
        """Return the item after the last one of all processes."""
        return self.first + max(0, self.batches - self.done) * self.ranks * self.batch_size


def rank_batches(items: int, batch_size: int, rank: int, ranks: int) -> list[list[int]]:
    """Return the batches of `rank` over `items` of a data set; all ranks have equally many."""
    each = math.ceil(items / ranks)
    mine = [(rank + n * ranks) % items for n in range(each)]
    return [mine[i : i + batch_size] for i in range(0, each, batch_size)]


class VPOGDataModule(L.LightningDataModule):
    """Makes the loaders of the training and validation sets.

    Args:
        build: makes both sets; called on one process of each machine first, which renders for all.
        config: batches and workers.
    """

    def __init__(self, build: BuildDatasets, config: LoaderConfig) -> None:
        super().__init__()
        self.build, self.config = build, config
        self.sets: tuple[Dataset, Dataset] | None = None

    def prepare_data(self) -> None:
        """Render what is rendered once, on one process of each machine."""
        self.sets = self.build()

    def setup(self, stage: str) -> None:
        """Load it, on every process."""
        self.sets = self.sets or self.build()

    def train_dataloader(self) -> ItemLoader:
        """Return the loader that begins at the first item that was not trained on.

        Batches are counted as if the present settings had held from the beginning, as `CountBatches` does.

        Raises:
            VPOGError: the training set has fewer items than the run needs.
        """
        trainer = self.trainer
        sampler = ConsecutiveBatches(
            self.config.batch_size,
            batches=trainer.max_steps * trainer.accumulate_grad_batches,
            done=trainer.global_step * trainer.accumulate_grad_batches,
            first=trainer.lightning_module.items,
            rank=trainer.global_rank,
            ranks=trainer.world_size,
        )
        if len(self.sets[0]) < sampler.end:
            raise VPOGError(
                f"The training set has {len(self.sets[0])} items and the run needs {sampler.end}: "
                "lower trainer.max_epochs."
            )
        return self._loader(self.sets[0], sampler, self.config.workers)

    def val_dataloader(self) -> ItemLoader:
        """Return the loader of this process's batches of the validation set."""
        batches = rank_batches(
            len(self.sets[1]), self.config.batch_size, self.trainer.global_rank, self.trainer.world_size
        )
        return self._loader(self.sets[1], batches, min(self.config.workers, len(batches)))

    def _loader(self, dataset: Dataset, batches, workers: int) -> ItemLoader:
        on_gpu = self.trainer.strategy.root_device.type == "cuda"
        return ItemLoader(
            dataset, batch_sampler=batches, num_workers=workers,
            prefetch_factor=self.config.prefetch if workers else None, pin_memory=on_gpu,
        )  # fmt: skip

    def on_before_batch_transfer(self, batch: dict[str, torch.Tensor], dataloader_idx: int):
        """Turn named arrays into the batch type of the data set."""
        return self.sets[0].batch_type(**batch)
