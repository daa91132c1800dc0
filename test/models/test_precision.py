"""Tests that the device, or the user, chooses what a network computes in at inference."""

import pytest
import torch

from vpog_core.models import precision
from vpog_core.models.precision import choose_precision, cpu_computes_bfloat16, uses_bfloat16
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.types import VPOGError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model name : A\nflags\t\t: fpu avx512f avx512_bf16 vaes\n", True),
        ("flags : fpu amx_bf16\n", True),
        ("flags : fpu avx2 avx512f\n", False),
        ("Features : fp asimd bf16\n", False),
        ("", False),
    ],
)
def test_the_flags_of_the_processor_tell(tmp_path, text, expected):
    path = tmp_path / f"cpuinfo_{expected}"
    path.write_text(text)
    assert cpu_computes_bfloat16(path) is expected
    assert cpu_computes_bfloat16(tmp_path / "missing") is False


@pytest.mark.parametrize("has", [True, False])
def test_auto_follows_the_processor_and_words_decide(small_config, monkeypatch, has):
    monkeypatch.setattr(precision, "cpu_computes_bfloat16", lambda: has)
    model = VPOGModel(small_config)
    assert not uses_bfloat16(model)  # nobody has chosen
    for word, expected in (("auto", has), ("float32", False), ("bfloat16", True)):
        choose_precision(model, word)
        assert uses_bfloat16(model) is expected
        assert not torch.is_autocast_enabled("cpu")


def test_another_word_is_one_sentence(small_config):
    with pytest.raises(
        VPOGError, match=r"Precision 'half' is not known: use one of auto, float32, bfloat16\."
    ):
        choose_precision(VPOGModel(small_config), "half")
