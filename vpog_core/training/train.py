"""The training loop: `python -m vpog_core.training.train --help`.

Trains a preset on meshes and procedural objects rendered on the fly, for a given number of minutes;
stops cleanly, and goes on where it stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from vpog_core.models.checkpoint import save_weights
from vpog_core.models.config import PRESETS
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.training.objective import Batch, LossWeights, objective
from vpog_core.training.vpog_dataset import Stage, TrainingObject, VPOGTrainDataset, load_object
from vpog_core.types import VPOGError

HELD_OUT_SEED = 800_000
HELD_OUT_EVERY = 14
"""One mesh in so many, in the order of their names, is kept for validation."""


def main(argv: list[str] | None = None) -> int:
    """Train; returns the exit code."""
    args = parse(argv)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(0)  # before any fork: OpenCV's thread pool does not survive one
    photos = read_photos(args.photos)
    train_sources, val_sources = sources(args)
    prepare(train_sources + val_sources, args, photos)
    size = PRESETS[args.preset].image_size
    bank = Path(args.bank)
    train_objects, val_objects = (
        [load_object(s, bank, size, photos) for s in tqdm(part, desc=f"loading {name}", mininterval=2)]
        for name, part in (("training objects", train_sources), ("validation objects", val_sources))
    )
    run = Run.start(args)
    print(f"{len(train_objects)} objects, {len(val_objects)} held out, from step {run.step}", flush=True)
    Trainer(args, run, train_objects, val_objects, photos, size).train()
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--preset", default="vpog-tiny", choices=sorted(PRESETS))
    parser.add_argument("--meshes", default="", help="folder of mesh files to train on")
    parser.add_argument("--photos", default="", help="folder of photographs for backgrounds and textures")
    parser.add_argument("--procedural", type=int, default=200, help="procedural objects to train on")
    parser.add_argument("--bank", default="runs/bank", help="folder for rendered templates")
    parser.add_argument("--output", default="runs/tiny", help="folder for checkpoints and the log")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after this long")
    parser.add_argument("--schedule-steps", type=int, default=6000, help="steps of the cosine schedule")
    parser.add_argument("--groups", type=int, default=4, help="objects in a batch, four queries each")
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--compile", action="store_true", help="compile the attention layers: a minute, then faster"
    )
    parser.add_argument(
        "--init", default="", help="checkpoint.pt to take weights from, with a fresh schedule"
    )
    return parser.parse_args(argv)


def sources(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Training and validation objects, by source."""
    meshes = sorted(str(p) for p in Path(args.meshes).glob("*.*")) if args.meshes else []
    train = [m for i, m in enumerate(meshes) if i % HELD_OUT_EVERY]
    held_out = [m for i, m in enumerate(meshes) if i % HELD_OUT_EVERY == 0]
    train += [f"seed:{i}" for i in range(args.procedural)]
    held_out += [f"seed:{HELD_OUT_SEED + i}" for i in range(12 if args.procedural else 0)]
    return train, held_out


def read_photos(folder: str) -> list[np.ndarray]:
    """RGB uint8 pictures of a folder."""
    files = sorted(Path(folder).glob("*.*")) if folder else []
    return [
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for f in files if (image := cv2.imread(str(f))) is not None
    ]


_photos: list[np.ndarray] = []


def _prepare_one(source: str, bank: str, size: int) -> str:
    try:
        load_object(source, Path(bank), size, _photos)
    except VPOGError as error:
        return f"{source}: {error}"
    return ""


def prepare(names: list[str], args: argparse.Namespace, photos: list[np.ndarray]) -> None:
    """Render every object's templates into the bank, on all threads.

    Raises:
        VPOGError: an object cannot be used.
    """
    global _photos
    _photos = photos
    size = PRESETS[args.preset].image_size
    with ProcessPoolExecutor(args.threads) as pool:
        jobs = [pool.submit(_prepare_one, name, args.bank, size) for name in names]
        for job in tqdm(jobs, desc="templates", mininterval=2):
            if message := job.result():
                raise VPOGError(message)


