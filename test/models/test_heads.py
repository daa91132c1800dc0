import pytest
import torch

from vpog_core.models.classification_head import ClassificationHead


def identity_head(**options) -> ClassificationHead:
    """Return a head whose queries and keys are the tokens themselves."""
    head = ClassificationHead(32, **options)
    with torch.no_grad():
        for layer in (head.query, head.key):
            layer.weight.copy_(torch.eye(32))
            layer.bias.zero_()
    return head


@torch.no_grad()
@pytest.mark.parametrize("count", [0, 1, 3])
def test_classification_scores_patches_then_added_tokens(count):
    torch.manual_seed(0)
    head = ClassificationHead(32)
    query, templates, added = torch.randn(2, 16, 32), torch.randn(2, 3, 16, 32), torch.randn(2, 3, count, 32)
    logits = head(query, templates, added)
    assert logits.shape == (2, 3, 16, 16 + count)
    other = head(query, templates, -added)
    assert torch.equal(other[..., :16], logits[..., :16])
    assert ((other[..., 16:] - logits[..., 16:]).abs() > 1e-5).all()
    permuted = head(query, templates[:, [1, 0, 2]], added[:, [1, 0, 2]])
    torch.testing.assert_close(permuted, logits[:, [1, 0, 2]], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_classification_known_values(temperature):
    """Channel 0 turns by a radian for each row, channel 16 for each column; added tokens do not turn."""
    head = identity_head(temperature=temperature)
    row, column = torch.eye(32)[0], torch.eye(32)[16]
    query, templates, added = torch.zeros(1, 16, 32), torch.zeros(1, 1, 16, 32), torch.zeros(1, 1, 2, 32)
    query[0, 5], query[0, 0] = 2 * row + column, 3 * row  # at (1, 1) and (0, 0)
    templates[0, 0, 13], templates[0, 0, 7] = row, column  # at (3, 1) and (1, 3)
    added[0, 0, 0] = row
    logits = head(query, templates, added)[0, 0] * temperature * 32**0.5
    cos = torch.cos(torch.arange(4.0))
    torch.testing.assert_close(logits[5, 13], 2 * cos[2])
    torch.testing.assert_close(logits[5, 7], cos[2])
    torch.testing.assert_close(logits[0, 13], 3 * cos[3])
    assert logits[0, 16] == pytest.approx(3.0)
    assert logits[5, 16] == pytest.approx(2.0)  # wherever the query's patch lies
    assert not logits[:, 17].any()


@torch.no_grad()
def test_equal_added_tokens_get_equal_scores_equal_patches_do_not():
    torch.manual_seed(0)
    head, token = ClassificationHead(32), torch.randn(32)
    query, everywhere = torch.randn(1, 16, 32), token.expand(1, 1, 16, 32)
    logits = head(query, everywhere, everywhere[:, :, :3])[0, 0]
    torch.testing.assert_close(logits[:, 16:], logits[:, 16:17].expand(-1, 3), atol=1e-6, rtol=0)
    assert (logits[:, 1:16] - logits[:, :1]).abs().amin(dim=0).max() > 1e-3


def test_classification_knows_relative_positions():
    """With equal tokens everywhere, a score depends only on where the two patches lie to each other."""
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
