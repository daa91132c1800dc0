import pytest
import torch

from vpog_core.models.classification_head import ClassificationHead
from vpog_core.models.retrieval_head import RetrievalHead
from vpog_core.models.token_manager import TokenManager


@pytest.mark.parametrize(("query_added", "template_added"), [(0, 1), (2, 3)])
def test_added_tokens_go_on_and_come_off(query_added, template_added):
    torch.manual_seed(0)
    manager = TokenManager(8, query_added, template_added)
    query, templates = torch.randn(2, 9, 8), torch.randn(2, 4, 9, 8)
    q, t, q_mask, t_mask = manager.add(query, templates)
    assert q.shape == (2, 9 + query_added, 8)
    assert t.shape == (2, 4, 9 + template_added, 8)
    assert q_mask.shape == q.shape[:-1]
    assert t_mask.shape == t.shape[:-1]
    for mask in (q_mask, t_mask):
        assert mask[..., :9].all()
        assert not mask[..., 9:].any()
    back_query, back_templates, added = manager.split(q, t)
    assert torch.equal(back_query, query)
    assert torch.equal(back_templates, templates)
    assert torch.equal(added, manager.template_tokens.expand(2, 4, -1, -1))


def test_added_tokens_take_the_tokens_dtype():
    manager = TokenManager(8, 1, 1)
    q, t, *_ = manager.add(torch.zeros(1, 4, 8).half(), torch.zeros(1, 2, 4, 8).half())
    assert q.dtype == t.dtype == torch.half


def test_classification_scores_patches_then_added_tokens():
    torch.manual_seed(0)
    head = ClassificationHead(32)
    query, templates, added = torch.randn(2, 16, 32), torch.randn(2, 3, 16, 32), torch.randn(2, 3, 2, 32)
    logits = head(query, templates, added)
    assert logits.shape == (2, 3, 16, 18)
    other = head(query, templates, -added)
    assert torch.equal(other[..., :16], logits[..., :16])
    assert (other[..., 16:] - logits[..., 16:]).abs().min() > 1e-5
    permuted = head(query, templates[:, [1, 0, 2]], added[:, [1, 0, 2]])
    torch.testing.assert_close(permuted, logits[:, [1, 0, 2]], atol=1e-5, rtol=0)


def test_classification_knows_relative_positions():
    """With equal tokens everywhere, a score depends on where the two patches lie to each other, only."""
    torch.manual_seed(0)
    head, side = ClassificationHead(32), 4
    token = torch.randn(32)
    logits = head(token.expand(1, 16, 32), torch.randn(32).expand(1, 1, 16, 32), torch.zeros(1, 1, 1, 32))
    table = logits[0, 0, :, :16].view(side, side, side, side)  # query row, column; template row, column
    torch.testing.assert_close(table[0, 0, 1, 2], table[2, 1, 3, 3], atol=1e-5, rtol=0)
    torch.testing.assert_close(table[1, 1, 1, 1], table[3, 2, 3, 2], atol=1e-5, rtol=0)
    assert (table[0, 0, 1, 2] - table[0, 0, 2, 1]).abs() > 1e-3


def test_temperature_divides_the_logits():
    torch.manual_seed(0)
    one, two = ClassificationHead(32), ClassificationHead(32, temperature=2.0)
    two.load_state_dict(one.state_dict())
    inputs = torch.randn(1, 16, 32), torch.randn(1, 2, 16, 32), torch.randn(1, 2, 1, 32)
    torch.testing.assert_close(one(*inputs), 2 * two(*inputs))


def test_descriptors_are_unit_and_their_product_a_weighted_mean():
    torch.manual_seed(0)
    head = RetrievalHead(32, 8)
    descriptors = head(torch.randn(5, 16, 32))
    assert descriptors.shape == (5, 16 * 8)
    torch.testing.assert_close(descriptors.norm(dim=-1), torch.ones(5), atol=1e-5, rtol=0)
    similarity = descriptors @ descriptors.T
    assert (similarity.argmax(dim=1) == torch.arange(5)).all()
    patches = descriptors.unflatten(1, (16, 8))
    shares = patches.square().sum(dim=-1)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(5), atol=1e-5, rtol=0)


def test_retrieval_logits_are_scaled_similarities():
    torch.manual_seed(0)
    head = RetrievalHead(32, 8)
    descriptors = head(torch.randn(5, 16, 32))
    logits = head.logits(descriptors[None, :2], descriptors[None, 2:])
    assert logits.shape == (1, 2, 3)
    expected = (descriptors[0] * descriptors[2]).sum() * torch.e**3
    torch.testing.assert_close(logits[0, 0, 0], expected, atol=1e-4, rtol=1e-4)
