import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vpog_core.models import flow_head
from vpog_core.models.config import PATCH
from vpog_core.models.flow_head import CELLS, REACH, FlowHead, affine_basis, cell_offsets, take_cells

SIDE = 7
CELL_SIDE = SIDE * CELLS


@pytest.fixture
def head(config) -> FlowHead:
    torch.manual_seed(0)
    return FlowHead(config, 64).eval()


def features(*shape: int, side: int = SIDE) -> Tensor:
    return F.normalize(torch.randn(*shape, 16, side * CELLS, side * CELLS), dim=-3)


def random_inputs(batch=1, templates=2, side=SIDE):
    torch.manual_seed(1)
    return (
        torch.randn(batch, side**2, 64), torch.randn(batch, templates, side**2, 64),
        features(batch, side=side), features(batch, templates, side=side),
    )  # fmt: skip


@torch.no_grad()
def wake(head: FlowHead) -> None:
    """Draw weights of the affine part and the residual, which are zero before training."""
    torch.manual_seed(2)
    torch.nn.init.normal_(head.affine.weight)
    torch.nn.init.normal_(head.residual.weight)


def trust_correlation(head: FlowHead) -> None:
    """Make the correlation sharp and open the gate, so that the flow is the correlation's."""
    with torch.no_grad():
        head.log_sharpness.fill_(6.0)
        head.gate.weight.zero_()
        head.gate.bias.fill_(30.0)


def shifted_case(dx: int, dy: int):
    """Return inputs whose template shows the query's cells dx to the right and dy down."""
    query, templates, query_fine, _ = random_inputs(templates=1)
    return query, templates, query_fine, query_fine.roll((dy, dx), dims=(2, 3))[:, None]


def test_offsets_are_x_right_y_down_in_patches():
    offsets = cell_offsets().view(CELLS, CELLS, REACH, REACH, 2)  # query row, column; window row, column
    # The window starts one patch up and left of the matched patch: its cell (4, 4) is the patch's first.
    assert offsets[0, 0, 4, 4].tolist() == [0.0, 0.0]
    assert offsets[3, 1, 7, 5].tolist() == [0.0, 0.0]
    assert offsets[0, 0, 4, 5].tolist() == [0.25, 0.0]
    assert offsets[0, 0, 6, 4].tolist() == [0.0, 0.5]
    assert offsets[3, 3, 0, 0].tolist() == [-1.75, -1.75]


@pytest.mark.parametrize(("row", "column", "expected"), [(4, 5, (0.25, 0.0)), (2, 4, (0.0, -0.5))])
def test_one_hot_logits_give_the_cell_they_name(row, column, expected):
    logits = torch.full((REACH, REACH), -1e4)
    logits[row, column] = 1e4
    weights = logits.flatten().softmax(dim=0)
    flow = torch.einsum("c,cd->d", weights, cell_offsets()[0])
    assert flow.tolist() == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (2, 0), (0, 3), (-3, 1)])
