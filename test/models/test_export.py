"""Test that the network in other precisions and as graphs gives the same results."""

import pytest
import torch

from vpog_core.models.export import (
    Compare,
    Encode,
    Match,
    MatchedFlow,
    example_inputs,
    export_network,
    export_refiner,
)
from vpog_core.models.precision import autocast_for, bfloat16_pays
from vpog_core.models.vpog_model import Encoded
from vpog_core.types import VPOGError

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here")


@torch.no_grad()
def answers(model, device="cpu", bfloat16=False):
    """Return Tokens, descriptors, logits, flow and confidence of a fixed case."""
    torch.manual_seed(1)
    model = model.to(device)
    size = model.config.image_size
    images = torch.rand(5, 3, size, size).to(device)
    directions = torch.nn.functional.normalize(torch.randn(1, 4, 3), dim=-1).to(device)
    with autocast_for(device, bfloat16):
        encoded = model.encode(images)
        matches = model.match(encoded[:1], encoded[1:][None], directions)
        index = torch.arange(model.config.num_patches, device=device).expand(1, 4, -1).contiguous()
        flow = model.flow(matches, index)
    out = {
        "tokens": encoded.tokens, "descriptors": model.describe(encoded),
        "template descriptors": model.describe_templates(encoded), "logits": matches.logits,
        "flow": flow.flow, "confidence": flow.confidence,
    }  # fmt: skip
    return {name: value.float().cpu() for name, value in out.items()}


def assert_close_for_bfloat16(rough, exact):
    """Compare within bfloat16's precision: 8 bits are 0.4 %, and some ten roundings 2 % of the spread."""
    for name, value in exact.items():
        error = (rough[name] - value).abs().mean()
        assert error < 0.02 * value.std(), f"{name}: {error:.4f} of {value.std():.4f}"
        assert error > 0, f"{name} was not computed in bfloat16"


def test_bfloat16_agrees_on_a_cpu(model):
    assert_close_for_bfloat16(answers(model, bfloat16=True), answers(model))


def test_tokens_handed_out_stay_float32(model):
    with torch.no_grad(), autocast_for("cpu", True):
        encoded = model.encode(torch.rand(1, 3, 112, 112))
    assert encoded.tokens.dtype == torch.float32


def test_cpus_keep_float32():
    assert not bfloat16_pays("cpu")
    with autocast_for("cpu"):
        assert not torch.is_autocast_enabled("cpu")
    with autocast_for("cpu", True):
        assert torch.is_autocast_enabled("cpu")


@needs_cuda
def test_cuda_answers_like_a_cpu(model):
    exact = answers(model)
    on_cuda = answers(model, "cuda")
    for name, value in exact.items():
        # 1e-3: matrix products in float32 on another machine; TF32, where set, rounds to ten bits.
        torch.testing.assert_close(on_cuda[name], value, atol=1e-3, rtol=1e-3, msg=name)


@needs_cuda
def test_bfloat16_agrees_on_cuda(model):
    assert_close_for_bfloat16(answers(model, "cuda", bfloat16=True), answers(model))


@needs_cuda
def test_images_on_another_device_are_named(model):
    with pytest.raises(VPOGError, match=r"images are on cpu.*cuda"):
        model.cuda().encode(torch.rand(1, 3, 112, 112))


@torch.no_grad()
def test_exported_graphs_answer_like_the_network(model):
    programs = export_network(model, crops=2, templates=3)
    torch.manual_seed(2)
    images = torch.rand(2, 3, 112, 112)
    assert_same(programs["Encode"].module()(images), Encode(model)(images))
    inputs = [torch.rand_like(v) for v in example_inputs(model, 2, 3)["Match"]]
    matched = Match(model)(*inputs)
    assert_same(programs["Match"].module()(*inputs), matched)
    flow_inputs = (*matched[1:], torch.randint(0, model.config.num_patches, (2, 3, 49)))
    assert_same(programs["MatchedFlow"].module()(*flow_inputs), MatchedFlow(model)(*flow_inputs))


@torch.no_grad()
def test_compiled_network_answers_like_the_network(model):
    """The graph is traced whole (no breaks) and run uncompiled, which saves minutes."""
    torch.manual_seed(3)
    images = torch.rand(4, 3, 112, 112)
    encode = torch.compile(model.encode, backend="eager", fullgraph=True, dynamic=False)
    match = torch.compile(model.match, backend="eager", fullgraph=True, dynamic=False)
    encoded = model.encode(images)
    assert_same(encode(images).tensors(), encoded.tensors())
    case = encoded[:1], Encoded(encoded.tokens[None, 1:], encoded.stem[None, 1:]), torch.eye(3)[None]
    assert_same(vars(match(*case)).values(), vars(model.match(*case)).values())


@torch.no_grad()
def test_graphs_of_a_refiner_answer_like_it(refiner):
    """The exported refiner and the compiled one move the fine level's windows with the input."""
    torch.manual_seed(4)
    for parameter in refiner.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    image, render = (torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8) for _ in range(2))
    inputs = image, render, torch.randn(2, 3, 32, 32), torch.rand(2, 32, 32) < 0.5
    expected = Compare(refiner)(*inputs)
    assert_same(export_refiner(refiner, pairs=2).module()(*inputs), expected)
    compiled = torch.compile(refiner.trace, backend="eager", fullgraph=True, dynamic=False)
    assert_same(vars(compiled(*inputs).comparison).values(), expected)


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        # The same kernels, perhaps fused or reordered: float32 rounding.
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
