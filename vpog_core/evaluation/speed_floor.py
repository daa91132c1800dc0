"""Compare the time of network steps with the minimum that this machine allows.

The floor of a step is the longer of two times: its operations at the rate of a large matrix product, and the
bytes that it must move (weights once, inputs, outputs) at the rate of a large copy, both measured here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vpog_core.models.cost import CLUSTER, network_cost, refiner_cost
from vpog_core.models.export import example_pairs
from vpog_core.models.precision import inference_context
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.vpog_model import VPOGModel

MATMUL_SIDE, GPU_MATMUL_SIDE = 1024, 8192
"""Sides of the matrices whose product is timed: a GPU computes small ones far below its peak rate."""
COPY_BYTES = 2**28
"""Bytes of the copy that is timed: far more than caches hold."""


@dataclass(frozen=True)
class MachineRates:
    """Holds the peak rates of a device, measured: operations and bytes per second."""

    operations: float
    bytes: float


@dataclass(frozen=True)
class StepCost:
    """Holds the time of one step of a network: milliseconds as measured, and the minimum.

    Attributes:
        network, step: its name, `encode` and so on; batch: crops, or pairs, at once.
        milliseconds: median of one call; floor: at least; gflop, mib: counted operations and bytes.
    """

    network: str
    step: str
    batch: int
    milliseconds: float
    floor: float
    gflop: float
    mib: float

    @property
    def ratio(self) -> float:
        """The milliseconds over the minimum."""
        return self.milliseconds / self.floor


def measure_rates(device: str, bfloat16: bool, repeats: int = 5) -> MachineRates:
    """Measure what a device does at best, with the threads torch uses now."""
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    side = MATMUL_SIDE if device == "cpu" else GPU_MATMUL_SIDE
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.ones(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    product = _best_seconds(lambda: a @ b, device, repeats)
    copy = _best_seconds(lambda: target.copy_(source), device, repeats)
    return MachineRates(2 * side**3 / product, 2 * COPY_BYTES / copy)


def measure_steps(
    name: str, model: VPOGModel, refiner: RefinerNet, batch: int, rates: MachineRates, repeats: int
) -> list[StepCost]:
    """Measure the steps of a network and its refiner for a batch, beside their floors."""
    cost, (_, compare) = network_cost(model.config), refiner_cost(refiner.config)
    encode, match, flow = _network_calls(model, batch)
    pairs = example_pairs(refiner, batch)
    flow_parts = model.flow_head
    rows = [
        ("encode", model, cost.encode, [model.encoder, model.stem], encode),
        ("match", model, cost.match, [model.aa_module, model.token_manager, flow_parts.fine], match),
        ("flow", model, cost.flow, [m for m in flow_parts.children() if m is not flow_parts.fine], flow),
        ("compare", refiner, compare, [refiner], lambda: refiner(*pairs)),
    ]
    return [_step(name, batch, rates, repeats, *row) for row in rows]


def _step(
    name: str,
    batch: int,
    rates: MachineRates,
    repeats: int,
    step: str,
    network: nn.Module,
    operations: int,
    parts: list[nn.Module],
    call: Callable[[], object],
) -> StepCost:
    with torch.inference_mode(), inference_context(network):
        seconds = _median_seconds(call, str(network.mean.device), repeats)
        moved = sum(p.numel() * 4 for part in parts for p in part.parameters()) + _bytes_of(call())
    floor = max(batch * operations / rates.operations, moved / rates.bytes)
    return StepCost(name, step, batch, 1e3 * seconds, 1e3 * floor, batch * operations / 1e9, moved / 2**20)


def _network_calls(model: VPOGModel, batch: int) -> tuple[Callable, Callable, Callable]:
    """Make calls of encode, match and flow for a batch of crops, each against a cluster of templates."""
    size, device = model.config.image_size, model.mean.device
    images = torch.full((batch, 3, size, size), 128, dtype=torch.uint8, device=device)
    with torch.inference_mode(), inference_context(model):
        crops = model.encode(images)
        templates = crops.map(lambda v: v[:, None].repeat(1, CLUSTER, *(1,) * (v.ndim - 1)))
        directions = torch.tensor([0.0, 0.0, -1.0], device=device).repeat(batch, CLUSTER, 1)
        matches = model.match(crops, templates, directions)
    index = torch.zeros(batch, CLUSTER, model.config.num_patches, dtype=torch.long, device=device)
    return (
        lambda: model.encode(images),
        lambda: model.match(crops, templates, directions),
        lambda: model.flow(matches, index),
    )


def _bytes_of(found: object) -> int:
    """Count the bytes of the tensors in a result."""
    return sum(v.numel() * v.element_size() for v in vars(found).values() if isinstance(v, Tensor))


def _seconds(call: Callable[[], object], device: str, repeats: int) -> list[float]:
    call()
    seconds = []
    for _ in range(repeats):
        _wait_for(device)
        begin = time.perf_counter()
        call()
        _wait_for(device)
        seconds.append(time.perf_counter() - begin)
    return seconds


def _best_seconds(call: Callable[[], object], device: str, repeats: int) -> float:
    return min(_seconds(call, device, repeats))


def _median_seconds(call: Callable[[], object], device: str, repeats: int) -> float:
    return float(np.median(_seconds(call, device, repeats)))


def _wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
