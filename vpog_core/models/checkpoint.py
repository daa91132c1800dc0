"""Weights as safetensors, with the network's configuration in their metadata."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vpog_core.models.config import VPOGConfig
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.types import VPOGError


def save_weights(model: VPOGModel, path: str | Path, extra: dict[str, str] | None = None) -> None:
    """Write a model's weights; the file is whole or not there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    metadata = {"config": json.dumps(model.config.to_dict()), **(extra or {})}
    save_file(
        {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, partial, metadata=metadata
    )
    os.replace(partial, path)


def load_weights(path: str | Path, device: str | torch.device = "cpu") -> VPOGModel:
    """The model of a weights file, in evaluation mode.

    Raises:
        VPOGError: no such file, not VPOG weights, or tensors that do not fit (the first key is named).
    """
    path = Path(path)
    if not path.is_file():
        raise VPOGError(f"There are no weights at '{path}': give the path of a .safetensors file.")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise VPOGError(
            f"'{path}' is no readable safetensors file ({error}): export the weights again."
        ) from error
    if "config" not in metadata:
        raise VPOGError(f"'{path}' holds no VPOG configuration: use weights written by vpog's training.")
    model = VPOGModel(_read_config(path, metadata["config"])).to(device)
    _check_fit(path, model.state_dict(), tensors)
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)


def weights_key(path: str | Path) -> str:
    """A short hash of a weights file: cached tokens are valid for this key only."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def _read_config(path: Path, text: str) -> VPOGConfig:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise VPOGError(
            f"The configuration in '{path}' is no valid JSON ({error}): export the weights again."
        ) from error
    if not isinstance(values, dict):
        raise VPOGError(f"The configuration in '{path}' is no mapping: export the weights again.")
    return VPOGConfig.from_dict(values)


def _check_fit(path: Path, expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    for key, tensor in expected.items():
        if key not in found:
            raise VPOGError(f"'{path}' lacks the tensor '{key}': use weights of this version.")
        if found[key].shape != tensor.shape:
            raise VPOGError(
                f"In '{path}' the tensor '{key}' has the shape {tuple(found[key].shape)} "
                f"where {tuple(tensor.shape)} is needed: use weights of this preset."
            )
    for key in found:
        if key not in expected:
            raise VPOGError(f"'{path}' holds the unknown tensor '{key}': use weights of this version.")
