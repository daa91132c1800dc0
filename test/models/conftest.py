from pathlib import Path

import pytest
import torch

import vpog_core
from vpog_core.models.checkpoint import load_weights
from vpog_core.models.config import VPOGConfig
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.vpog_model import VPOGModel


@pytest.fixture
def config(small_config) -> VPOGConfig:
    return small_config


@pytest.fixture
def model(config) -> VPOGModel:
    torch.manual_seed(0)
    return VPOGModel(config).eval()


@pytest.fixture(scope="session")
def shipped() -> VPOGModel:
    """Return the trained network that comes with the package."""
    return load_weights(Path(vpog_core.__file__).parent / "weights" / "vpog-tiny.safetensors")


@pytest.fixture
def refiner(refiner_config) -> RefinerNet:
    torch.manual_seed(0)
    return RefinerNet(refiner_config).eval()
