import numpy as np
import pytest
import torch

from vpog_core.geometry.se3 import random_rotation
from vpog_core.models.pos_embed import SPHERE_FREQUENCY, RoPE2D, S2RoPE, angles_to, grid_positions, rotations

HEAD = 32
ROUNDING = 1e-5
"""Float32 sums of 32 products of order one."""


def random_heads(count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, count, HEAD, generator=generator)


def directions(count=6, seed=1):
    d = np.random.default_rng(seed).standard_normal((count, 3))
    return torch.from_numpy(d / np.linalg.norm(d, axis=1, keepdims=True))


def products(rope, positions, *more):
    """Return query-key products [N, N] of fixed random heads at these positions."""
    q, k = random_heads(len(positions))
    phases = rope.phases(positions, *more)
    return rope.rotate(q, rotations(phases)) @ rope.rotate(k, rotations(phases)).T


def test_grid_positions_are_row_column_row_major():
    assert grid_positions(2, 3).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


@pytest.mark.parametrize("rope", [RoPE2D(HEAD), S2RoPE(HEAD)])
@pytest.mark.parametrize("shift", [(5, 0), (0, 5), (3, -2)])
def test_products_depend_on_relative_positions_only(rope, shift):
    """Tokens of one query and of views from all sides, shifted together, give the same products."""
    positions = grid_positions(2, 3)
    more = () if isinstance(rope, RoPE2D) else (directions().float(),)
    here = products(rope, positions, *more)
    shifted = positions + torch.tensor(shift)
    torch.testing.assert_close(products(rope, shifted, *more), here, atol=ROUNDING, rtol=0)
    stretched = products(rope, positions * 2, *more)
    assert (stretched - here).abs().max() > 0.1


def test_rows_columns_and_the_sphere_turn_channels_of_their_own():
    rope = S2RoPE(HEAD)
    one, up = torch.zeros(1, 2), torch.tensor([[0.0, 0.0, 1.0]])
    start = rope.phases(one, up)
    moved = [
        rope.phases(one + torch.tensor([1, 0]), up), rope.phases(one + torch.tensor([0, 1]), up),
        rope.phases(one, torch.tensor([[0.6, 0.0, 0.8]])),
    ]  # fmt: skip
    turned = torch.cat([(phases - start).abs() > 1e-6 for phases in moved])
    # 16 pairs: 5 for the row, 5 for the column, one for each of six axes, of which +-y are as far as before.
    assert turned.sum(dim=1).tolist() == [5, 5, 4]
    assert turned.sum(dim=0).max() == 1


def test_rope2d_is_crocos():
    """CroCo's published formula has halves for row and column, and pairs channel c with c + quarter."""

    def one_axis(x, position):
        half = x.shape[-1] // 2
        inverse = 1.0 / (100.0 ** (torch.arange(0, x.shape[-1], 2).float() / x.shape[-1]))
        angle = position[:, None].float() * inverse
        angle = torch.cat((angle, angle), dim=-1)
        turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
        return x * angle.cos() + turned * angle.sin()

    rope, x, positions = RoPE2D(HEAD, base=100.0), random_heads()[0], grid_positions(2, 3)
    row, column = x.chunk(2, dim=-1)
    expected = torch.cat((one_axis(row, positions[:, 0]), one_axis(column, positions[:, 1])), dim=-1)
    torch.testing.assert_close(rope.rotate(x, rotations(rope.phases(positions))), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("rope", [RoPE2D(HEAD), S2RoPE(HEAD)])
def test_a_masked_token_does_not_feel_its_place(rope):
    mask = torch.tensor([True, True, False, True, False, True])
    more = (mask,) if isinstance(rope, RoPE2D) else (directions().float(), mask)
    x, positions = random_heads()[0], grid_positions(2, 3) + 3
    turned = rope.rotate(x, rotations(rope.phases(positions, *more)))
    assert torch.equal(turned[~mask], x[~mask])
    assert ((turned - x).abs().amax(dim=-1) > 0.1)[mask].all()


@pytest.mark.parametrize("rope", [RoPE2D(HEAD), S2RoPE(HEAD)])
def test_rotation_keeps_lengths(rope):
    more = () if isinstance(rope, RoPE2D) else (directions().float(),)
    x = random_heads()[0]
    turned = rope.rotate(x, rotations(rope.phases(grid_positions(2, 3), *more)))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), atol=ROUNDING, rtol=0)


