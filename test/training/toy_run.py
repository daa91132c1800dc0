"""Run a training on toy data as a process of its own: python toy_run.py PAUSE KEY=VALUE..."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from vpog_core.geometry.se3 import rotation_z, transform
from vpog_core.models.config import VPOGConfig
from vpog_core.models.refiner_config import RefinerConfig
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.training.compose import load_config
from vpog_core.training.data.batch import Batch
from vpog_core.training.data.refiner_dataset import RefinerDataset
from vpog_core.training.synthesis.pose_perturbation import PerturbationConfig
from vpog_core.training.synthesis.scene_assets import SceneAssets
from vpog_core.training.synthesis.training_object import TrainingObject
from vpog_core.training.train import train
from vpog_core.types import VPOGError

SIZE = 112
ITEMS = "items.txt"
"""The file in a run's folder where the process that runs it notes the items it has trained on."""
MODEL = VPOGConfig(
    image_size=SIZE, embed_dim=64, depth=1, num_heads=2, embed_from_stem=True, aa_depth=1, aa_heads=2,
    fine_dim=16, flow_hidden=32, flow_layers=2, retrieval_dim=8,
)  # fmt: skip
REFINER = RefinerConfig(
    image_size=32, stem_dim=8, fine_dim=16, coarse_dim=16, attention_layers=1, attention_heads=2,
    coarse_reach=2, fine_reach=1, fine_hidden=16,
)  # fmt: skip
SHORT = (
    "loader.workers=0", "trainer.epoch_steps=3", "trainer.max_epochs=2", "trainer.logger=none",
    "trainer.figures=0", "trainer.threads=1", "trainer.log_every=1", "scheduler.warmup_steps=2",
    "optimizer.lr=2e-3",
)  # fmt: skip
SETTINGS = (
    "experiment=tiny", "data.queries=2", "loader.batch_size=1", "loss.options.pose_samples=16",
    "loss.options.pose_queries=1", *SHORT,
)  # fmt: skip
REFINER_SETTINGS = (
    "experiment=refiner_tiny", "loader.batch_size=2", "refiner_loss.pose_samples=16",
    "refiner_loss.pose_pairs=2",
    *(f"refiner.{name}={value}" for name, value in REFINER.to_dict().items()), *SHORT,
)  # fmt: skip


class ToyData(Dataset):
    """Draws item i by (seed, i): a flat noisy disc that faces the camera, turned a little in every view.

    Args:
        seed: of everything; length: items; pause: seconds every item takes.
        record: a file that gets a line with the number of every item that is drawn.
    """

    batch_type = Batch

    def __init__(self, seed: int, length: int = 1000, pause: float = 0.0, record: Path | None = None) -> None:
        self.seed, self.length, self.pause, self.record = seed, length, pause, record

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        time.sleep(self.pause)
        if self.record:
            with self.record.open("a") as file:
                file.write(f"{index}\n")
        rng = np.random.default_rng([self.seed, index])
        queries, cluster, templates = 2, 2, 3
        views = [self._view(rng) for _ in range(queries + templates)]
        q, t = views[:queries], views[queries:]
        sample = {
            "query_rgb": [v[0] for v in q], "query_depth": [v[1] for v in q], "query_K": [v[2] for v in q],
            "query_T": [v[3] for v in q], "template_rgb": [v[0] for v in t],
            "template_depth": [v[1] for v in t[:cluster]], "template_K": [v[2] for v in t[:cluster]],
            "template_T": [v[3] for v in t],
        }  # fmt: skip
        sample = {key: np.stack(value) for key, value in sample.items()}
        return sample | {
            "directions": np.tile(np.float32([0, 0, -1]), (cluster, 1)),
            "diameter": np.float32(0.4),
            "query_outside": np.zeros((queries, SIZE, SIZE), bool),
            "distance": rng.uniform(0, 1, (queries, templates)).astype(np.float32),
        }

    @staticmethod
    def _view(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        y, x = np.mgrid[0:SIZE, 0:SIZE] - (SIZE - 1) / 2
        disc = x**2 + y**2 < rng.uniform(35, 45) ** 2
        rgb = rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8) // 4
        rgb[disc] += 128
        K = np.float32([[200, 0, (SIZE - 1) / 2], [0, 200, (SIZE - 1) / 2], [0, 0, 1]])
        T = transform(rotation_z(rng.uniform(-0.2, 0.2)), np.array([0.0, 0.0, 1.0]))
        return rgb, disc.astype(np.float32), K, T.astype(np.float32)


class ToyPairs(RefinerDataset):
    """Holds pairs of a coloured block; every item takes `pause` seconds longer."""

    def __init__(self, seed: int, length: int = 1000, pause: float = 0.0) -> None:
        renderer = Renderer(coloured_block())
        block = TrainingObject("block", lambda: renderer)
        super().__init__([block], SceneAssets([], [block]), 32, PerturbationConfig(), seed, length)
        self.pause = pause

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        time.sleep(self.pause)
        return super().__getitem__(index)


def coloured_block() -> Mesh:
    """Return a block of 10 x 7 x 4 cm whose corners have different colours."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
             [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]  # fmt: skip
    colors = (corners * (160, 120, 200) + (60, 100, 30)).astype(np.uint8)
    return Mesh((corners - 0.5) * (0.1, 0.07, 0.04), np.array(faces), vertex_colors=colors)


def toy_pairs(pause: float = 0.0) -> tuple[ToyPairs, ToyPairs]:
    """Return training and validation set of a refiner."""
    return ToyPairs(1, pause=pause), ToyPairs(2, length=4)


def toy_data(pause: float = 0.0, record: Path | None = None) -> tuple[ToyData, ToyData]:
    """Return training and validation set."""
    return ToyData(1, pause=pause, record=record), ToyData(2, length=4)


def toy_config(*settings: str):
    """Return the configuration of a run of six steps of a very small network."""
    return replace(load_config([*SETTINGS, *settings]), model=MODEL)


def toy_refiner_config(*settings: str):
    """Return the configuration of a run of six steps of a very small refiner."""
    return load_config([*REFINER_SETTINGS, *settings])


def main() -> int:
    pause, settings = float(sys.argv[1]), sys.argv[2:]
    refiner = "network=refiner" in settings
    config = (toy_refiner_config if refiner else toy_config)(*settings)
    record = Path(config.output) / ITEMS
    try:
        train(config, lambda: toy_pairs(pause) if refiner else toy_data(pause, record))
    except VPOGError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main())
