"""Test CroCo-v2 files with one made here: official key names, and weights by a formula."""

import argparse
import math
from dataclasses import replace

import pytest
import torch

from vpog_core.models.config import PRESETS, VPOGConfig
from vpog_core.models.croco import CroCoEncoder, init_encoder, load_croco, model_from_croco
from vpog_core.models.encoder import Encoder
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.types import VPOGError

DIM, DEPTH, HEADS, DEC_DIM, HIDDEN = 32, 2, 2, 16, 128
SIZE = (32, 48)
KWARGS = {
    "img_size": SIZE, "enc_embed_dim": DIM, "enc_depth": DEPTH, "enc_num_heads": HEADS,
    "dec_embed_dim": DEC_DIM, "dec_depth": 1, "dec_num_heads": 2, "pos_embed": "RoPE100",
}  # fmt: skip
# The official code's tokens (naver/croco, `CroCoNet._encode_image`, float32) of `reference_image` with
# `official_tensors`: of each of the 2 x 3 patches, row by row, channels 0, 5, 10, ... 30.
OFFICIAL_TOKENS = [
    [0.808386, -0.889650, -0.702123, 0.340570, -0.477944, -0.455214, -1.684987],
    [-0.029672, 0.569424, 0.584429, 0.606213, -0.975909, -0.189711, -2.660825],
    [1.045545, 0.811417, 0.288447, 0.651467, -2.390211, -1.424549, -1.128106],
    [-0.489048, -0.678272, 0.983285, 1.733538, -0.793844, 0.190045, -0.518546],
    [-0.293954, 0.798615, -0.899752, 0.122955, -0.548793, -0.458312, 0.081100],
    [0.651910, 0.376532, 0.200218, 0.488857, -0.098018, -0.878694, 0.995100],
]  # fmt: skip


def formula(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Make numbers in -1..1: fractions of i^2 times the golden section, exact or rounded by IEEE."""
    i = torch.arange(math.prod(shape), dtype=torch.float64) + 1000 * seed + 1
    return (2 * (i * i * 0.6180339887498949).frac() - 1).reshape(shape).float()


def official_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of a CroCo-v2 state of the sizes above."""

    def linear(name, outputs, inputs):
        return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}

    def norm(name, dim):
        return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}

    def mlp(name, dim):
        return linear(f"{name}.fc1", 4 * dim, dim) | linear(f"{name}.fc2", dim, 4 * dim)

    def attention(name, dim):
        return linear(f"{name}.qkv", 3 * dim, dim) | linear(f"{name}.proj", dim, dim)

    def encoder_block(name, dim):
        attended = norm(f"{name}.norm1", dim) | attention(f"{name}.attn", dim)
        return attended | norm(f"{name}.norm2", dim) | mlp(f"{name}.mlp", dim)

    def decoder_block(name, dim):
        crossed = [
            linear(f"{name}.cross_attn.{part}", dim, dim) for part in ("projq", "projk", "projv", "proj")
        ]
        norms = norm(f"{name}.norm3", dim) | norm(f"{name}.norm_y", dim)
        return encoder_block(name, dim) | norms | {k: v for part in crossed for k, v in part.items()}

    shapes = {"mask_token": (1, 1, DEC_DIM), "patch_embed.proj.weight": (DIM, 3, 16, 16)}
    shapes |= {"patch_embed.proj.bias": (DIM,)}
    for n in range(DEPTH):
        shapes |= encoder_block(f"enc_blocks.{n}", DIM)
    shapes |= norm("enc_norm", DIM) | linear("decoder_embed", DEC_DIM, DIM)
    shapes |= decoder_block("dec_blocks.0", DEC_DIM) | norm("dec_norm", DEC_DIM)
    return shapes | linear("prediction_head", 16 * 16 * 3, DEC_DIM)


def official_tensors() -> dict[str, torch.Tensor]:
    """Return a state with every term at work: no bias or norm is at its start, attention is not flat."""
    tensors = {}
    for seed, (name, shape) in enumerate(official_shapes().items()):
        fan_in = math.prod(shape[1:]) if len(shape) > 1 else 25
        scale = 1.5 / math.sqrt(fan_in)
        is_gain = len(shape) == 1 and name.endswith("weight")
        tensors[name] = formula(shape, seed) * scale + (1.0 if is_gain else 0.0)
    return tensors


