"""Load the networks that an estimator works with, and their calibration, from files."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from vpog_core.inference.calibration import DEFAULT_CALIBRATION, Calibration, read_calibration
from vpog_core.inference.cuda_graphs import GraphedModel, GraphedRefiner
from vpog_core.inference.onnx_engine import OnnxModel, OnnxRefiner, check_engine, onnx_networks
from vpog_core.models.checkpoint import load_refiner, load_weights, weights_key
from vpog_core.models.precision import choose_precision, uses_bfloat16
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.objects.library import default_cache_dir
from vpog_core.types import VPOGError, sentence_of

DEFAULT_WEIGHTS = Path(__file__).parent.parent / "weights" / "vpog-tiny.safetensors"
DEFAULT_REFINER = DEFAULT_WEIGHTS.with_name("refiner-tiny.safetensors")
FULL = ("out of memory", "ALLOC_FAILED")
"""What errors of CUDA and its libraries say where a GPU's memory is full."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Networks:
    """Holds the networks of an estimator, on their device.

    Attributes:
        model: finds views and matches them; key: tells its weights from others in the cache.
        calibration: of the score and the covariance, fitted with these weights.
        refiner: corrects poses by comparing renders with the image; None: nothing does.
        precision: `float32` or `bfloat16`, what they compute in; engine: `torch` or `onnxruntime`.
    """

    model: VPOGModel | OnnxModel | GraphedModel
    key: str
    calibration: Calibration = DEFAULT_CALIBRATION
    refiner: RefinerNet | OnnxRefiner | GraphedRefiner | None = None
    precision: str = "float32"
    engine: str = "torch"

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        refiner_weights: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        engine: str = "torch",
        cuda_graphs: bool = True,
    ) -> Networks:
        """Load weights files; None: those that ship.

        Args:
            device: see `choose_device`.
            precision: what the networks compute in: `float32`, `bfloat16`, or `auto` (bfloat16 where the
                processor has instructions for it).
            engine: `torch`, or `onnxruntime`, which is faster on a CPU and computes in float32.
            cuda_graphs: on a GPU, run the networks as CUDA graphs.

        Raises:
            VPOGError: a file is missing or cannot be used, the device is not there, or the engine is not
                installed or does not support the settings.
        """
        if engine != "torch" and device == "auto":
            device = "cpu"
        path, device = Path(weights or DEFAULT_WEIGHTS), choose_device(device)
        check_engine(engine, device, precision)
        refiner_path = Path(refiner_weights or DEFAULT_REFINER)
        with _room_for("the networks"):
            model, refiner = load_weights(path, device), load_refiner(refiner_path, device)
        key = weights_key(path)
        for network in (model, refiner):
            choose_precision(network, precision if engine == "torch" else "float32")
        computes_in = "bfloat16" if uses_bfloat16(model) else "float32"
        if engine == "onnxruntime":
            keys = {"network": key, "refiner": weights_key(refiner_path)}
            model, refiner = onnx_networks(model, refiner, keys, default_cache_dir())
        elif device.startswith("cuda") and cuda_graphs:
            model, refiner = GraphedModel(model), GraphedRefiner(refiner)
        return cls(model, key, read_calibration(path), refiner, computes_in, engine)

    def warm_up(self) -> None:
        """Do what would make the first image slower than others: on a GPU, record the networks' graphs.

        Raises:
            VPOGError: the GPU's memory does not hold them.
        """
        with _room_for("the networks' CUDA graphs (0.8 GiB for vpog-tiny)"):
            for network in (self.model, self.refiner):
                if isinstance(network, (GraphedModel, GraphedRefiner)):
                    network.warm_up()


@contextmanager
def _room_for(what: str) -> Iterator[None]:
    """Raise a VPOGError where a GPU has no memory for something, also for its libraries' own."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not isinstance(error, torch.cuda.OutOfMemoryError) and not any(sign in text for sign in FULL):
            raise
        raise VPOGError(
            f"The GPU's free memory does not hold {what}: end other programs on it, or set device to 'cpu'."
        ) from error


def choose_device(device: str) -> str:
    """Choose `cuda` or `cpu`; `auto` takes CUDA where there is a GPU that torch can compute on.

    Raises:
        VPOGError: a device that is not there, or not known.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() and _computes_on_gpu() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise VPOGError(
            f"Device '{device}' is asked for and torch finds no CUDA GPU: set device to 'cpu' or 'auto'."
        )
    if device not in ("cpu", "cuda"):
        raise VPOGError(
            f"Device '{device}' is not known: use 'auto', 'cpu' or 'cuda'; CUDA_VISIBLE_DEVICES in the "
            "environment chooses one of several GPUs."
        )
    return device


def _computes_on_gpu() -> bool:
    """Tell whether torch has kernels for the GPU and may use it; a warning says why not."""
    try:
        return float(torch.ones(1, device="cuda") + 1) == 2.0
    except (RuntimeError, AssertionError) as error:
        _LOG.warning("The GPU cannot be used, so the CPU is: %s", sentence_of(error))
        return False
