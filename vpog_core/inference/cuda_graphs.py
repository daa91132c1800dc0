"""Run an estimator's networks as CUDA graphs: one launch in place of hundreds.

Launching the operations of a small network takes longer than computing them. A graph has fixed shapes, so
batches are filled up to a few sizes, and a graph is recorded for each on its first use. `warm_up` records
those that an estimator needs.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vpog_core.inference.engine_networks import EngineModel, EngineRefiner, Step
from vpog_core.inference.matching import CLUSTER_SIZE
from vpog_core.inference.onboarding import as_templates
from vpog_core.models.export import Compare, Match, MatchedFlow, example_pairs
from vpog_core.models.precision import uses_bfloat16
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.vpog_model import VPOGModel

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of rows that graphs are recorded for; larger batches go through in parts."""
WARM_UP_SIZES = (1, 2, 4, 8, 16)
"""Numbers of crops, or pairs, whose graphs are recorded before the first image."""
_RUNS_BEFORE_RECORDING = 2
_LOCK = threading.Lock()
"""Held while a graph is recorded, or filled in, run and read: CUDA records one at a time, and the graphs of a
process share memory."""


@functools.cache
def _recording_stream() -> torch.cuda.Stream:
    """Return the stream that all graphs are recorded on: libraries keep tens of megabytes for each stream."""
    return torch.cuda.Stream()


@functools.cache
def _last_run() -> torch.cuda.Event:
    """Return the event that the last run of any graph has been read, whatever stream that was on."""
    return torch.cuda.Event()


@dataclass
class Recording:
    """Holds a CUDA graph, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run the graph on rows; returns copies of as many rows of its outputs."""
        rows, stream = len(inputs[0]), torch.cuda.current_stream()
        stream.wait_event(_last_run())
        for static, given in zip(self.inputs, inputs, strict=True):
            static[:rows].copy_(given)
        self.graph.replay()
        found = tuple(output[:rows].clone() for output in self.outputs)
        _last_run().record(stream)
        return found


class GraphedStep:
    """Runs a step of a network as CUDA graphs, one for each size of batch. Thread-safe.

    One thread at a time fills in, runs and reads a graph: a node estimates poses in one thread and onboards
    objects in another. While one records, others must not wait for the whole device, as
    `torch.cuda.synchronize` does: `warm_up` records before there are others.

    Args:
        step: what is recorded; bfloat16: compute in mixed precision.
        record: makes what runs a step on inputs of fixed shapes.
    """

    def __init__(self, step: Step, bfloat16: bool, record: Callable | None = None) -> None:
        self._step, self._bfloat16 = step, bfloat16
        self._record = record or GraphRecorder()
        self._recordings: dict[tuple, Callable] = {}

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the step on tensors [B, ...] -> its outputs [B, ...]."""
        parts = zip(*(each.split(SIZES[-1]) for each in inputs), strict=True)
        found = []
        for part in parts:
            with _LOCK:
                found.append(self._recording(part)(part))
        return found[0] if len(found) == 1 else tuple(torch.cat(each) for each in zip(*found, strict=True))

    def _recording(self, inputs: Sequence[Tensor]) -> Callable:
        size = next(size for size in SIZES if size >= len(inputs[0]))
        key = (size, *((each.shape[1:], each.dtype) for each in inputs))
        if key not in self._recordings:
            # Rows beyond the given ones hold any valid values: nothing is read from them.
            filled = tuple(_filled(each, size) for each in inputs)
            self._recordings[key] = self._record(self._step, filled, self._bfloat16)
        return self._recordings[key]


class GraphRecorder:
    """Records steps; their graphs run one after the other, and share the memory of what lies between."""

    @cached_property
    def _pool(self):
        return torch.cuda.graph_pool_handle()

    def __call__(self, step: Step, inputs: tuple[Tensor, ...], bfloat16: bool) -> Recording:
        """Record a step on inputs whose memory the graph keeps."""
        caller, stream, graph = torch.cuda.current_stream(), _recording_stream(), torch.cuda.CUDAGraph()
        # Casts of weights are part of the graph: cached ones would be freed under it.
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=bfloat16, cache_enabled=False):
            # Let libraries choose their algorithms and make their workspaces before recording.
            stream.wait_stream(caller)
            with torch.cuda.stream(stream):
                for _ in range(_RUNS_BEFORE_RECORDING):
                    step(*inputs)
            caller.wait_stream(stream)
            try:
                with torch.cuda.graph(graph, self._pool, stream, capture_error_mode="thread_local"):
                    outputs = tuple(step(*inputs))
            finally:
                # Where a recording fails at its end, torch leaves the thread on its stream.
                torch.cuda.set_stream(caller)
        return Recording(graph, inputs, outputs)


class GraphedModel(EngineModel):
    """Runs encode, match and flow of a network as CUDA graphs."""

    def __init__(self, model: VPOGModel) -> None:
        steps = lambda images: model.encode(images).tensors(), Match(model), MatchedFlow(model)
        super().__init__(model, *(GraphedStep(step, uses_bfloat16(model)) for step in steps))
        self._is_warm = False

    def warm_up(self) -> None:
        """Record the graphs that images with some detections need, once."""
        if self._is_warm:
            return
        config, device = self._model.config, self._model.mean.device
        shape = SIZES[-1], 3, config.image_size, config.image_size
        images = torch.zeros(shape, dtype=torch.uint8, device=device)
        with torch.inference_mode():
            encoded = {count: self.encode(images[:count]) for count in SIZES}
            for count in WARM_UP_SIZES:
                views = as_templates(self, encoded[CLUSTER_SIZE * count])
                templates = views.map(lambda v, count=count: v.unflatten(0, (count, CLUSTER_SIZE)))
                directions = torch.tensor([0.0, 0.0, -1.0], device=device).repeat(count, CLUSTER_SIZE, 1)
                matches = self.match(encoded[count], templates, directions)
                index = torch.zeros(matches.logits.shape[:3], dtype=torch.long, device=device)
                self.flow(matches, index)
        self._is_warm = True


class GraphedRefiner(EngineRefiner):
    """Compares renders with images as CUDA graphs."""

    def __init__(self, refiner: RefinerNet) -> None:
        super().__init__(refiner, GraphedStep(Compare(refiner), uses_bfloat16(refiner)))
        self._is_warm = False

    def warm_up(self) -> None:
        """Record the graphs that images with some detections need, once."""
        if self._is_warm:
            return
        for count in WARM_UP_SIZES:
            self(*example_pairs(self._refiner, count))
        self._is_warm = True


def _filled(rows: Tensor, size: int) -> Tensor:
    """Return rows [B, ...] repeated to [size, ...]."""
    return rows.repeat(-(-size // len(rows)), *(1,) * (rows.ndim - 1))[:size].contiguous()
