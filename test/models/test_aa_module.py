from dataclasses import replace

import pytest
import torch

from vpog_core.models.aa_module import AAModule, WindowAttention
from vpog_core.models.pos_embed import RoPE2D, grid_positions

GRID, WINDOW, DIM, HEADS = 14, 7, 32, 2


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def window_mask(added):
    """[N, N] bool, who sees whom: patches their window and the added tokens, added tokens everything."""
    positions = grid_positions(GRID, GRID) // WINDOW
    window = positions[:, 0] * (GRID // WINDOW) + positions[:, 1]
    mask = torch.ones(GRID**2 + added, GRID**2 + added, dtype=torch.bool)
    mask[: GRID**2, : GRID**2] = window[:, None] == window[None]
    return mask


@pytest.mark.parametrize("added", [0, 1, 3])
def test_window_attention_is_dense_attention_under_the_windows_mask(added):
    torch.manual_seed(0)
    rope = RoPE2D(DIM // HEADS)
    attention = WindowAttention(DIM, HEADS, rope, GRID, WINDOW)
    tokens = GRID**2 + added
    x = torch.randn(2, tokens, DIM) * 3
    positions = torch.cat((grid_positions(GRID, GRID), torch.zeros(added, 2, dtype=torch.long)))
    phases = rope.phases(positions, torch.arange(tokens) < GRID**2)[None, None]
    q, k, v = attention.heads_of(x, phases)
    scores = (q @ k.transpose(-1, -2)) * (DIM // HEADS) ** -0.5
    weights = scores.masked_fill(~window_mask(added), -torch.inf).softmax(dim=-1)
    expected = attention.merge(weights @ v)
    torch.testing.assert_close(attention(x, phases), expected, atol=1e-5, rtol=1e-5)


def test_windows_split_and_join():
    attention = WindowAttention(DIM, HEADS, RoPE2D(DIM // HEADS), GRID, WINDOW)
    place = grid_positions(GRID, GRID).float()[None, None].expand(2, HEADS, -1, -1)
    windows = attention.split_windows(place)
    assert windows.shape == (2, 4, HEADS, WINDOW**2, 2)
    assert torch.equal(attention.join_windows(windows), place)
    # The second window is the upper right one.
    assert windows[0, 1, 0].amin(dim=0).tolist() == [0, 7]
    assert windows[0, 1, 0].amax(dim=0).tolist() == [6, 13]


@pytest.fixture
def case(config):
    """A two-layer module on 4 templates with 1 added token each."""
    torch.manual_seed(0)
    module = AAModule(replace(config, aa_depth=2)).eval()
    patches = config.num_patches
    query, templates = torch.randn(2, patches, 64), torch.randn(2, 4, patches + 1, 64)
    query_mask = torch.ones(2, patches, dtype=torch.bool)
    template_mask = torch.ones(2, 4, patches + 1, dtype=torch.bool)
    template_mask[..., -1] = False
    return module, query, templates, unit(torch.randn(2, 4, 3)), query_mask, template_mask


@torch.no_grad()
def test_permuting_templates_permutes_the_outputs(case):
    module, query, templates, directions, *masks = case
    q, t = module(query, templates, directions, *masks)
    order = [2, 0, 3, 1]
    q2, t2 = module(query, templates[:, order], directions[:, order], *masks)
    # Sums over 250 tokens in another order.
    torch.testing.assert_close(q2, q, atol=2e-5, rtol=0)
    torch.testing.assert_close(t2, t[:, order], atol=2e-5, rtol=0)
    assert (t2 - t).abs().max() > 0.1


@torch.no_grad()
def test_each_of_a_batch_is_its_own(case):
    module, *inputs = case
    q, t = module(*inputs)
    alone = module(*(v[1:] for v in inputs))
    torch.testing.assert_close(q[1:], alone[0], atol=2e-5, rtol=0)
    torch.testing.assert_close(t[1:], alone[1], atol=2e-5, rtol=0)


@torch.no_grad()
def test_every_image_hears_of_every_other_and_of_the_directions(case):
    module, query, templates, directions, *masks = case
    q, t = module(query, templates, directions, *masks)
    changed = templates.clone()
    changed[:, 3] = -changed[:, 3]
    q2, t2 = module(query, changed, directions, *masks)
    assert (q2 - q).abs().max() > 1e-3
    assert (t2[:, 0] - t[:, 0]).abs().max() > 1e-3
    q3, _ = module(query, templates, directions.flip(1), *masks)
    assert (q3 - q).abs().max() > 1e-4


@torch.no_grad()
def test_with_query_tokens_added(config):
    torch.manual_seed(0)
    module, patches = AAModule(config).eval(), config.num_patches
    mask = torch.arange(patches + 2)[None] < patches
    q, t = module(
        torch.randn(1, patches + 2, 64), torch.randn(1, 3, patches, 64), unit(torch.randn(1, 3, 3)),
        mask, torch.ones(1, 3, patches, dtype=torch.bool),
    )  # fmt: skip
    assert q.shape == (1, patches + 2, 64)
    assert t.shape == (1, 3, patches, 64)