def reference_image() -> torch.Tensor:
    return formula((1, 3, *SIZE), 77) * 2


def write(path, kwargs=KWARGS, change=lambda tensors: None, **more):
    tensors = official_tensors()
    change(tensors)
    torch.save({"croco_kwargs": kwargs, "model": tensors, **more}, path)
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "CroCo_V2.pth")


def small_config(**changes) -> VPOGConfig:
    """Return a network the file fits, quick to make."""
    sizes = {"embed_dim": DIM, "depth": DEPTH, "num_heads": HEADS, "aa_heads": HEADS, "aa_depth": 1}
    small = {"fine_dim": 8, "flow_hidden": 16, "flow_layers": 1, "retrieval_dim": 8, "image_size": 112}
    return VPOGConfig(**{**sizes, **small, **changes})


@torch.no_grad()
def test_tokens_are_the_official_ones(file):
    croco = load_croco(file)
    encoder = Encoder(small_config(), 64)
    encoder.load_state_dict(croco.tensors)
    image = reference_image()
    tokens = encoder(image, image)[0]
    # 1e-5 of tokens of order 1: two float32 implementations; each is 2.5e-6 from the same in float64.
    torch.testing.assert_close(tokens[:, ::5], torch.tensor(OFFICIAL_TOKENS), atol=1e-5, rtol=0)


def test_numbers_and_tensors_of_a_file(file):
    croco = load_croco(file)
    assert (croco.embed_dim, croco.depth, croco.num_heads) == (DIM, DEPTH, HEADS)
    assert (croco.rope_base, croco.image_size) == (100.0, SIZE)
    whole = official_tensors()
    assert len(croco.tensors) == 2 + 12 * DEPTH + 2
    assert croco.left_out == len(whole) - len(croco.tensors)
    assert all(torch.equal(value, whole[key]) for key, value in croco.tensors.items())
    assert not any("dec" in key or "mask" in key for key in croco.tensors)


def test_encoder_alone_is_given_the_weights(file):
    torch.manual_seed(0)
    model = VPOGModel(small_config())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    init_encoder(model, file)
    tensors = official_tensors()
    for key, value in model.state_dict().items():
        part, _, name = key.partition(".")
        assert torch.equal(value, tensors[name] if part == "encoder" else before[key]), key


def test_network_made_for_a_file(tmp_path):
    path = write(tmp_path / "croco.pth", {**KWARGS, "img_size": 112, "pos_embed": "RoPE50"})
    small = {
        k: v for k, v in small_config().to_dict().items() if k in ("aa_depth", "fine_dim", "flow_hidden")
    }
    model = model_from_croco(path, freeze_encoder=True, **small)
    config = model.config
    assert (config.embed_dim, config.depth, config.num_heads) == (DIM, DEPTH, HEADS)
    assert (config.image_size, config.rope_base, config.embed_from_stem) == (112, 50.0, False)
    assert torch.equal(model.encoder.enc_norm.bias, official_tensors()["enc_norm.bias"])
    assert not any(p.requires_grad for p in model.encoder.parameters())


@pytest.mark.parametrize(
    ("numbers", "preset"), [((768, 12, 12), "vpog-base"), ((1024, 24, 16), "vpog-large")]
)
def test_official_sizes_are_presets(tmp_path, numbers, preset):
    croco = CroCoEncoder(tmp_path, {}, *numbers, rope_base=100.0, image_size=(224, 224), left_out=0)
    assert croco.config() == PRESETS[preset]
    assert croco.config(freeze_encoder=True) == replace(PRESETS[preset], freeze_encoder=True)
    croco.check_fits(PRESETS[preset])


def test_numbers_left_out_are_crocos_own(tmp_path):
    """The official code builds ViT-Base where croco_kwargs is silent."""
    kwargs = {k: v for k, v in KWARGS.items() if k != "enc_num_heads"}
    with pytest.raises(VPOGError, match=r"embed_dim 32 .*num_heads \(12\)"):
        load_croco(write(tmp_path / "croco.pth", kwargs))


