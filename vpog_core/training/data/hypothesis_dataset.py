"""Load recorded hypotheses to train the scorer of poses on."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from vpog_core.evaluation.hypothesis_records import NORMAL_SCALE, SUFFIX, HypothesisRecords
from vpog_core.training.data.batch import HypothesisBatch
from vpog_core.training.data.data_config import DataConfig
from vpog_core.types import VPOGError


class HypothesisDataset(Dataset):
    """Provides recorded hypotheses; item i is drawn by (seed, i), half of them mirrored.

    Args:
        records: what is drawn from.
        seed: of the drawing; None: item i is record i as it is, and there are no more items than records.
        length: items, where they are drawn.
    """

    batch_type = HypothesisBatch

    def __init__(
        self, records: HypothesisRecords, seed: int | None = None, length: int = 100_000_000
    ) -> None:
        self.records, self.seed, self.length = records, seed, length

    def __len__(self) -> int:
        return len(self.records) if self.seed is None else self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Return the arrays of one hypothesis: a `HypothesisBatch` without its first axis."""
        if self.seed is None:
            return self._item(index, is_mirrored=False)
        rng = np.random.default_rng([self.seed, index])
        return self._item(int(rng.integers(len(self.records))), is_mirrored=rng.random() < 0.5)

    def _item(self, n: int, is_mirrored: bool) -> dict[str, np.ndarray]:
        records = self.records
        item = {
            "image_rgb": records.image[n], "render_rgb": records.render[n],
            "render_normals": records.normals[n].astype(np.float32) / NORMAL_SCALE,
            "render_mask": records.mask[n], "error": records.error[n],
        }  # fmt: skip
        if is_mirrored:
            # A mirrored image shows a mirrored object exactly as the mirrored render does.
            for key in ("image_rgb", "render_rgb", "render_normals", "render_mask"):
                item[key] = item[key][:, ::-1].copy()
            item["render_normals"][..., 0] *= -1.0
        return item


def build_hypothesis_datasets(config: DataConfig) -> tuple[HypothesisDataset, HypothesisDataset]:
    """Make the training and the validation set of a scorer from the files in a folder.

    A file is an object. Of the mesh files that objects are made of one in `held_out_every` is for validation,
    with all its objects; of other objects, by their numbers, as many.

    Raises:
        VPOGError: the folder has no recorded hypotheses, none for one of the sets, files that are named
            otherwise, or some of another size.
    """
    files = sorted(Path(config.hypotheses).expanduser().glob(f"*{SUFFIX}"))
    every = config.held_out_every
    sources = {path: HypothesisRecords.source(path) for path in files}
    kept = sorted({source for source in sources.values() if source})[::every] if every else []
    held_out = [path for path in files if every and _is_held_out(path, sources[path], kept, every)]
    train = [path for path in files if path not in held_out]
    if not train or not held_out:
        raise VPOGError(
            f"'{config.hypotheses}' holds {len(files)} files of recorded hypotheses, {len(held_out)} of them "
            "for validation: record at least three objects, from number 0 on, by vpog record-hypotheses, and "
            "leave data.held_out_every at 2 or more."
        )
    sets = [HypothesisRecords.join([_load(path, config.image_size) for path in paths])
            for paths in (train, held_out)]  # fmt: skip
    return HypothesisDataset(sets[0], seed=config.seed), HypothesisDataset(sets[1])


def _is_held_out(path: Path, source: str, sources: list[str], every: int) -> bool:
    """Tell whether a file is for validation; even and odd numbers are objects of two kinds."""
    number = _object_number(path)
    return source in sources if source else number // 2 % every == 0


def _object_number(path: Path) -> int:
    """Return the number of the object whose hypotheses a file holds."""
    number = re.fullmatch(r"object_([0-9]+)", path.name.removesuffix(SUFFIX))
    if not number:
        raise VPOGError(
            f"'{path}' is not named object_NUMBER{SUFFIX}: give it the name it had from "
            "vpog record-hypotheses."
        )
    return int(number[1])


def _load(path: Path, size: int) -> HypothesisRecords:
    records = HypothesisRecords.load(path)
    if records.mask.shape[-1] != size:
        raise VPOGError(
            f"'{path}' holds images of {records.mask.shape[-1]} pixels and the refiner compares {size}: "
            "record hypotheses with this refiner."
        )
    return records
