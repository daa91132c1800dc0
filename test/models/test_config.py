import pytest
import torch

from vpog_core.models.config import PRESETS, VPOGConfig
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.types import VPOGError

# Millions: tiny and small must stay fit for CPUs, base and large hold CroCo's ViT-B (85 M) and ViT-L (300 M).
SIZES = {"vpog-tiny": (3, 8), "vpog-small": (15, 40), "vpog-base": (120, 180), "vpog-large": (400, 600)}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_build(name):
    with torch.device("meta"):
        model = VPOGModel(PRESETS[name])
    low, high = SIZES[name]
    assert low * 1e6 < sum(p.numel() for p in model.parameters()) < high * 1e6


def test_base_is_crocos_encoder():
    base = PRESETS["vpog-base"]
    assert (base.embed_dim, base.depth, base.num_heads, base.rope_base) == (768, 12, 12, 100.0)
    assert not base.embed_from_stem
    assert (base.grid, base.num_patches) == (14, 196)


def test_dictionary_round_trip():
    for config in PRESETS.values():
        assert VPOGConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"image_size": 200}, "200"),
        ({"image_size": 128}, "windows of 7"),
        ({"embed_dim": 770}, "num_heads"),
        ({"embed_dim": 64, "num_heads": 2, "aa_heads": 12}, "aa_heads"),
        ({"embed_dim": 64, "num_heads": 2, "aa_heads": 8}, "aa_heads"),
        ({"image_size": 0}, "image_size"),
        ({"window": 0}, "window"),
        ({"flow_layers": -1}, "flow_layers"),
        ({"template_added": 0}, "template_added"),
        ({"query_added": -1}, "query_added"),
        ({"temperature": 0.0}, "temperature"),
        ({"depth": 1.5}, "depth"),
    ],
)
def test_impossible_numbers_are_refused(values, part):
    with pytest.raises(VPOGError, match=part):
        VPOGConfig(**values)


def test_unknown_key_is_named():
    with pytest.raises(VPOGError, match="'wings'"):
        VPOGConfig.from_dict({"wings": 2})
