"""Run a training from its configuration: `vpog train`, or `python -m vpog_core.training.train OVERRIDES`."""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import lightning.pytorch as L
import torch
import yaml
from lightning.pytorch import loggers
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.utilities import rank_zero_only

from vpog_core.models.checkpoint import COARSE, REFINER, load_refiner
from vpog_core.models.precision import bfloat16_pays
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.training.allocator import keep_freed_memory
from vpog_core.training.callbacks import (
    CHECKPOINT,
    WEIGHTS,
    CountBatches,
    ProgressLines,
    RunFiles,
    SafeCheckpointIO,
    StopCleanly,
    headline,
)
from vpog_core.training.data.datasets import build_datasets
from vpog_core.training.data.hypothesis_dataset import build_hypothesis_datasets
from vpog_core.training.data.refiner_datasets import build_refiner_datasets
from vpog_core.training.data_module import BuildDatasets, VPOGDataModule
from vpog_core.training.initial_weights import set_initial_weights
from vpog_core.training.lightning_module import (
    NetworkLightning,
    RefinerLightning,
    ScorerLightning,
    VPOGLightning,
)
from vpog_core.training.train_config import RENAMED, SCORER, TrainConfig
from vpog_core.training.validation_figures import ValidationFigures
from vpog_core.types import VPOGError
from vpog_core.utils.atomic_file import atomic_write

LOGGERS = {
    "tensorboard": "TensorBoardLogger", "csv": "CSVLogger", "wandb": "WandbLogger", "mlflow": "MLFlowLogger",
    "comet": "CometLogger", "neptune": "NeptuneLogger",
}  # fmt: skip
UNREPORTED_SETTINGS = (
    "trainer.", "loader.workers", "loader.prefetch", "output", "data.cache_dir", "data.processes",
    "data.resident_objects",
)  # fmt: skip
"""Settings that may change when a run is resumed, without a message; `trainer.` is the whole section."""
REPORTED_SETTINGS = ("trainer.accumulate", "trainer.devices", "trainer.num_nodes")
"""Settings among them that decide how many items a step has: a message tells of their change."""
UNUSED_SECTIONS = {
    COARSE: ("refiner.", "refiner_loss.", "perturbation."),
    REFINER: ("model.", "loss."),
    SCORER: ("model.", "loss.", "refiner_loss.", "perturbation."),
}
"""Sections that a run of each network does not use."""
_EXPECTED_WARNINGS = (
    ".*does not have many workers.*", ".*your dataloader is not resumable.*",
    ".*is smaller than the logging.*", ".*[Ee]xperiment logs directory.*", ".*treespec, LeafSpec.*",
)  # fmt: skip


@dataclass
class TrainingSummary:
    """Holds the state of a run: its progress and its last scores.

    Attributes:
        step: optimizer steps done; minutes: of training, over all slices; scores: of the last validation.
        weights: the averaged weights; interrupted: by Ctrl-C.
    """

    step: int
    minutes: float
    scores: dict[str, float]
    weights: Path
    interrupted: bool

    def __str__(self) -> str:
        done = f"{self.step} steps in {self.minutes:.1f} minutes"
        return f"{done}; validation: {headline(self.scores)}; weights: {self.weights}"


def train(config: TrainConfig, build: BuildDatasets | None = None) -> TrainingSummary:
    """Train until the run or the time is over; resume the run in `config.output`, if there is one.

    Prints the summary.

    Args:
        build: makes the training and the validation set; those of the configuration unless given.

    Raises:
        VPOGError: data, weights or a run in `output` that cannot be used.
    """
    deadline = time.monotonic() + 60 * config.trainer.minutes if config.trainer.minutes else float("inf")
    _prepare_process(config)
    folder = Path(config.output)
    # Compare with the run that is resumed, if there is one.
    checkpoint = folder / CHECKPOINT
    begun = checkpoint.is_file()
    changes = changed_settings(folder, config) if begun else []
    # Make network, data and trainer.
    module = make_module(config)
    data = VPOGDataModule(
        build or (lambda: _datasets(config, progress=rank_zero_only.rank == 0)),
        config.loader,
    )
    stop = StopCleanly(deadline)
    trainer = make_trainer(config, [stop])
    # Write the configuration, and train.
    if trainer.is_global_zero:
        for line in changes:
            print(f"changed since this run was begun: {line}", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / "config.yaml", yaml.safe_dump(dataclasses.asdict(config), sort_keys=False))
    trainer.fit(module, datamodule=data, ckpt_path=str(checkpoint) if begun else None, weights_only=True)
    files = next(c for c in trainer.callbacks if isinstance(c, RunFiles))
    scores = dict(files.history[-1]) if files.history else {}
    summary = TrainingSummary(
        trainer.global_step, files.seconds / 60, scores, folder / WEIGHTS, stop.interrupted
    )
    if trainer.is_global_zero:
        print(summary, flush=True)
    return summary


def _datasets(config: TrainConfig, progress: bool):
    """Make the training and the validation set of the network that is trained."""
    if config.network == SCORER:
        return build_hypothesis_datasets(config.data)
    if config.network == REFINER:
        return build_refiner_datasets(config.data, config.refiner.image_size, config.perturbation, progress)
    return build_datasets(config.data, progress)


def make_module(config: TrainConfig) -> NetworkLightning:
    """Make the network, as it begins, with what trains it."""
    torch.manual_seed(config.seed)
    module = _MODULES[config.network](
        config, config.optimizer, config.scheduler, config.loader.batch_size, config.trainer.epoch_steps,
        config.seed, not config.data.photometry,
    )  # fmt: skip
    if config.trainer.checkpoint_blocks:
        module.checkpoint_blocks()
    if config.trainer.compile:
        module.compile_parts()
    return module


