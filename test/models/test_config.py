import pytest
import torch

from vpog_core.models.config import PRESETS, VPOGConfig
from vpog_core.models.vpog_model import Encoded, VPOGModel
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
        ({"image_size": 128}, r"128 .* 8 patches.*windows of 7.*multiple of 112"),
        ({"image_size": 8}, "use 16"),
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
        ({"depth": True}, "depth is True"),
        ({"depth": 10**9}, "depth is 1000000000.*from 1 to 128"),
        ({"fine_dim": 10**9}, "fine_dim is 1000000000"),
        ({"num_heads": None}, "num_heads is None"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"rope_base": float("inf")}, "rope_base is inf"),
        ({"rope_base": "100"}, "rope_base is '100'"),
        ({"temperature": True}, "temperature is True"),
        ({"embed_from_stem": "yes"}, "embed_from_stem is 'yes'"),
        ({"freeze_encoder": 1}, "freeze_encoder is 1"),
    ],
)
def test_impossible_numbers_are_refused(values, part):
    with pytest.raises(VPOGError, match=part):
        VPOGConfig(**values)


@pytest.mark.parametrize("from_stem", [True, False])
@torch.no_grad()
def test_width_and_depth_are_free(from_stem):
    """Any numbers the configuration lets through make a network that runs."""
    config = VPOGConfig(
        image_size=48, window=3, embed_dim=72, depth=3, num_heads=3, embed_from_stem=from_stem, aa_depth=1,
        aa_heads=3, fine_dim=5, flow_hidden=7, flow_layers=1, retrieval_dim=3,
    )  # fmt: skip
    model = VPOGModel(config).eval()
    encoded = model.encode(torch.rand(3, 3, 48, 48))
    assert encoded.tokens.shape == (3, 9, 72)
    assert len(model.encoder.enc_blocks) == 3
    templates = Encoded(encoded.tokens[None, 1:], encoded.stem[None, 1:])
    matches = model.match(encoded[:1], templates, torch.eye(3)[None, :2])
    assert matches.logits.shape == (1, 2, 9, 10)
    flow = model.flow(matches, torch.zeros(1, 2, 9, dtype=torch.long)).flow
    assert flow.shape == (1, 2, 9, 16, 16, 2)
    assert flow.isfinite().all()


def test_files_from_before_freezing_still_read():
    old = {k: v for k, v in PRESETS["vpog-tiny"].to_dict().items() if k != "freeze_encoder"}
    assert VPOGConfig.from_dict(old) == PRESETS["vpog-tiny"]


def test_unknown_key_is_named():
    with pytest.raises(VPOGError, match="'wings'"):
        VPOGConfig.from_dict({"wings": 2})
