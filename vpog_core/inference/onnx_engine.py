"""Run an estimator's networks from ONNX files in onnxruntime, on a CPU.

The files are those of `vpog export`, of one crop each, made once for each weights file and kept in the cache.
Several crops go through one after the other, which costs no more than together.
"""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vpog_core.inference.engine_networks import EngineModel, EngineRefiner
from vpog_core.models.flow_head import Flow, MatchedPixels
from vpog_core.models.onnx_export import FORMAT, MANIFEST, export_onnx, open_session, require
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.vpog_model import Encoded, Matches, VPOGModel
from vpog_core.types import VPOGError

ENGINES = ("torch", "onnxruntime")
TEMPLATES = 4
"""Templates of a cluster; matches with another number are computed by torch."""
_LOG = logging.getLogger(__name__)


class OnnxModel(EngineModel):
    """Runs encode, match and flow of a network in onnxruntime.

    Args:
        folder: of the ONNX files; threads: of each operation, None: as many as torch uses.
    """

    def __init__(self, model: VPOGModel, folder: Path, threads: int | None = None) -> None:
        self._folder = folder
        sessions = (
            open_session(folder / f"{name}.onnx", threads or torch.get_num_threads())
            for name in ("encode", "match", "flow")
        )
        encode, *others = (partial(_run, session) for session in sessions)
        # The file of `encode` describes the images as well, as crops and as templates.
        super().__init__(model, lambda images: encode(images)[:-2], *others)

    def __reduce__(self) -> tuple:
        """Send to a worker process what opens the files there, in one thread: see `worker_pool`."""
        return OnnxModel, (self._model, self._folder, 1)

    def match(self, query: Encoded, templates: Encoded, directions: Tensor) -> Matches:
        """Match crops with templates, see `VPOGModel.match`."""
        engine = super() if templates.tokens.shape[1] == TEMPLATES else self._model
        return engine.match(query, templates, directions)

    def flow(self, matches: Matches, index: Tensor) -> MatchedPixels | Flow:
        """Find the flow of matched patches, see `VPOGModel.flow`."""
        engine = super() if matches.templates.shape[1] == TEMPLATES else self._model
        return engine.flow(matches, index)


class OnnxRefiner(EngineRefiner):
    """Compares renders with images in onnxruntime."""

    def __init__(self, refiner: RefinerNet, folder: Path) -> None:
        session = open_session(folder / "refiner.onnx", torch.get_num_threads())
        super().__init__(refiner, partial(_run, session))


def onnx_networks(
    model: VPOGModel, refiner: RefinerNet, keys: dict[str, str], cache_dir: Path
) -> tuple[OnnxModel, OnnxRefiner]:
    """Open both networks in onnxruntime; their files are written where the cache does not have them.

    Args:
        keys: of both weights files, for the name of the folder in the cache.

    Raises:
        VPOGError: a package is missing, or the files cannot be written or opened.
    """
    require("onnxruntime")
    folder = cache_dir / "onnx-{}".format("-".join(keys.values()))
    if not _is_whole(folder):
        _LOG.info("The networks are written as ONNX files to '%s': this takes a minute, once.", folder)
        try:
            export_onnx(model, refiner, folder, keys, crops=1, templates=TEMPLATES)
        except OSError as error:
            raise VPOGError(
                f"'{folder}' cannot be written ({error.strerror}): set XDG_CACHE_HOME to a folder that can, "
                "or the engine to 'torch'."
            ) from error
    return OnnxModel(model, folder), OnnxRefiner(refiner, folder)


def check_engine(engine: str, device: str, precision: str) -> None:
    """Refuse an engine that is unknown, or that does not support the device or the precision.

    Args:
        device, precision: as requested.

    Raises:
        VPOGError: the engine is not known, or onnxruntime is to run on a GPU or in bfloat16.
    """
    if engine not in ENGINES:
        raise VPOGError(f"The engine '{engine}' is not known: use one of {', '.join(ENGINES)}.")
    if engine == "torch":
        return
    if device != "cpu":
        raise VPOGError(f"The engine '{engine}' runs on a CPU and the device is '{device}': set it to 'cpu'.")
    if precision == "bfloat16":
        raise VPOGError(f"The engine '{engine}' computes in float32: set precision to 'auto' or 'float32'.")


def _is_whole(folder: Path) -> bool:
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _run(session, *batches: Tensor) -> tuple[Tensor, ...]:
    """Run a graph of one row for each row of a batch; returns its outputs [B, ...]."""
    names = [each.name for each in session.get_inputs()]
    arrays = [batch.numpy() for batch in batches]
    rows = [
        session.run(
            None, {name: np.ascontiguousarray(a[n : n + 1]) for name, a in zip(names, arrays, strict=True)}
        )
        for n in range(len(arrays[0]))
    ]
    return tuple(torch.from_numpy(np.concatenate(parts)) for parts in zip(*rows, strict=True))
