"""Test properties of the whole network, on a small untrained one and on the shipped one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vpog_core.geometry.se3 import rotation_from_vector, rotation_z
from vpog_core.inference.onboarding import OnboardedObject, encode_images
from vpog_core.models.config import PRESETS
from vpog_core.models.vpog_model import Encoded, VPOGModel
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import build_template_set, template_camera
from vpog_core.objects.viewpoints import upright_rotation, viewpoint_directions
from vpog_core.synthetic.objects import make_object

ORDER = 1e-4
"""Logits and tokens of order ten whose float32 sums are taken in another order."""
VIEW = viewpoint_directions()[57] + np.array([0.05, -0.02, 0.03])
VIEW /= np.linalg.norm(VIEW)
"""A direction whose nearest templates lie at distances of their own, so that their order is plain."""
R_REF = rotation_z(0.4) @ upright_rotation(VIEW)


@pytest.fixture(params=["small", "shipped"])
def network(request, small_config, shipped) -> VPOGModel:
    if request.param == "shipped":
        return shipped
    torch.manual_seed(0)
    network = VPOGModel(small_config).eval().requires_grad_(False)
    for layer in (network.flow_head.affine, network.flow_head.residual):  # zero before training
        torch.nn.init.normal_(layer.weight, std=0.1)
    return network


@pytest.fixture(scope="module")
def mesh():
    return make_object(900_001, vertices=4000)


def onboard(mesh, model, size):
    """Return an object with templates, and no descriptors: nothing is retrieved here."""
    return OnboardedObject(build_template_set(mesh, "thing", size), model, torch.zeros(1))


@pytest.fixture(scope="module")
def target(mesh, shipped):
    return onboard(mesh, shipped, 112)


@pytest.fixture(scope="module")
def picture(mesh):
    """Return a query [112, 112, 3]: near VIEW, from another distance, before grey."""
    K, T = template_camera(mesh, VIEW + np.array([0.1, 0.0, -0.1]), 112, roll=0.5, distance=3.5)
    return Renderer(mesh).render(T, K, (112, 112), background=(90, 100, 80)).rgb


def encode_case(network, picture, views):
    """Return encodings of a query [1] and of templates [1, S], with directions [1, S, 3]."""
    query, templates = encode_images(network, picture[None]), encode_images(network, views.rgb)
    return query, templates[None], torch.from_numpy(views.directions)[None]


def answer(network, query, templates, directions):
    """Return Logits, flow and confidence of the likeliest patches, and the tokens."""
    matches = network.match(query, templates, directions)
    flow = network.flow(matches, matches.logits[..., : network.config.num_patches].argmax(dim=-1))
    return {
        "logits": matches.logits, "flow": flow.flow, "confidence": flow.confidence,
        "query": matches.query, "templates": matches.templates,
    }  # fmt: skip


def assert_same(here, there, **pick):
    for name, value in here.items():
        torch.testing.assert_close(
            there[name], value, atol=ORDER, rtol=ORDER, msg=lambda m, n=name: f"{n}: {m}"
        )


@torch.no_grad()
def test_turning_the_mesh_frame_changes_nothing(network, mesh, target, picture):
    """The same object in another frame, seen from the same side, gives the same result.

    The frame turns a fifth about a corner of the icosahedron, which takes the 162 viewpoints onto one
    another: both objects have templates from the same sides. Their directions are the onboarding's.
    """
    R_turn = rotation_from_vector(viewpoint_directions()[3] * 2 * np.pi / 5)
    turned = onboard(replace(mesh, vertices=mesh.vertices @ R_turn.T), network, 16)
    here = target.neighbours(VIEW, R_REF, 4)
    there = turned.neighbours(R_turn @ VIEW, R_REF @ R_turn.T, 4)
    np.testing.assert_allclose(there.directions, here.directions, atol=1e-6)  # float32

    query, templates, directions = encode_case(network, picture, here)
    expected = answer(network, query, templates, directions)
    assert_same(expected, answer(network, query, templates, torch.from_numpy(there.directions)[None]))

    # Directions in the object's own frame would be felt when that frame turns.
    in_object = torch.from_numpy(here.directions @ R_REF).float()[None]
    in_turned = torch.from_numpy(here.directions @ R_REF @ R_turn.T).float()[None]
    felt = answer(network, query, templates, in_turned)["logits"]
    assert (felt - answer(network, query, templates, in_object)["logits"]).abs().max() > 50 * ORDER


@torch.no_grad()
def test_permuting_the_templates_permutes_the_answers(network, target, picture):
    query, templates, directions = encode_case(network, picture, target.neighbours(VIEW, R_REF, 4))
    order = [2, 0, 3, 1]
    here = answer(network, query, templates, directions)
    there = answer(network, query, templates[:, order], directions[:, order])
    assert_same({k: v if k == "query" else v[:, order] for k, v in here.items()}, there)
    # The directions belong to it: images alone, put in another order, are other templates.
    mixed = answer(network, query, templates[:, order], directions)
    assert (mixed["logits"] - here["logits"][:, order]).abs().max() > 50 * ORDER


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 4, 6])
def test_an_answer_does_not_depend_on_the_rest_of_the_batch(network, target, picture, count):
    """Another image, cluster and roll beside it change nothing, with 1, 4 and 6 templates."""
    R_other = rotation_z(2.0) @ upright_rotation(-VIEW)
    views = target.neighbours(VIEW, R_REF, count), target.neighbours(-VIEW, R_other, count)
    first, second = (
        encode_case(network, p, v) for p, v in zip((picture, picture[::-1].copy()), views, strict=True)
    )
    queries, templates = (Encoded.join(torch.cat, (a, b)) for a, b in zip(first[:2], second[:2], strict=True))
    both = answer(network, queries, templates, torch.cat((first[2], second[2])))
    n = network.config.num_patches
    assert both["logits"].shape == (2, count, n, n + 1)
    for row, case in enumerate((first, second)):
        assert_same(answer(network, *case), {k: v[row : row + 1] for k, v in both.items()})
    assert (both["logits"][0] - both["logits"][1]).abs().max() > 0.1


@torch.no_grad()
def test_bfloat16_finds_the_same_matches(shipped, target, picture):
    """Products in bfloat16 carry 8 bits, 0.2 % root mean square each; some twenty, one after the other on
    the residual stream, add up to about 1 %. Three times that is allowed; measured 0.5 to 0.8 %.
    """
    case = encode_case(shipped, picture, target.neighbours(VIEW, R_REF, 4))
    exact = answer(shipped, *case)
    with torch.autocast("cpu", torch.bfloat16):
        rough = answer(shipped, *encode_case(shipped, picture, target.neighbours(VIEW, R_REF, 4)))
    for name in ("logits", "query", "templates"):
        error = (rough[name].float() - exact[name]).square().mean().sqrt() / exact[
            name
        ].square().mean().sqrt()
        assert 1e-4 < error < 0.03, name
    # Where one patch takes most of the probability, it is the same patch, and the same place in it.
    largest = exact["logits"].softmax(dim=-1)[..., :-1].amax(dim=-1)
    sure = largest > 0.6
    assert sure.sum() > 40
    assert torch.equal(rough["logits"].argmax(dim=-1)[sure], exact["logits"].argmax(dim=-1)[sure])
    apart = 16 * (rough["flow"] - exact["flow"]).norm(dim=-1)[sure]
    assert apart.median() < 0.2  # pixels; measured 0.05, against 2 that count as right in training


@pytest.mark.parametrize("from_stem", [True, False])
def test_every_number_learns(small_config, from_stem):
    """A gradient reaches every element of every parameter, with added tokens of both kinds.

    What no answer feels (a bias before a softmax) still gets a gradient of rounding, 1e-5 here; the least
    that is felt gets 0.2.
    """
    torch.manual_seed(0)
    config = replace(small_config, embed_from_stem=from_stem, query_added=2, template_added=3, aa_depth=2)
    network, n = VPOGModel(config), small_config.num_patches
    for layer in (network.flow_head.affine, network.flow_head.residual):  # zero before training
        torch.nn.init.normal_(layer.weight, std=0.1)
    query, templates = network.encode(torch.rand(2, 3, 112, 112)), network.encode(torch.rand(4, 3, 112, 112))
    templates = templates.map(lambda v: v.unflatten(0, (2, 2)))
    directions = F.normalize(torch.randn(2, 2, 3), dim=-1)
    matches = network.match(query, templates, directions)
    flow = network.flow(matches, torch.randint(0, n, (2, 2, n)))
    described, of_templates = network.describe(query), network.describe_templates(query)
    outputs = [
        matches.logits, network.encoder_logits(query, templates), flow.flow, flow.confidence,
        flow.cell_logits.softmax(dim=-1), network.retrieval_head.placement_logits(described, of_templates),
    ]  # fmt: skip
    sum((out * torch.randn_like(out)).sum() for out in outputs).backward()
    gradients = {name: p.grad.abs() for name, p in network.named_parameters()}
    assert [name for name, g in gradients.items() if not g.max() > 0.01] == []
    assert [name for name, g in gradients.items() if not g.min() > 0] == []


@torch.no_grad()
def test_flow_of_some_patches_is_theirs_and_nothing_else_is_computed(model, config, monkeypatch):
    torch.manual_seed(0)
    n = config.num_patches
    encoded = model.encode(torch.rand(6, 3, 112, 112))
    matches = model.match(
        encoded[:2],
        encoded[2:].map(lambda v: v.unflatten(0, (2, 2))),
        F.normalize(torch.randn(2, 2, 3), dim=-1),
    )
    index, wanted = torch.randint(0, n, (2, 2, n)), torch.rand(2, 2, n) < 0.3
    flow, computed, pairs = model.flow(matches, index), [], model.flow_head.pairs
    monkeypatch.setattr(
        model.flow_head, "pairs", lambda *args: computed.append(len(args[-1])) or pairs(*args)
    )
    some = model.flow_where(matches, index, wanted)
    assert computed == [int(wanted.sum())]
    # Products of another number of rows may be summed in another order.
    torch.testing.assert_close(some.flow[wanted], flow.flow[wanted], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(some.confidence[wanted], flow.confidence[wanted], atol=1e-6, rtol=1e-5)
    assert not some.flow[~wanted].any()
    assert not some.confidence[~wanted].any()
    assert not model.flow_where(matches, index, torch.zeros_like(wanted)).flow.any()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_fits_together(name):
    """One pass of shapes alone runs on torch's meta device."""
    config = PRESETS[name]
    n, size, dim = config.num_patches, config.image_size, config.embed_dim
    with torch.device("meta"):
        network = VPOGModel(config)
        images = torch.zeros(6, 3, size, size, dtype=torch.uint8)
        directions = torch.zeros(2, 2, 3)
    encoded = network.encode(images)
    templates = encoded[2:].map(lambda v: v.unflatten(0, (2, 2)))
    matches = network.match(encoded[:2], templates, directions)
    flow = network.flow(matches, matches.logits[..., :n].argmax(dim=-1))
    assert encoded.tokens.shape == (6, n, dim)
    assert matches.logits.shape == (2, 2, n, n + config.template_added)
    assert (matches.query.shape, matches.templates.shape) == ((2, n, dim), (2, 2, n, dim))
    assert matches.template_fine.shape == (2, 2, config.fine_dim, size // 4, size // 4)
    assert flow.flow.shape == (2, 2, n, 16, 16, 2)
    assert flow.confidence.shape == (2, 2, n, 16, 16)
    assert network.describe(encoded).shape == (6, n * config.retrieval_dim)
    assert network.encoder_logits(encoded[:2], templates).shape == matches.logits.shape


@torch.no_grad()
def test_flow_and_descriptors_are_one_graph(model, config):
    """Flow and descriptors compile to one graph; test_export covers the rest of the network."""
    torch.manual_seed(0)
    n = config.num_patches
    encoded = model.encode(torch.rand(3, 3, 112, 112))
    matches = model.match(encoded[:1], encoded[None, 1:], F.normalize(torch.randn(1, 2, 3), dim=-1))
    index, pairs = torch.randint(0, n, (1, 2, n)), torch.tensor([[0, 1, 3, 4], [0, 0, 48, 40]])

    def parts(index, pairs):
        flow, of_pairs = model.flow(matches, index), model.flow_of_pairs(matches, pairs)
        return (*vars(flow).values(), *vars(of_pairs).values(), model.describe(encoded))

    compiled = torch.compile(parts, fullgraph=True, backend="eager")(index, pairs)
    assert all(torch.equal(a, b) for a, b in zip(compiled, parts(index, pairs), strict=True))
