"""Test that every tensor the networks use is made on their device, and none is copied there.

It needs no GPU. A CUDA build of torch pretends that there is one (fake tensors); other builds use the device
`meta`, which knows shapes alone, and find the same.
"""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vpog_core.geometry.epro_pnp import PnPProblem, gauss_newton_step, necker_reversal, pose_cost
from vpog_core.inference.correspondence import dense_tensors
from vpog_core.models.config import PRESETS, VPOGConfig
from vpog_core.models.export import Compare
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.refiner_config import REFINER_PRESETS
from vpog_core.models.vpog_model import VPOGModel

CROPS, TEMPLATES, DESCRIBED_VIEWS = 2, 4, 972


DEVICE = "cuda" if torch.backends.cuda.is_built() else "meta"


class OneDevice(TorchDispatchMode):
    """Refuses operations that read or make a tensor of another device than DEVICE."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, out)):
            if isinstance(value, Tensor) and value.device.type != DEVICE:
                raise AssertionError(f"{func}: a tensor of shape {tuple(value.shape)} on {value.device}")
        return out


@pytest.fixture(autouse=True)
def fake():
    """Let tensors of DEVICE hold no numbers."""
    # What is no fake tensor, such as a constant of a module, becomes one of its own device, and is refused.
    with FakeTensorMode(allow_non_fake_inputs=True) if DEVICE == "cuda" else nullcontext(), torch.no_grad():
        yield


class Steps(torch.nn.Module):
    """Encodes, describes, retrieves, matches, and follows the flow, as an estimator does."""

    def __init__(self, config: VPOGConfig) -> None:
        super().__init__()
        self.model = VPOGModel(config)

    def forward(self, images: Tensor, directions: Tensor, descriptors: Tensor) -> None:
        model = self.model
        encoded = model.encode(images)
        crops = encoded[:CROPS]
        templates = encoded[CROPS:].map(lambda v: v.unflatten(0, (CROPS, TEMPLATES)))
        model.describe_templates(encoded)
        model.retrieval_head.logits(model.describe(crops), descriptors)
        dense_tensors(model, model.match(crops, templates, directions), match_patches=3)


def call(network: torch.nn.Module, *inputs: Tensor) -> None:
    """Call a network that was made on `meta` with weights of DEVICE."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    weights = {name: empty(*tensor.shape, dtype=tensor.dtype) for name, tensor in tensors.items()}
    with OneDevice():
        functional_call(network, weights, inputs)


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=DEVICE)


@pytest.mark.parametrize("name", ["tiny", "base"])
def test_networks_meet_no_tensor_of_another_device(name):
    config = PRESETS[f"vpog-{name}"]
    with torch.device("meta"):
        steps = Steps(config).eval()
    images = empty(CROPS * (1 + TEMPLATES), 3, config.image_size, config.image_size, dtype=torch.uint8)
    descriptors = empty(DESCRIBED_VIEWS, config.num_patches * config.retrieval_dim)
    call(steps, images, empty(CROPS, TEMPLATES, 3), descriptors)


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_refiners_meet_no_tensor_of_another_device(name):
    config = REFINER_PRESETS[f"refiner-{name}"]
    with torch.device("meta"):
        compare = Compare(RefinerNet(config)).eval()
    shape = CROPS, 3, config.image_size, config.image_size
    image, render = empty(*shape, dtype=torch.uint8), empty(*shape, dtype=torch.uint8)
    call(compare, image, render, empty(*shape), empty(CROPS, *shape[2:], dtype=torch.bool))


def test_steps_of_the_pose_solver_meet_no_tensor_of_another_device():
    shapes = (CROPS, 10, 2), (CROPS, 10, 3), (CROPS, 10), (CROPS, 3, 3), (CROPS, 4, 4)
    with OneDevice():
        *parts, T = (empty(*shape) for shape in shapes)
        problem = PnPProblem(*parts)
        pose_cost(problem, gauss_newton_step(problem, necker_reversal(problem, T)))


@pytest.mark.parametrize("made", [lambda x: x + torch.zeros(3), lambda x: x[torch.arange(3)]])
def test_a_tensor_of_another_device_is_found(made):
    with pytest.raises(AssertionError, match=r"shape \(3,\) on cpu"), OneDevice():
        made(empty(3))