def test_a_shifted_picture_gives_its_shift(head, dx, dy):
    """Cells moved right give positive x, moved down positive y: in the correlation and in every pixel."""
    trust_correlation(head)
    i = 3 * SIDE + 3
    out = head.pairs(*shifted_case(dx, dy), torch.tensor([[0, 0, i, i]]))
    expected = torch.tensor([dx / CELLS, dy / CELLS])
    # exp(6) times a similarity gap of 0.2 at least leaves nothing to other cells.
    torch.testing.assert_close(out.cell_flow[0], expected.expand(16, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.flow[0], expected.expand(PATCH, PATCH, 2), atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("right", "down"), [(1, 0), (0, 1), (-1, -1)])
def test_flow_is_told_from_the_matched_patch(head, right, down):
    """centre(j) + (u - centre(i)) + 16 flow is the same place whichever neighbour j is matched."""
    trust_correlation(head)
    dx, dy, i = 1, -1, 3 * SIDE + 3
    j = i + down * SIDE + right
    out = head.pairs(*shifted_case(dx, dy), torch.tensor([[0, 0, i, j]]))
    expected = torch.tensor([dx / CELLS - right, dy / CELLS - down])
    # Cells that left the window (more than a patch away) cannot be found.
    reachable = ((cell_offsets() - expected).abs().sum(dim=-1) < 1e-6).any(dim=-1)
    assert reachable.sum() >= 9
    torch.testing.assert_close(
        out.cell_flow[0][reachable], expected.expand(int(reachable.sum()), 2), atol=1e-4, rtol=0
    )


@torch.no_grad()
def test_cells_outside_the_template_are_ruled_out(head):
    inputs = random_inputs(templates=1)
    corner, middle, last = 0, 3 * SIDE + 3, SIDE**2 - 1
    pairs = torch.tensor([[0, 0, 5, corner], [0, 0, 5, middle], [0, 0, 5, last]])
    inside = head.pairs(*inputs, pairs).cell_logits.softmax(dim=-1).view(3, 16, REACH, REACH) > 0
    assert not inside[0, :, :CELLS].any()
    assert not inside[0, :, :, :CELLS].any()
    assert inside[0, :, CELLS:, CELLS:].all()
    assert inside[1].all()
    assert inside[2, :, : 2 * CELLS, : 2 * CELLS].all()
    assert not inside[2, :, 2 * CELLS :].any()


@torch.no_grad()
@pytest.mark.parametrize(("side", "queries"), [(SIDE, SIDE**2), (14, 30)])
def test_matched_is_a_gather_of_dense(head, side, queries):
    """Matched and dense flow agree on the patch grids of tiny (7) and base (14, two rows of queries)."""
    wake(head)
    patches, (query, *others) = side**2, random_inputs(side=side)
    inputs, index = (query[:, :queries], *others), torch.randint(0, patches, (1, 2, queries))
    matched, (flow, confidence) = head.matched(*inputs, index), head.dense(*inputs)
    assert flow.shape == (1, 2, queries, patches, PATCH, PATCH, 2)
    assert confidence.shape == flow.shape[:-1]
    b, s, i = torch.meshgrid(*(torch.arange(n) for n in index.shape), indexing="ij")
    # Matrix products of another number of rows may sum in another order.
    torch.testing.assert_close(flow[b, s, i, index], matched.flow, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(confidence[b, s, i, index], matched.confidence, atol=1e-5, rtol=1e-5)
    assert (flow[b, s, i, index.roll(1, dims=-1)] - matched.flow).abs().max() > 0.1
    assert 0 <= confidence.min() < confidence.max() <= 1


@torch.no_grad()
def test_dense_works_on_a_few_pairs_at_once(head, monkeypatch):
    """Parts that do not divide the pairs evenly change nothing, and none is larger than was said."""
    wake(head)
    inputs, sizes = random_inputs(), []
    whole = head.dense(*inputs)
    monkeypatch.setattr(flow_head, "PAIRS_AT_ONCE", 700)
    real = head.pairs
    monkeypatch.setattr(head, "pairs", lambda *args: sizes.append(len(args[-1])) or real(*args))
    for here, there in zip(whole, head.dense(*inputs), strict=True):
        torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-5)
    assert max(sizes) == 700
    assert sum(sizes) == 2 * SIDE**4


def test_cells_are_taken_in_squares():
    """Cell (row, column) of image n reads 100 n + 10 row + column."""
    place = torch.arange(8)
    features = (100 * torch.arange(2)[:, None, None] + 10 * place[:, None] + place)[:, None].float()
    taken = take_cells(features, torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([1, 0]), CELLS)
    assert taken.shape == (2, 16, 1)
    assert taken[0, :, 0].view(4, 4)[0].tolist() == [4, 5, 6, 7]
    assert taken[1, :, 0].view(4, 4)[:, 0].tolist() == [140, 150, 160, 170]


@torch.no_grad()
def test_pairs_name_batch_template_and_patches(head):
    wake(head)
    inputs = random_inputs(batch=2, templates=3)
    index = torch.randint(0, SIDE**2, (2, 3, SIDE**2))
    all_of_them = head.matched(*inputs, index)
    pairs = torch.tensor([[1, 2, 10, int(index[1, 2, 10])], [0, 1, 48, int(index[0, 1, 48])]])
    out = head.pairs(*inputs, pairs)
    torch.testing.assert_close(out.cell_logits[0], all_of_them.cell_logits[1, 2, 10], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.flow[1], all_of_them.flow[0, 1, 48], atol=1e-5, rtol=1e-5)
    assert (out.cell_logits[0] - all_of_them.cell_logits[0, 2, 10]).abs().max() > 0.1


@torch.no_grad()
def test_no_pairs_is_no_error(head):
    out = head.pairs(*random_inputs(), torch.zeros(0, 4, dtype=torch.long))
    assert out.flow.shape == (0, PATCH, PATCH, 2)


def test_affine_basis_spans_the_patch():
    basis = affine_basis()
    assert basis[0, 0].tolist() == [1.0, -0.9375, -0.9375]
    assert basis[0, 15].tolist() == [1.0, 0.9375, -0.9375]
    torch.testing.assert_close(basis.mean(dim=(0, 1)), torch.tensor([1.0, 0.0, 0.0]))


@torch.no_grad()
def test_affine_part_is_x_then_y(head):
    with torch.no_grad():
        head.gate.weight.zero_()
        head.gate.bias.fill_(-30.0)
        head.affine.bias.copy_(torch.tensor([0.5, 0.1, 0.0, 0.0, 0.0, 0.2]))  # x: shift, zoom; y: zoom
    flow = head.pairs(*random_inputs(), torch.tensor([[0, 0, 8, 8]])).flow[0]
    assert flow[4, 0].tolist() == pytest.approx([0.5 - 0.1 * 0.9375, 0.2 * -0.4375], abs=1e-5)
    assert flow[15, 15].tolist() == pytest.approx([0.5 + 0.1 * 0.9375, 0.2 * 0.9375], abs=1e-5)


@torch.no_grad()
def test_fine_features_are_unit_and_spread_tokens_over_their_patch(head):
    stem, tokens = torch.randn(1, 64, CELL_SIDE, CELL_SIDE), torch.randn(1, SIDE**2, 64)
    fine = head.fine(stem, tokens)
    torch.testing.assert_close(fine.norm(dim=1), torch.ones(1, CELL_SIDE, CELL_SIDE), atol=1e-5, rtol=0)
    changed = tokens.clone()
    changed[:, 2 * SIDE + 3] += 1.0
    moved = (head.fine(stem, changed) - fine).abs().amax(dim=(0, 1))
    most = moved.flatten().topk(16).indices
    assert sorted(set((most // CELL_SIDE).tolist())) == [8, 9, 10, 11]
    assert sorted(set((most % CELL_SIDE).tolist())) == [12, 13, 14, 15]
    # Two 3x3 convolutions carry it two cells on, and no further.
    rows, columns = (moved > 1e-6).nonzero().unbind(dim=1)
    assert (rows.min(), rows.max()) == (6, 13)
    assert (columns.min(), columns.max()) == (10, 17)