@dataclass
class Run:
    """What a run is at a moment; saved whole, so that it goes on exactly there."""

    model: VPOGModel
    ema: VPOGModel
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    history: list[dict] = field(default_factory=list)

    @classmethod
    def start(cls, args: argparse.Namespace) -> Run:
        """A fresh run, or the one in the output folder."""
        torch.manual_seed(args.seed)
        model = VPOGModel(PRESETS[args.preset]).to(args.device)
        decayed = [p for p in model.parameters() if p.ndim > 1]
        plain = [p for p in model.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": args.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98), fused=True)
        run = cls(model, copy.deepcopy(model).requires_grad_(False), optimizer)
        file = Path(args.output) / "checkpoint.pt"
        if file.is_file():
            run.load(torch.load(file, map_location=args.device, weights_only=True))
        elif args.init:
            state = torch.load(args.init, map_location=args.device, weights_only=True)
            run.model.load_state_dict(state["ema"])
            run.ema.load_state_dict(state["ema"])
        return run

    def load(self, state: dict) -> None:
        """Take over a saved state."""
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]
        torch.set_rng_state(state["random"].cpu())

    def save(self, folder: Path) -> None:
        """Write checkpoint.pt (everything) and weights.safetensors (the EMA, for inference)."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "random": torch.get_rng_state(),
        }
        torch.save(state, folder / "checkpoint.partial")
        os.replace(folder / "checkpoint.partial", folder / "checkpoint.pt")
        save_weights(self.ema, folder / "weights.safetensors", {"steps": str(self.step)})
        (folder / "history.json").write_text(json.dumps(self.history, indent=1))

    @torch.no_grad()
    def update_ema(self) -> None:
        """Move the averaged weights towards the current ones; faster while the run is young."""
        keep = min(0.998, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), 1 - keep)


class Trainer:
    """Steps through batches until the time is up."""

    def __init__(
        self,
        args: argparse.Namespace,
        run: Run,
        train_objects: list[TrainingObject],
        val_objects: list[TrainingObject],
        photos: list[np.ndarray],
        size: int,
    ) -> None:
        self.args, self.run, self.weights = args, run, LossWeights()
        if args.compile:
            for part in (run.model.encoder, run.model.aa_module):
                part.forward = torch.compile(part.forward, dynamic=False)
        stage = Stage(photos, train_objects)
        self.train_set = VPOGTrainDataset(train_objects, stage, size, seed=args.seed)
        self.val_set = VPOGTrainDataset(val_objects, stage, size, seed=HELD_OUT_SEED, length=48)

    def batches(self, dataset, workers: int) -> Iterator[Batch]:
        """Batches of a dataset, in order."""
        loader = DataLoader(
            dataset, batch_size=self.args.groups, num_workers=workers, persistent_workers=False,
            prefetch_factor=4 if workers else None, worker_init_fn=_one_thread,
        )  # fmt: skip
        for batch in loader:
            yield Batch(**batch).to(self.args.device)

    def train(self) -> None:
        """Until `--minutes` are over; validates and saves every few minutes."""
        run, args = self.run, self.args
        begin = last = time.monotonic()
        first = run.step * args.groups
        rest = Subset(self.train_set, range(first, len(self.train_set)))
        sums: dict[str, float] = {}
        for batch in self.batches(rest, args.workers):
            for key, value in self.step(batch).items():
                sums[key] = 0.98 * sums.get(key, float(value)) + 0.02 * float(value)
            now = time.monotonic()
            run.seconds += now - last
            last = now
            over = now - begin > 60 * args.minutes or run.step >= args.schedule_steps
            if run.step % 50 == 0:
                print(f"step {run.step} {run.seconds / 60:.1f} min " + _text(sums), flush=True)
            if run.step % 500 == 0 or over:
                scores = self.validate()
                run.history.append({"step": run.step, "minutes": run.seconds / 60, **scores})
                run.save(Path(args.output))
                print(f"validation at step {run.step}: " + _text(scores), flush=True)
                last = time.monotonic()
            if over:
                break
        print(
            f"{run.step} steps in {run.seconds / 60:.1f} minutes: {args.output}/weights.safetensors",
            flush=True,
        )

    def step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One step of the optimizer."""
        run = self.run
        for group in run.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        loss, scores = objective(run.model, batch, self.weights, offset=run.step % 4)
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
        run.optimizer.step()
        run.step += 1
        run.update_ema()
        return scores

    def learning_rate(self) -> float:
        """Linear warm-up over 200 steps, then a cosine to 2 %."""
        warm = min(1.0, (self.run.step + 1) / 200)
        done = min(1.0, self.run.step / self.args.schedule_steps)
        return self.args.lr * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean scores of the averaged weights on held-out objects."""
        results = [
            objective(self.run.ema.eval(), b, self.weights, offset=2, predicted_share=1.0)[1]
            for b in self.batches(self.val_set, 0)
        ]
        return {key: float(torch.stack([r[key] for r in results]).mean()) for key in results[0]}


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def _text(scores: dict[str, float]) -> str:
    return " ".join(f"{key} {value:.3f}" for key, value in scores.items())


if __name__ == "__main__":
    raise SystemExit(main())