def _coarse_module(config: TrainConfig, *common) -> VPOGLightning:
    network = VPOGModel(config.model)
    set_initial_weights(network, config.init)
    return VPOGLightning(network, config.loss, *common)


def _refiner_module(config: TrainConfig, *common) -> RefinerLightning:
    return RefinerLightning(_refiner(config), config.refiner_loss, *common)


def _scorer_module(config: TrainConfig, *common) -> ScorerLightning:
    return ScorerLightning(_refiner(config), *common)


_MODULES = {COARSE: _coarse_module, REFINER: _refiner_module, SCORER: _scorer_module}


def _refiner(config: TrainConfig) -> RefinerNet:
    refiner = RefinerNet(config.refiner)
    if config.init.weights:
        refiner.load_state_dict(load_refiner(config.init.weights, expect=config.refiner).state_dict())
    return refiner


def make_trainer(config: TrainConfig, callbacks: list[L.Callback]) -> L.Trainer:
    """Make Lightning's trainer; one of its epochs is the whole run, so that the workers never run dry."""
    folder, of = Path(config.output), config.trainer
    terminal = sys.stderr.isatty()
    callbacks = [*callbacks, ProgressLines(0 if terminal else of.log_every)]
    if terminal:
        callbacks.append(TQDMProgressBar(refresh_rate=5))
    if of.figures:
        callbacks.append(ValidationFigures(folder / "figures", of.figures))
    arguments = {
        "accelerator": of.accelerator, "devices": of.devices, "num_nodes": of.num_nodes,
        "strategy": of.strategy, "precision": of.precision,
        "max_epochs": -1, "max_steps": config.max_steps, "accumulate_grad_batches": of.accumulate,
        "val_check_interval": of.epoch_steps * of.accumulate, "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": of.log_every, "logger": make_logger(of.logger, folder, of.logger_options),
        "callbacks": [*callbacks, CountBatches(), RunFiles(folder)], "plugins": [SafeCheckpointIO()],
        "enable_checkpointing": False, "enable_model_summary": False, "enable_progress_bar": terminal,
        "use_distributed_sampler": False, "default_root_dir": folder,
    }  # fmt: skip
    try:
        trainer = L.Trainer(**{**arguments, **of.extra})
    except (TypeError, ValueError, L.utilities.exceptions.MisconfigurationException) as error:
        raise VPOGError(
            f"Lightning refuses these trainer settings: {' '.join(str(error).split())}"
        ) from error
    device = trainer.strategy.root_device
    if of.precision.startswith("bf16") and device.type == "cuda" and not bfloat16_pays(device):
        print("This GPU emulates bfloat16, slowly: set trainer.precision=32-true.", file=sys.stderr)
    return trainer


def make_logger(name: str, folder: Path, options: dict):
    """Make a logger of Lightning by name; its files go to `folder`/log.

    Raises:
        VPOGError: no logger of this name, its package is missing, or it does not take these options.
    """
    if name == "none":
        return False
    if name not in LOGGERS:
        raise VPOGError(f"trainer.logger is '{name}': use one of {', '.join(LOGGERS)}, none.")
    places = {"tensorboard": {"name": "log", "version": ""}, "csv": {"name": "log"}}
    at = {} if name in ("comet", "neptune") else {"save_dir": str(folder)}
    try:
        return getattr(loggers, LOGGERS[name])(**{**at, **places.get(name, {}), **options})
    except ModuleNotFoundError as error:
        raise VPOGError(
            f"trainer.logger={name} needs a package that is missing ({error}): install it."
        ) from error
    except TypeError as error:
        raise VPOGError(f"The logger {name} does not take these trainer.logger_options: {error}.") from error


def changed_settings(folder: Path, config: TrainConfig) -> list[str]:
    """Return what differs from the configuration a run was begun with, as lines.

    Raises:
        VPOGError: the network differs.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        return []
    stored = {RENAMED.get(key, key): value for key, value in _flatten(yaml.safe_load(file.read_text()))}
    before = {"network": COARSE} | stored
    sizes = "model." if config.network == COARSE else "refiner."
    ignored = (*UNREPORTED_SETTINGS, *UNUSED_SECTIONS[config.network])
    lines = []
    for key, value in _flatten(dataclasses.asdict(config)):
        is_ignored = key.startswith(ignored) and key not in REPORTED_SETTINGS
        if is_ignored or before.get(key) == value:
            continue
        if key.startswith(sizes) or key == "network":
            raise VPOGError(
                f"The run in '{folder}' has {key} {before.get(key)} and {value} is asked for: "
                "give another output."
            )
        lines.append(f"{key} {before.get(key)} -> {value}")
    return lines


def _flatten(values: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _prepare_process(config: TrainConfig) -> None:
    """Set the number of threads, and silence warnings that are expected."""
    cv2.setNumThreads(0)  # before any fork: OpenCV's thread pool does not survive one
    keep_freed_memory()
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message, append=False)


def main(arguments: list[str] | None = None) -> int:
    """Train as Hydra overrides say; the exit code is that of `vpog train`."""
    from vpog_core.training.compose import load_config

    try:
        interrupted = train(load_config(sys.argv[1:] if arguments is None else arguments)).interrupted
    except VPOGError as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    return 130 if interrupted else 0


if __name__ == "__main__":
    raise SystemExit(main())
