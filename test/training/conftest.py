import pytest
import torch

from vpog_core.models.config import VPOGConfig
from vpog_core.objects.renderer import Renderer
from vpog_core.synthetic.objects import make_object
from vpog_core.training.template_bank import bank_templates
from vpog_core.training.vpog_dataset import Stage, TrainingObject, VPOGTrainDataset


@pytest.fixture(scope="session")
def training_objects(tmp_path_factory) -> list[TrainingObject]:
    """Two procedural objects with their banked templates."""
    bank = tmp_path_factory.mktemp("bank")
    objects = []
    for seed in (900_001, 900_003):
        mesh = make_object(seed, vertices=4000)
        templates = bank_templates(mesh, bank / str(seed), 112)
        objects.append(TrainingObject(f"seed_{seed}", mesh, Renderer(mesh), templates))
    return objects


@pytest.fixture(scope="session")
def dataset(training_objects) -> VPOGTrainDataset:
    return VPOGTrainDataset(training_objects, Stage([], training_objects), 112, seed=3)


@pytest.fixture
def tiny_config() -> VPOGConfig:
    return VPOGConfig(
        image_size=112, embed_dim=64, depth=1, num_heads=2, embed_from_stem=True, aa_depth=1, aa_heads=2,
        fine_dim=16, flow_hidden=32, flow_layers=2, retrieval_dim=8,
    )  # fmt: skip


@pytest.fixture
def one_thread():
    """Sums in one order only, so that equal runs are equal to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
