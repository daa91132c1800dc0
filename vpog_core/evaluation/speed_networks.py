"""Load the networks that `vpog bench` times, in the precision and by the engine that are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vpog_core.evaluation.speed_config import SpeedConfig
from vpog_core.inference.cuda_graphs import GraphedModel, GraphedRefiner
from vpog_core.inference.networks import Networks
from vpog_core.inference.onnx_engine import OnnxModel, OnnxRefiner, check_engine, onnx_networks
from vpog_core.models.config import PRESETS
from vpog_core.models.precision import choose_precision, uses_bfloat16
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.refiner_config import REFINER_PRESETS
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.types import VPOGError


def check_presets(names: Sequence[str]) -> None:
    """Refuse names of networks that have no preset.

    Raises:
        VPOGError: one of them has none.
    """
    for name in names:
        if f"vpog-{name}" not in PRESETS or f"refiner-{name}" not in REFINER_PRESETS:
            raise VPOGError(f"There is no network '{name}' to time: use tiny or small.")


def load_networks(config: SpeedConfig) -> Networks:
    """Load the networks of the estimator that is timed.

    Raises:
        VPOGError: see `Networks.load`.
    """
    return Networks.load(
        config.weights, device=config.device, precision=config.precision, engine=config.engine
    )


def other_networks(config: SpeedConfig, timed: Networks) -> dict[str, Networks]:
    """Load the same weights in what the timed networks are compared with, by the names of the ways."""

    def in_torch(precision: str, **settings) -> Networks:
        return Networks.load(config.weights, device=config.device, precision=precision, **settings)

    if config.engine == "torch":
        others = {"float32": in_torch("float32")} if uses_bfloat16(timed.model) else {}
        if config.device.startswith("cuda"):
            others["no CUDA graphs"] = in_torch(config.precision, cuda_graphs=False)
        return others
    others = {"torch, float32": in_torch("float32")}
    fastest = in_torch("auto")
    if uses_bfloat16(fastest.model):
        others["torch, bfloat16"] = fastest
    return others


def preset_networks(
    name: str, config: SpeedConfig, folder: Path
) -> tuple[VPOGModel | OnnxModel | GraphedModel, RefinerNet | OnnxRefiner | GraphedRefiner]:
    """Make a preset's networks with random weights, which take the same time as trained ones.

    Args:
        folder: of the files that onnxruntime opens.
    """
    check_engine(config.engine, config.device, config.precision)
    model = VPOGModel(PRESETS[f"vpog-{name}"]).eval().to(config.device)
    refiner = RefinerNet(REFINER_PRESETS[f"refiner-{name}"]).eval().to(config.device)
    for network in (model, refiner):
        choose_precision(network, config.precision if config.engine == "torch" else "float32")
    if config.engine == "onnxruntime":
        return onnx_networks(model, refiner, {"preset": name}, folder)
    if config.device.startswith("cuda"):
        return GraphedModel(model), GraphedRefiner(refiner)
    return model, refiner
