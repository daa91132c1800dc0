import pytest
import torch

from vpog_core.models.config import VPOGConfig
from vpog_core.models.vpog_model import VPOGModel


@pytest.fixture
def config() -> VPOGConfig:
    """A network small enough to run in milliseconds."""
    return VPOGConfig(
        image_size=112, embed_dim=64, depth=1, num_heads=2, embed_from_stem=True, aa_depth=1, aa_heads=2,
        fine_dim=16, flow_hidden=32, flow_layers=2, retrieval_dim=8,
    )  # fmt: skip


@pytest.fixture
def model(config) -> VPOGModel:
    torch.manual_seed(0)
    return VPOGModel(config).eval()
