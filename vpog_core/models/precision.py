"""Choose the precision: bfloat16 on CUDA GPUs and CPUs that support it, float32 elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import torch
from torch import nn

from vpog_core.types import VPOGError

PRECISIONS = ("auto", "float32", "bfloat16")
"""What an estimator's networks compute in; `auto`: bfloat16 where the processor has instructions for it."""
CPU_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Flags of /proc/cpuinfo; with any of them, bfloat16 products take half the time or less."""
BF16_CAPABILITY = (8, 0)
"""CUDA compute capability from which on bfloat16 is computed by tensor cores (Ampere)."""


def bfloat16_pays(device: str | torch.device) -> bool:
    """Tell whether training and inference alike run quicker in bfloat16 on a device.

    A CPU counts as no: with AMX or AVX512-BF16 the forward pass gains up to a factor of two (see
    `inference_context`), the backward pass loses three, and without them both lose.
    """
    device = torch.device(device)
    if device.type != "cuda" or not torch.cuda.is_available():
        return False
    return torch.cuda.get_device_capability(device) >= BF16_CAPABILITY


def autocast_for(device: str | torch.device, enabled: bool | None = None) -> AbstractContextManager:
    """Return the context to run the network in: mixed bfloat16 where it is faster, else the present one.

    Weights, positions and the tokens handed out stay float32. Answers differ from float32's by the rounding
    to eight bits: on average 0.5 % of the spread of tokens, descriptors and logits, 1.2 % of the flow's
    (vpog-tiny, random images); 98 % of the patches are matched alike.

    Args:
        enabled: True or False decides in place of `bfloat16_pays`.
    """
    use = bfloat16_pays(device) if enabled is None else enabled
    if not use:
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


@cache
def cpu_computes_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether this computer's CPU multiplies in bfloat16; False if unknown."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return not CPU_FLAGS.isdisjoint(flags)


def choose_precision(network: nn.Module, precision: str) -> None:
    """Choose what a network computes in at inference, see `inference_context`.

    Args:
        precision: one of `PRECISIONS`.

    Raises:
        VPOGError: another word.
    """
    if precision not in PRECISIONS:
        raise VPOGError(f"Precision '{precision}' is not known: use one of {', '.join(PRECISIONS)}.")
    device = next(network.buffers()).device
    auto = bfloat16_pays(device) or (device.type == "cpu" and cpu_computes_bfloat16())
    network.computes_bfloat16 = auto if precision == "auto" else precision == "bfloat16"


def inference_context(network: nn.Module) -> AbstractContextManager:
    """Return the context of a network for inference: as `choose_precision` set it, else `autocast_for`."""
    device = next(network.buffers()).device
    return autocast_for(device, getattr(network, "computes_bfloat16", None))


def uses_bfloat16(network: nn.Module) -> bool:
    """Tell whether a network computes in bfloat16 at inference."""
    with inference_context(network):
        return torch.is_autocast_enabled(next(network.buffers()).device.type)
