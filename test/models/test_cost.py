from pathlib import Path

import pytest

from vpog_core.models.config import PRESETS
from vpog_core.models.cost import network_cost, updated
from vpog_core.types import VPOGError

DOCUMENT = Path(__file__).parents[2] / "docs" / "network.md"


def test_document_holds_todays_numbers():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert updated(text) == text, "run: python -m vpog_core.models.cost --update docs/network.md"


def test_operations_of_base_by_hand():
    """ViT-Base on 14 x 14 patches, from the sizes of its matrices."""
    n, d, layers = 196, 768, 12
    linear = 2 * n * (3 * d * d + d * d + 2 * 4 * d * d)
    attention = 2 * (2 * n * n * d)
    patches = 2 * n * (3 * 16 * 16) * d
    stem = 2 * 9 * (3 * 32 * 112**2 + 32 * 64 * 56**2 + 64 * 64 * 56**2)
    cost = network_cost(PRESETS["vpog-base"])
    assert cost.encode == layers * (linear + attention) + patches + stem
    describe = 2 * n * (d * d + d * 64 + d)
    assert cost.retrieve == describe + 2 * (162 * 12) * (n * 64)
    assert cost.object_bytes == 162 * 12 * n * 64 * 4
    # CroCo's ViT-Base: 85.65 million parameters; the stem adds 0.06.
    assert cost.encoder == pytest.approx(85.65e6 + 0.056e6, abs=0.01e6)


def test_a_document_without_the_marks_is_refused():
    with pytest.raises(VPOGError, match="cost: begin"):
        updated("# Nothing here")
