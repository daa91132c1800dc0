import numpy as np
import pytest
import torch

from vpog_core.models.config import VPOGConfig
from vpog_core.objects.renderer import Renderer
from vpog_core.synthetic.objects import make_object
from vpog_core.training.data.batch import RefinerBatch
from vpog_core.training.data.refiner_dataset import RefinerDataset
from vpog_core.training.data.vpog_dataset import VPOGTrainDataset
from vpog_core.training.synthesis.pose_perturbation import PerturbationConfig
from vpog_core.training.synthesis.scene_assets import SceneAssets
from vpog_core.training.synthesis.training_object import TrainingObject


@pytest.fixture(scope="session")
def training_objects() -> list[TrainingObject]:
    """Return two procedural objects."""
    renderers = [Renderer(make_object(seed, vertices=4000)) for seed in (900_001, 900_003)]
    return [
        TrainingObject(f"object_{n}", lambda kept=renderer: kept, "procedural")
        for n, renderer in enumerate(renderers)
    ]


@pytest.fixture(scope="session")
def dataset(training_objects) -> VPOGTrainDataset:
    return VPOGTrainDataset(training_objects, SceneAssets([], training_objects), 112, seed=3)


@pytest.fixture
def tiny_config(small_config) -> VPOGConfig:
    return small_config


@pytest.fixture
def one_thread():
    """Sums in one order only, so that equal runs are equal to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def refiner_objects() -> list[TrainingObject]:
    """Return two procedural objects, as refiners are trained on."""
    renderers = [Renderer(make_object(seed, vertices=3000)) for seed in (900_001, 900_003)]
    return [TrainingObject(f"object_{n}", lambda kept=renderer: kept) for n, renderer in enumerate(renderers)]


@pytest.fixture(scope="session")
def refiner_pairs(refiner_objects) -> RefinerDataset:
    """Return pairs of 64 pixels of these objects."""
    return RefinerDataset(refiner_objects, SceneAssets([], refiner_objects), 64, PerturbationConfig(), seed=3)


@pytest.fixture(scope="session")
def refiner_batch(refiner_objects) -> RefinerBatch:
    """Return six pairs of one object, 32 pixels."""
    data = RefinerDataset(
        refiner_objects[:1],
        SceneAssets([], refiner_objects),
        32,
        PerturbationConfig(),
        seed=5,
        photometry=False,
    )
    items = [data[index] for index in range(6)]
    return RefinerBatch(**{key: torch.from_numpy(np.stack([i[key] for i in items])) for key in items[0]})