def error_of(path, use=load_croco) -> str:
    with pytest.raises(VPOGError) as caught:
        use(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("kwargs", "parts"),
    [
        ({"pos_embed": "cosine"}, ["'cosine'", "RoPE100", "CroCo_V2"]),
        ({"pos_embed": "RoPE"}, ["'RoPE'", "RoPE100"]),
        ({"pos_embed": None}, ["None", "RoPE100"]),
        ({"patch_size": 14}, ["patch_size 14", "16"]),
        ({"enc_depth": DEPTH + 1}, ["'enc_blocks.2.norm1.weight'", "CroCo_V2"]),
        ({"enc_depth": DEPTH - 1}, ["'enc_blocks.1.norm1.weight'"]),
        ({"enc_depth": 0}, ["enc_depth is 0"]),
        ({"enc_embed_dim": 64}, ["'patch_embed.proj.weight'", "(32, 3, 16, 16)", "(64, 3, 16, 16)"]),
        ({"enc_embed_dim": "wide"}, ["enc_embed_dim is 'wide'"]),
        ({"enc_num_heads": 3}, ["num_heads (3)"]),
        ({"img_size": "big"}, ["img_size is 'big'"]),
    ],
)
def test_other_architectures_are_refused(tmp_path, kwargs, parts):
    text = error_of(write(tmp_path / "croco.pth", {**KWARGS, **kwargs}))
    assert all(part in text for part in parts), text


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda t: t.pop("enc_blocks.1.mlp.fc2.bias"), "lacks the tensor 'enc_blocks.1.mlp.fc2.bias'"),
        (lambda t: t.update({"enc_pos_embed": torch.zeros(6, DIM)}), "unknown tensor 'enc_pos_embed'"),
        (lambda t: t["enc_norm.weight"].fill_(math.nan), "'enc_norm.weight'"),
    ],
)
def test_other_tensors_are_refused(tmp_path, change, part):
    assert part in error_of(write(tmp_path / "croco.pth", change=change))


@pytest.mark.parametrize("content", [b"", b"not weights", b"\x80\x02}q\x00.", b"PK\x03\x04 cut"])
def test_no_checkpoint_at_all(tmp_path, content):
    path = tmp_path / "croco.pth"
    path.write_bytes(content)
    error_of(path)


def test_cut_short_and_missing(tmp_path, file):
    file.write_bytes(file.read_bytes()[:-1000])
    assert "download it again" in error_of(file)
    assert "no CroCo checkpoint at" in error_of(tmp_path / "none.pth")


@pytest.mark.parametrize(
    "content", [{"weights": {}}, {"model": [1]}, {"model": {"a": 1}}, [1], torch.zeros(2)]
)
def test_files_of_other_programs(tmp_path, content):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    assert "is no CroCo checkpoint" in error_of(path)


def test_croco_v1_says_so(tmp_path):
    path = tmp_path / "CroCo.pth"
    torch.save({"model": official_tensors()}, path)
    text = error_of(path)
    assert "croco_kwargs" in text
    assert "CroCo v1" in text


def test_code_in_a_file_is_not_run(tmp_path):
    """A checkpoint that holds more than tensors and numbers is refused by name, not loaded."""
    path = write(tmp_path / "checkpoint-last.pth", args=argparse.Namespace(lr=1e-3))
    text = error_of(path)
    assert "'argparse.Namespace'" in text
    assert "save 'model' and 'croco_kwargs' alone" in text


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"depth": DEPTH + 1}, "depth 2 where the network's is 3"),
        ({"embed_dim": 64}, "embed_dim 32 where the network's is 64"),
        ({"num_heads": 1}, "num_heads 2 where the network's is 1"),
        ({"rope_base": 50.0}, "rope_base 100 where the network's is 50"),
        ({"embed_from_stem": True}, "embed_from_stem"),
    ],
)
def test_another_network_is_refused(file, changes, part):
    model = VPOGModel(small_config(**changes))
    before = model.encoder.enc_norm.bias.clone()
    assert part in error_of(file, lambda path: init_encoder(model, path))
    assert torch.equal(model.encoder.enc_norm.bias, before)


def test_crops_are_square(file):
    assert "48x32" in error_of(file, model_from_croco)
