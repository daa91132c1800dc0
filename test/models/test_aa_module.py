from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from vpog_core.models.aa_module import AAModule, WindowAttention
from vpog_core.models.pos_embed import RoPE2D, S2RoPE, grid_positions, rotations

GRID, WINDOW, DIM, HEADS = 14, 7, 32, 2
ORDER = 2e-5
"""Sums of about 250 float32 terms of order one, taken in another order, through a few layers."""


def window_mask(grid, window, added):
    """Return [N, N] bool, who sees whom: patches their window and added tokens, added tokens everything."""
    row, column = (grid_positions(grid, grid) // window).unbind(dim=1)
    of_window = row * (grid // window) + column
    mask = torch.ones(grid**2 + added, grid**2 + added, dtype=torch.bool)
    mask[: grid**2, : grid**2] = of_window[:, None] == of_window[None]
    return mask


def dense_window_attention(attention, x, rotation):
    """Compute `WindowAttention` as one attention over the whole image under the windows' mask."""
    mask = window_mask(attention.grid, attention.window, x.shape[1] - attention.grid**2)
    return attention.merge(F.scaled_dot_product_attention(*attention.heads_of(x, rotation), attn_mask=mask))


@torch.no_grad()
@pytest.mark.parametrize("added", [0, 1, 3])
def test_window_attention_is_dense_attention_under_the_windows_mask(added):
    torch.manual_seed(0)
    rope = RoPE2D(DIM // HEADS)
    attention = WindowAttention(DIM, HEADS, rope, GRID, WINDOW)
    tokens = GRID**2 + added
    x = torch.randn(2, tokens, DIM) * 3
    positions = torch.cat((grid_positions(GRID, GRID), torch.zeros(added, 2, dtype=torch.long)))
    rotation = rotations(rope.phases(positions, torch.arange(tokens) < GRID**2)[None, None])
    out = attention(x, rotation)
    torch.testing.assert_close(out, dense_window_attention(attention, x, rotation), atol=1e-5, rtol=1e-5)
    # An attention without windows is something else.
    assert (out - super(WindowAttention, attention).forward(x, rotation)).abs().max() > 0.01


def test_windows_split_and_join():
    attention = WindowAttention(DIM, HEADS, RoPE2D(DIM // HEADS), GRID, WINDOW)
    place = grid_positions(GRID, GRID).float()[None, None].expand(2, HEADS, -1, -1)
    windows = attention.split_windows(place)
    assert windows.shape == (2, 4, HEADS, WINDOW**2, 2)
    assert torch.equal(attention.join_windows(windows), place)
    # The second window is the upper right one.
    assert windows[0, 1, 0].amin(dim=0).tolist() == [0, 7]
    assert windows[0, 1, 0].amax(dim=0).tolist() == [6, 13]


@torch.no_grad()
def test_local_attention_feels_relative_places_only():
    """Windows of equal content get equal outputs, wherever in the image they lie."""
    torch.manual_seed(0)
    rope = RoPE2D(DIM // HEADS)
    attention = WindowAttention(DIM, HEADS, rope, GRID, WINDOW)
    tile = torch.randn(1, WINDOW, WINDOW, DIM)
    x = tile.repeat(1, 2, 2, 1).flatten(1, 2)
    rotation = rotations(rope.phases(grid_positions(GRID, GRID))[None, None])
    out = attention(x, rotation).unflatten(1, (2, WINDOW, 2, WINDOW))
    torch.testing.assert_close(out, out[:, :1, :, :1].expand_as(out), atol=1e-5, rtol=0)
    # A tile shifted inside itself is another content.
    moved = attention(x.roll(1, dims=1), rotation)
    assert (moved.roll(-1, dims=1).view_as(out) - out).abs().max() > 1e-3


def make_case(config, depth, count=4, batch=2):
    """Return a module and inputs for it: `count` templates, one added token each."""
    torch.manual_seed(0)
    n = config.num_patches
    directions = F.normalize(torch.randn(batch, count, 3), dim=-1)
    rope_mask = (torch.arange(n + 1) < n).expand(batch, count + 1, -1)
    module = AAModule(replace(config, aa_depth=depth)).eval()
    return module, torch.randn(batch, n, 64), torch.randn(batch, count, n + 1, 64), directions, rope_mask


@pytest.fixture
def case(config):
    return make_case(config, depth=2)


@pytest.mark.parametrize("depth", [4, 5, 6])
def test_depth_is_that_many_global_and_local_layers(config, depth):
    module, query, templates, *more = make_case(config, depth, count=2, batch=1)
    assert [len(module.global_blocks), len(module.local_blocks)] == [depth, depth]
    calls = []
    for block in (*module.global_blocks, *module.local_blocks):
        block.attn.register_forward_hook(
            lambda attn, inputs, _: calls.append((type(attn.rope), inputs[0].shape[1]))
        )
    with torch.no_grad():
        q, t = module(query, templates, *more)
    assert (q.shape, t.shape) == (query.shape, templates.shape)
    together = query.shape[1] + 2 * templates.shape[2]
    assert calls == depth * [(S2RoPE, together), (RoPE2D, query.shape[1]), (RoPE2D, templates.shape[2])]


@torch.no_grad()
def test_the_module_is_dense_attention_under_masks(config, monkeypatch):
    """The grid has 2x2 windows and added tokens."""
    module, *inputs = make_case(replace(config, image_size=224), depth=2, batch=1)
    found = module(*inputs)
    monkeypatch.setattr(WindowAttention, "forward", dense_window_attention)
    for here, there in zip(found, module(*inputs), strict=True):
        torch.testing.assert_close(here, there, atol=ORDER, rtol=0)


@torch.no_grad()
def test_permuting_templates_permutes_the_outputs(case):
    module, query, templates, directions, rope_mask = case
    q, t = module(query, templates, directions, rope_mask)
    order = [2, 0, 3, 1]
    q2, t2 = module(query, templates[:, order], directions[:, order], rope_mask)
    torch.testing.assert_close(q2, q, atol=ORDER, rtol=0)
    torch.testing.assert_close(t2, t[:, order], atol=ORDER, rtol=0)
    assert (t2 - t).abs().max() > 0.1
    q3, _ = module(query, templates[:, order], directions, rope_mask)
    assert (q3 - q).abs().max() > 1e-3


@torch.no_grad()
def test_each_of_a_batch_is_its_own(case):
    module, *inputs = case
    q, t = module(*inputs)
    alone = module(*(v[1:] for v in inputs))
    torch.testing.assert_close(q[1:], alone[0], atol=ORDER, rtol=0)
    torch.testing.assert_close(t[1:], alone[1], atol=ORDER, rtol=0)


@torch.no_grad()
def test_every_image_hears_of_every_other_and_of_the_directions(case):
    module, query, templates, directions, rope_mask = case
    q, t = module(query, templates, directions, rope_mask)
    changed = templates.clone()
    changed[:, 3] = -changed[:, 3]
    q2, t2 = module(query, changed, directions, rope_mask)
    assert (q2 - q).abs().max() > 1e-3
    assert (t2[:, 0] - t[:, 0]).abs().max() > 1e-3
    q3, _ = module(query, templates, directions.flip(1), rope_mask)
    assert (q3 - q).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("image", [0, 2])
def test_a_masked_token_does_not_feel_its_place(case, image):
    """Two masked tokens of an image change places: their outputs do, and no other output changes."""
    module, query, templates, directions, rope_mask = case
    masked = rope_mask.clone()
    masked[:, image, [9, 33]] = False

    def exchange(q, t):
        q, t = q.clone(), t.clone()
        of_image = q if image == 0 else t[:, image - 1]
        of_image[:, [9, 33]] = of_image[:, [33, 9]]
        return q, t

    def difference(mask):
        """Compare the output with that of exchanged tokens, once they are back in their places."""
        here = module(query, templates, directions, mask)
        there = exchange(*module(*exchange(query, templates), directions, mask))
        return max((x - y).abs().max() for x, y in zip(here, there, strict=True))

    assert difference(masked) < ORDER
    assert difference(rope_mask) > 0.01


@torch.no_grad()
def test_a_masked_template_does_not_feel_its_direction(case):
    module, query, templates, directions, rope_mask = case
    masked = rope_mask.clone()
    masked[:, 1 + 2] = False
    turned = directions.clone()
    turned[:, 2] = -turned[:, 2].roll(1, dims=-1)
    q, _ = module(query, templates, directions, masked)
    assert torch.equal(module(query, templates, turned, masked)[0], q)
    felt = module(query, templates, turned, rope_mask)[0] - module(query, templates, directions, rope_mask)[0]
    assert felt.abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize(("query_added", "template_added"), [(2, 0), (1, 3), (3, 1)])
def test_other_counts_of_added_tokens(config, query_added, template_added):
    torch.manual_seed(0)
    module, n = AAModule(config).eval(), config.num_patches
    rope_mask = (torch.arange(n + max(query_added, template_added)) < n).expand(1, 4, -1)
    query, templates = torch.randn(1, n + query_added, 64), torch.randn(1, 3, n + template_added, 64)
    directions = F.normalize(torch.randn(1, 3, 3), dim=-1)
    q, t = module(query, templates, directions, rope_mask)
    assert (q.shape, t.shape) == (query.shape, templates.shape)
    # Added tokens have no place: their order does not matter.
    q2, t2 = module(
        query, torch.cat((templates[:, :, :n], templates[:, :, n:].flip(2)), 2), directions, rope_mask
    )
    torch.testing.assert_close(q2, q, atol=ORDER, rtol=0)
    torch.testing.assert_close(t2[:, :, n:].flip(2), t[:, :, n:], atol=ORDER, rtol=0)
