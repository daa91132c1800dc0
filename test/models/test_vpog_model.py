import numpy as np
import torch

from vpog_core.geometry.se3 import random_rotation
from vpog_core.models.vpog_model import Encoded


def encode_case(model, batch=1, templates=3):
    torch.manual_seed(0)
    query = model.encode(torch.rand(batch, 3, 112, 112))
    flat = model.encode(torch.rand(batch * templates, 3, 112, 112))
    stacked = Encoded(*(v.unflatten(0, (batch, templates)) for v in vars(flat).values()))
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
    """All losses' inputs together reach all parameters.

    The bias of the retrieval shares is the exception: a softmax does not feel a common shift.
    """
    query, templates, directions = encode_case(model, batch=2)
    matches = model.match(query, templates, directions)
    pairs = torch.tensor([[0, 0, 24, 24], [1, 2, 5, 12]])
    flow = model.flow_of_pairs(matches, pairs)
    described = model.describe(query)
    outputs = [
        matches.logits, model.encoder_logits(query, templates), flow.flow, flow.confidence_logits,
        flow.cell_logits.clamp_min(-100), model.retrieval_head.logits(described, described),
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
    assert silent in ([], ["retrieval_head.share.bias"])
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
def test_descriptors_of_a_batch(model, config):
    query, _, _ = encode_case(model, batch=3)
    descriptors = model.describe(query)
    assert descriptors.shape == (3, config.num_patches * config.retrieval_dim)
    torch.testing.assert_close(descriptors[2:], model.describe(query[2:]), atol=1e-6, rtol=0)
