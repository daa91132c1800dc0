from dataclasses import replace

import pytest
import torch

from vpog_core.models.aa_module import AAModule
from vpog_core.models.token_manager import TokenManager

COUNTS = [(0, 0), (0, 1), (0, 3), (1, 0), (1, 1), (1, 3), (3, 0), (3, 1), (3, 3)]


def test_none_for_the_query_and_one_for_templates_unless_told():
    manager = TokenManager(8)
    assert manager.query_tokens.shape == (0, 8)
    assert manager.template_tokens.shape == (1, 8)


@pytest.mark.parametrize(("query_added", "template_added"), COUNTS)
def test_added_tokens_go_on_and_come_off(query_added, template_added):
    torch.manual_seed(0)
    manager = TokenManager(8, query_added, template_added)
    query, templates = torch.randn(2, 9, 8), torch.randn(2, 4, 9, 8)
    q, t, rope_mask = manager.add(query, templates)
    assert torch.equal(q[:, 9:], manager.query_tokens.expand(2, -1, -1))
    assert torch.equal(t[:, :, 9:], manager.template_tokens.expand(2, 4, -1, -1))
    assert rope_mask.shape == (2, 1 + 4, 9 + max(query_added, template_added))
    assert rope_mask.dtype == torch.bool
    assert rope_mask[..., :9].all()
    assert not rope_mask[..., 9:].any()
    back_query, back_templates, added = manager.split(q, t)
    assert torch.equal(back_query, query)
    assert torch.equal(back_templates, templates)
    assert torch.equal(added, t[:, :, 9:])


def test_added_tokens_take_the_tokens_dtype():
    manager = TokenManager(8, 1, 1)
    q, t, _ = manager.add(torch.zeros(1, 4, 8).half(), torch.zeros(1, 2, 4, 8).half())
    assert q.dtype == t.dtype == torch.half


@pytest.mark.parametrize(("query_added", "template_added"), COUNTS)
def test_every_added_token_is_heard_and_learns(config, query_added, template_added):
    """Through the attention each of them moves the patches; where there is none, an empty gradient."""
    torch.manual_seed(0)
    manager, module = TokenManager(64, query_added, template_added), AAModule(config)
    n = config.num_patches
    query, templates = torch.randn(1, n, 64), torch.randn(1, 2, n, 64)
    directions = torch.nn.functional.normalize(torch.randn(1, 2, 3), dim=-1)
    q, t, rope_mask = manager.add(query, templates)
    patches, of_templates, _ = manager.split(*module(q, t, directions, rope_mask))
    (patches.square().sum() + of_templates.square().sum()).backward()
    for tokens in (manager.query_tokens, manager.template_tokens):
        assert tokens.grad.shape == tokens.shape
        assert (tokens.grad.abs().amax(dim=-1) > 1e-3).all()


@torch.no_grad()
def test_columns_an_image_has_no_tokens_for_are_not_read(config):
    torch.manual_seed(0)
    module = AAModule(replace(config, aa_depth=2)).eval()
    n, manager = config.num_patches, TokenManager(64, 1, 3)
    q, t, rope_mask = manager.add(torch.randn(1, n, 64), torch.randn(1, 2, n, 64))
    directions = torch.nn.functional.normalize(torch.randn(1, 2, 3), dim=-1)
    other = rope_mask.clone()
    other[:, 0, n + 1 :] = True
    for here, there in zip(module(q, t, directions, rope_mask), module(q, t, directions, other), strict=True):
        assert torch.equal(here, there)