def test_sphere_phases_are_angles_to_the_axes():
    rope = S2RoPE(HEAD)
    assert rope.sphere_pairs == 1
    phases = rope.phases(torch.zeros(1, 2), torch.tensor([[1.0, 0.0, 0.0]]))
    quarter = np.pi / 2
    expected = SPHERE_FREQUENCY * np.array([0, np.pi, quarter, quarter, quarter, quarter])
    np.testing.assert_allclose(phases[0, -6:], expected, atol=1e-5)
    assert not phases[0, :-6].any()


@pytest.mark.parametrize("degrees", [0.0, 0.01, 1.0, 90.0, 179.99, 180.0])
def test_angles_are_exact_next_to_an_axis_too(degrees):
    """There the arc cosine of a float32 is wrong by up to 0.03 degrees; the reference view looks there."""
    angle = np.radians(degrees)
    direction = torch.tensor([[0.0, np.sin(angle), np.cos(angle)]], dtype=torch.float32)
    found = angles_to(torch.tensor([[0.0, 0.0, 1.0]]), direction)
    assert found.item() == pytest.approx(angle, abs=3e-7)


@pytest.mark.parametrize("rope", [RoPE2D(HEAD), S2RoPE(HEAD)])
def test_phases_are_float32_under_autocast(rope):
    """Phases reach 25 radians: bfloat16 would be wrong by up to 0.06 of one."""
    more = () if isinstance(rope, RoPE2D) else (directions().float(),)
    positions = grid_positions(2, 3) + 7
    with torch.autocast("cpu", torch.bfloat16):
        rounded = rope.phases(positions, *more)
    assert torch.equal(rounded, rope.phases(positions, *more))


def test_wide_heads_have_a_ladder_on_the_sphere():
    rope = S2RoPE(64)
    phases = rope.phases(torch.zeros(1, 2), torch.tensor([[0.0, 0.6, 0.8]]))[0, -12:].view(6, 2)
    torch.testing.assert_close(phases[:, 1], 2 * phases[:, 0])
    assert phases[2, 0] == pytest.approx(SPHERE_FREQUENCY * np.arccos(0.6), abs=1e-5)


def test_query_tokens_have_no_spherical_phase_and_the_templates_ladders():
    rope, positions = S2RoPE(HEAD), grid_positions(2, 3)
    query, template = rope.phases(positions, None), rope.phases(positions, directions().float())
    assert query.shape == template.shape == (6, HEAD // 2)
    assert not query[:, -6:].any()
    assert torch.equal(query[:, :-6], template[:, :-6])


def test_turning_the_mesh_frame_with_the_directions_changes_nothing():
    rope, rng = S2RoPE(HEAD), np.random.default_rng(3)
    R_view_obj, R_turn = random_rotation(rng), random_rotation(rng)
    in_object = directions().numpy()
    turned, R_view_turned = in_object @ R_turn.T, R_view_obj @ R_turn.T
    positions = grid_positions(2, 3)

    def scores(of_views):
        return products(rope, positions, torch.from_numpy(of_views).float())

    reference = scores(in_object @ R_view_obj.T)
    torch.testing.assert_close(scores(turned @ R_view_turned.T), reference, atol=1e-4, rtol=0)
    # Without the reference view's frame, the same turn does change the products.
    assert (scores(turned) - scores(in_object)).abs().max() > 0.1


def test_neighbouring_viewpoints_are_told_apart():
    a = torch.tensor([[0.0, 0.0, 1.0]])
    b = torch.tensor([[np.sin(np.radians(18)), 0.0, np.cos(np.radians(18))]]).float()
    rope = S2RoPE(HEAD)
    difference = (rope.phases(torch.zeros(1, 2), a) - rope.phases(torch.zeros(1, 2), b)).abs()
    assert difference.max() == pytest.approx(SPHERE_FREQUENCY * np.radians(18), rel=1e-3)


def test_too_narrow_heads_are_refused():
    with pytest.raises(ValueError, match="16"):
        S2RoPE(12)
