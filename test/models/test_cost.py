from pathlib import Path

import pytest

from vpog_core.models.config import PRESETS
from vpog_core.models.cost import network_cost, refiner_cost, updated
from vpog_core.models.refiner_config import REFINER_PRESETS
from vpog_core.types import VPOGError

DOCUMENT = Path(__file__).parents[2] / "docs" / "network.md"


def test_document_holds_todays_numbers():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert updated(text) == text, "run: python -m vpog_core.models.cost --update docs/network.md"


def test_operations_of_base_by_hand():
    """The operations of ViT-Base on 14 x 14 patches are summed from the sizes of its matrices."""
    n, d, layers = 196, 768, 12
    linear = 2 * n * (3 * d * d + d * d + 2 * 4 * d * d)
    attention = 2 * (2 * n * n * d)
    patches = 2 * n * (3 * 16 * 16) * d
    stem = 2 * 9 * (3 * 32 * 112**2 + 32 * 64 * 56**2 + 64 * 64 * 56**2)
    cost = network_cost(PRESETS["vpog-base"])
    assert cost.encode == layers * (linear + attention) + patches + stem
    turns, ways = 6, 75
    describe = turns * 2 * n * (d * d + d * 64 + d)
    placed, compared = turns * 2 * ways * n * n * 64, turns * 2 * ways * (162 * 6) * (n * 64)
    assert cost.retrieve == describe + placed + compared
    assert cost.object_bytes == 162 * 6 * n * 64 * 4
    # CroCo's ViT-Base: 85.65 million parameters; the stem adds 0.06.
    assert cost.encoder == pytest.approx(85.65e6 + 0.056e6, abs=0.01e6)


def test_operations_of_a_refiner_by_hand():
    """The operations of refiner-tiny on 128 pixels are summed from its kernels and matrices."""

    def conv(cells, kernel, inputs, outputs):
        return 2 * cells * kernel**2 * inputs * outputs

    def residual(cells, inputs, outputs, shortcut):
        own = conv(cells, 3, inputs, outputs) + conv(cells, 3, outputs, outputs)
        return own + (conv(cells, 1, inputs, outputs) if shortcut else 0)

    half, fine, coarse = 64**2, 32**2, 16**2
    stems = conv(half, 5, 3, 24) + conv(half, 5, 7, 24)
    trunk = residual(fine, 24, 48, True) + residual(coarse, 48, 96, True) + residual(coarse, 96, 96, False)
    tokens, dim, layers = 2 * coarse, 96, 2
    attention = layers * (2 * tokens * (4 * dim * dim + 2 * 2 * dim * dim) + 2 * (2 * tokens**2 * dim))
    pyramid = 2 * (conv(coarse, 1, 96, 48) + conv(fine, 1, 48, 48))
    correlations = 2 * coarse**2 * 96 + 2 * fine**2 * 48 + 2 * coarse * 81 * 2 + 2 * fine * 49 * 2
    decoders = conv(coarse, 1, 81 + 2 + 96, 96) + 2 * residual(coarse, 96, 96, False) + conv(coarse, 1, 96, 2)
    decoders += conv(coarse, 1, 96, 48)  # the coarse decoder's features, handed to the fine one
    decoders += conv(fine, 1, 49 + 4 + 2 * 48, 64) + residual(fine, 64, 64, False) + conv(fine, 1, 64, 4)
    scorer = conv(fine, 1, 64 + 2 * 48 + 4 + 1, 48) + conv(coarse, 3, 48, 48) + conv(coarse // 4, 3, 48, 48)
    scorer += 2 * (3 * 48 * 48 + 48)
    parameters, operations = refiner_cost(REFINER_PRESETS["refiner-tiny"])
    assert operations == stems + 2 * trunk + attention + pyramid + correlations + decoders + scorer
    assert operations <= 1.5e9  # what one comparison may cost on a robot's CPU
    assert parameters == pytest.approx(0.99e6, abs=0.01e6)


def test_a_document_without_the_marks_is_refused():
    with pytest.raises(VPOGError, match="<!-- cost: begin -->"):
        updated("# Nothing here")
    with pytest.raises(VPOGError, match="<!-- refiner cost: begin -->"):
        updated("<!-- cost: begin --><!-- cost: end -->")
