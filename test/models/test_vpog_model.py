import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from vpog_core.geometry.se3 import random_rotation
from vpog_core.models.vpog_model import Encoded, VPOGModel


def encode_case(model, batch=1, templates=3):
    torch.manual_seed(0)
    query = model.encode(torch.rand(batch, 3, 112, 112))
    flat = model.encode(torch.rand(batch * templates, 3, 112, 112))
    stacked = flat.map(lambda v: v.unflatten(0, (batch, templates)))
    directions = torch.randn(batch, templates, 3)
    return query, stacked, directions / directions.norm(dim=-1, keepdim=True)


@torch.no_grad()
def test_shapes_of_a_match(model, config):
    query, templates, directions = encode_case(model, batch=2)
    matches = model.match(query, templates, directions)
    n = config.num_patches
    assert matches.logits.shape == (2, 3, n, n + 1)
    assert matches.query.shape == (2, n, 64)
    assert matches.templates.shape == (2, 3, n, 64)
    assert matches.template_fine.shape == (2, 3, 16, 28, 28)
    flow = model.flow(matches, matches.logits[..., :n].argmax(dim=-1))
    assert flow.flow.shape == (2, 3, n, 16, 16, 2)
    assert model.encoder_logits(query, templates).shape == matches.logits.shape


@torch.no_grad()
def test_order_of_templates_does_not_matter(model):
    query, templates, directions = encode_case(model)
    order = [2, 0, 1]
    here = model.match(query, templates, directions)
    there = model.match(query, templates[:, order], directions[:, order])
    torch.testing.assert_close(there.logits, here.logits[:, order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(there.template_fine, here.template_fine[:, order], atol=1e-5, rtol=1e-4)
    assert (there.logits - here.logits).abs().max() > 1e-3


@torch.no_grad()
def test_turning_the_mesh_frame_changes_no_answer(model):
    """Directions and reference view turned with the object: what the network is given stays the same."""
    query, templates, directions = encode_case(model)
    rng = np.random.default_rng(0)
    R_ref, R_turn = random_rotation(rng), random_rotation(rng)
    in_object = directions[0].numpy()

    def logits(of_views, R_view):
        return model.match(query, templates, torch.from_numpy(of_views @ R_view.T).float()[None]).logits

    here, there = logits(in_object, R_ref), logits(in_object @ R_turn.T, R_ref @ R_turn.T)
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)
    assert (logits(in_object @ R_turn.T, R_ref) - here).abs().max() > 1e-4


def test_every_parameter_learns(model, config):
    """All inputs of the losses together give a gradient to all parameters."""
    query, templates, directions = encode_case(model, batch=2)
    matches = model.match(query, templates, directions)
    pairs = torch.tensor([[0, 0, 24, 24], [1, 2, 5, 12]])
    flow = model.flow_of_pairs(matches, pairs)
    described, of_templates = model.describe(query), model.describe_templates(query)
    outputs = [
        matches.logits, model.encoder_logits(query, templates), flow.flow, flow.confidence_logits,
        flow.cell_logits.clamp_min(-100), model.retrieval_head.logits(described, of_templates),
    ]  # fmt: skip
    torch.manual_seed(3)
    sum(
        (out.softmax(-1) * torch.randn_like(out)).sum() + 0.01 * out.square().sum() for out in outputs
    ).backward()
    silent = [
        name
        for name, p in model.named_parameters()
        if p.numel() and (p.grad is None or not p.grad.abs().max() > 1e-9)
    ]
    assert silent == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
def test_descriptors_of_a_batch(model, config):
    query, _, _ = encode_case(model, batch=3)
    descriptors = model.describe(query)
    assert descriptors.shape == (3, config.num_patches * config.retrieval_dim)
    torch.testing.assert_close(descriptors[2:], model.describe(query[2:]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("added", [(0, 3), (2, 1), (3, 2)])
def test_any_number_of_added_tokens(config, added):
    """They widen the logits by the templates' and change no other shape; all of them learn."""
    query_added, template_added = added
    torch.manual_seed(0)
    model = VPOGModel(replace(config, query_added=query_added, template_added=template_added))
    query, templates, directions = encode_case(model, batch=2)
    matches = model.match(query, templates, directions)
    n = config.num_patches
    assert matches.logits.shape == (2, 3, n, n + template_added)
    assert matches.query.shape == (2, n, 64)
    assert matches.templates.shape == (2, 3, n, 64)
    early = model.encoder_logits(query, templates)
    assert early.shape == matches.logits.shape
    assert model.flow(matches, torch.zeros(2, 3, n, dtype=torch.long)).flow.shape == (2, 3, n, 16, 16, 2)
    weights = torch.randn(n + template_added)
    ((matches.logits.softmax(-1) + early.softmax(-1)) @ weights).sum().backward()
    learning = [model.encoder_unseen, model.token_manager.template_tokens, model.token_manager.query_tokens]
    assert [len(p) for p in learning] == [template_added, template_added, query_added]
    assert all((p.grad.abs().amax(dim=1) > 1e-9).all() for p in learning if p.numel())


@pytest.mark.parametrize("from_stem", [True, False])
def test_frozen_tokens_stay_while_the_rest_learns(config, from_stem):
    torch.manual_seed(0)
    model = VPOGModel(replace(config, embed_from_stem=from_stem, freeze_encoder=True))
    images = torch.rand(4, 3, 112, 112)
    before = model.encode(images)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    query, templates, directions = encode_case(model)
    matches = model.match(query, templates, directions)
    (matches.logits.square().mean() + matches.template_fine[..., 0].sum()).backward()
    optimizer.step()
    after = model.encode(images)
    assert torch.equal(after.tokens, before.tokens)
    # The stem of a network that does not take its tokens from it goes on learning.
    assert torch.equal(after.stem, before.stem) == from_stem
    assert not torch.equal(model.match(query, templates, directions).logits, matches.logits)


def test_freezing_is_undone(model):
    model.freeze_encoder()
    assert not any(p.requires_grad for p in model.encoder.parameters())
    assert all(p.requires_grad for p in model.aa_module.parameters())
    model.freeze_encoder(False)
    assert all(p.requires_grad for p in model.parameters())


FROZEN = {
    "tokens": [-0.07956, -1.89510, -0.71752, -0.48911, -2.06935, -1.32307, -0.64348, 0.06575, -0.54383],
    "descriptor": [-0.23249, -0.02476, -0.42003, -0.32966, -0.15363],
    "template descriptor": [-0.20291, -0.01847, -0.08695, -0.18363, -0.04909],
    "encoder logits": [0.76985, -0.18539, -0.17369, -1.59251, 0.92161, -0.54943, -0.74127, -0.65999, 0.49321],
    "logits": [-0.38775, -1.06700, 0.91892, -0.34528, -0.93106, -1.00544, -1.27179, -0.85374, -0.55065],
    "flow": [0.83267, -1.73805, 0.50406, -1.56636, -0.19989, -1.64471],
    "confidence": [0.47493, 0.52377, 0.58401],
}  # fmt: skip


def formula(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Make numbers in -1..1, the same everywhere: fractions of i^2 times the golden section."""
    i = torch.arange(math.prod(shape), dtype=torch.float64) + 1000 * seed + 1
    return (2 * (i * i * 0.6180339887498949).frac() - 1).reshape(shape).float()


@torch.no_grad()
def test_weights_keep_their_meaning(config):
    """Outputs of weights by formula are frozen: if they change, every weights file is wrong."""
    model = VPOGModel(config).eval()
    for seed, (name, p) in enumerate(model.named_parameters()):
        is_gain = p.ndim == 1 and name.endswith("weight")
        scale = 1.5 / math.sqrt(math.prod(p.shape[1:]) if p.ndim > 1 else 50)
        p.copy_(formula(p.shape, seed) * scale + float(is_gain))
    encoded = model.encode(formula((3, 3, 112, 112), 5000) / 2 + 0.5)
    directions = torch.tensor([[[0.0, 0.0, -1.0], [0.28, 0.0, -0.96]]])
    templates = Encoded(encoded.tokens[None, 1:], encoded.stem[None, 1:])
    matches = model.match(encoded[:1], templates, directions)
    flow = model.flow(matches, torch.arange(49).expand(1, 2, -1))
    found = {
        "tokens": encoded.tokens[0, ::24, ::24],
        "descriptor": 49 * model.describe(encoded)[0, ::80],  # fractions of 49 patches
        "template descriptor": model.describe_templates(encoded)[0, ::80],
        "encoder logits": model.encoder_logits(encoded[:1], templates)[0, 1, ::24, ::24],
        "logits": matches.logits[0, 1, ::24, ::24], "flow": flow.flow[0, 1, ::24, 4, 9],
        "confidence": flow.confidence[0, 1, ::24, 4, 9],
    }  # fmt: skip
    for name, values in FROZEN.items():
        # Float32 kernels of other machines, through a network of one layer each.
        torch.testing.assert_close(
            found[name].flatten(),
            torch.tensor(values),
            atol=1e-4,
            rtol=0,
            msg=lambda m, name=name: f"{name}: {m}",
        )
