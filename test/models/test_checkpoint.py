import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vpog_core.models.checkpoint import (
    copy_weights,
    load_refiner,
    load_weights,
    save_weights,
    weights_key,
)
from vpog_core.models.config import PRESETS
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.refiner_config import REFINER_PRESETS
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.types import VPOGError


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "runs" / "net.safetensors"
    save_weights(model, path, {"steps": "12"})
    return path


def rewrite(path, change, config_change=None):
    """Write the file again with changed tensors or configuration."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    change(tensors)
    if config_change:
        metadata["config"] = json.dumps({**json.loads(metadata["config"]), **config_change})
    save_file(tensors, path, metadata=metadata)


def error_of(path, **options) -> str:
    with pytest.raises(VPOGError) as caught:
        load_weights(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_round_trip_is_exact(model, saved):
    loaded = load_weights(saved)
    assert loaded.config == model.config
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    image = torch.rand(1, 3, 112, 112)
    with torch.no_grad():
        assert torch.equal(loaded.encode(image).tokens, model.encode(image).tokens)


def test_loaded_for_inference(saved):
    loaded = load_weights(saved)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_metadata_and_no_leftovers(saved):
    with safe_open(saved, framework="pt") as file:
        assert file.metadata()["steps"] == "12"
    assert [p.name for p in saved.parent.iterdir()] == ["net.safetensors"]


def test_key_follows_the_network_alone(model, saved, tmp_path):
    (tmp_path / "copy.safetensors").write_bytes(saved.read_bytes())
    assert weights_key(tmp_path / "copy.safetensors") == weights_key(saved)
    save_weights(model, tmp_path / "calibrated.safetensors", {"steps": "12", "calibration": "{}"})
    assert weights_key(tmp_path / "calibrated.safetensors") == weights_key(saved)
    with torch.no_grad():
        model.encoder.enc_norm.weight[0] += 1e-3
    save_weights(model, tmp_path / "other.safetensors", {"steps": "12"})
    assert weights_key(tmp_path / "other.safetensors") != weights_key(saved)


def test_half_the_numbers_say_nearly_the_same(model, saved, tmp_path):
    half = tmp_path / "half.safetensors"
    copy_weights(saved, half, {"calibration": "{}"}, torch.float16)
    assert half.stat().st_size < 0.55 * saved.stat().st_size
    loaded = load_weights(half)
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    image = torch.rand(1, 3, 112, 112)
    with torch.no_grad():
        before, after = model.encode(image).tokens, loaded.encode(image).tokens
    # A float16 has 11 bits, so that a weight errs by 2^-12 of itself; a few layers add it up.
    assert 0 < (before - after).abs().mean() < 2e-3 * before.std()


def test_numbers_that_16_bits_do_not_hold_are_refused(model, tmp_path):
    path, output = tmp_path / "large.safetensors", tmp_path / "half.safetensors"
    with torch.no_grad():
        model.encoder.enc_norm.weight[0] = 1e5
    save_weights(model, path)
    with pytest.raises(VPOGError, match=r"enc_norm\.weight.*float16"):
        copy_weights(path, output, {}, torch.float16)
    assert not output.exists()


def test_files_may_be_read_as_others_of_this_user(saved, tmp_path):
    other = tmp_path / "other"
    other.write_text("")
    assert saved.stat().st_mode == other.stat().st_mode


def test_missing_file(tmp_path):
    assert "none.safetensors" in error_of(tmp_path / "none.safetensors")


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x80\x02}q\x00."])
def test_not_safetensors(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    assert f"'{path}' is no readable safetensors file" in error_of(path)


@pytest.mark.parametrize("kept", [4, 100, -100])
def test_cut_short(saved, kept):
    """The file is cut in the header's length, in the header, or in the last tensor."""
    saved.write_bytes(saved.read_bytes()[:kept])
    assert f"'{saved}' is no readable safetensors file" in error_of(saved)


def test_missing_tensor_is_named(saved):
    rewrite(saved, lambda t: t.pop("norm.weight"))
    assert "'norm.weight'" in error_of(saved)


def test_wrong_shape_is_named(saved):
    rewrite(saved, lambda t: t.update({"norm.weight": torch.zeros(5)}))
    text = error_of(saved)
    assert "'norm.weight'" in text
    assert "(5,)" in text
    assert "(64,)" in text


def test_unknown_tensor_is_named(saved):
    rewrite(saved, lambda t: t.update({"extra.weight": torch.zeros(5)}))
    assert "'extra.weight'" in error_of(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(saved, value):
    rewrite(saved, lambda t: t["encoder.enc_norm.bias"].fill_(value))
    assert "'encoder.enc_norm.bias' holds values that are no finite numbers" in error_of(saved)


def test_another_preset_is_named(saved, config):
    assert load_weights(saved, expect=config).config == config
    assert load_weights(saved, expect=replace(config, freeze_encoder=True)).config == config
    text = error_of(saved, expect=PRESETS["vpog-tiny"])
    assert f"'{saved}' is a network of embed_dim 64 where 192 is asked for" in text


def test_numbers_of_another_preset_around_the_tensors(saved):
    rewrite(saved, lambda t: None, {"depth": 2})
    assert "lacks the tensor 'encoder.enc_blocks.1.norm1.weight'" in error_of(saved)
    rewrite(saved, lambda t: None, {"depth": 1, "embed_dim": 128})
    assert "(1, 64) where (1, 128) is needed" in error_of(saved)


def test_huge_numbers_cost_no_memory(saved):
    """A configuration of 5 billion parameters is refused before any is made."""
    rewrite(saved, lambda t: None, {"embed_dim": 8192, "flow_hidden": 8192, "aa_depth": 2})
    assert "is of a network of 872415232 numbers or more, and the file holds" in error_of(saved)
    rewrite(saved, lambda t: None, {"image_size": 7168})
    assert "image_size is 7168: give 560 at most" in error_of(saved)


@pytest.mark.parametrize("preset", [*PRESETS.values(), *REFINER_PRESETS.values()])
def test_every_network_is_larger_than_the_least_that_its_file_must_hold(preset):
    with torch.device("meta"):
        network = (VPOGModel if preset in PRESETS.values() else RefinerNet)(preset)
    parameters = sum(p.numel() for p in network.parameters())
    # The bound is of use: it is not far under the size.
    assert parameters / 40 < preset.least_parameters < parameters


def test_another_version_says_so(model, tmp_path):
    path = tmp_path / "later.safetensors"
    save_weights(model, path, {"format": "2"})
    text = error_of(path)
    assert "format '2'" in text
    assert "update vpog" in text


def test_files_without_a_format_are_of_the_first(saved):
    with safe_open(saved, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    assert metadata.pop("format") == "1"
    save_file(tensors, saved, metadata=metadata)
    load_weights(saved)


def test_unknown_configuration_key_is_named(saved):
    rewrite(saved, lambda t: None, {"wings": 2})
    assert "'wings'" in error_of(saved)


def test_another_programs_file(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    assert "configuration" in error_of(path)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "JSON"),
        ("[1]", "mapping"),
        ('{"image_size": "large"}', "image_size is 'large'"),
        ('{"image_size": 0}', "image_size is 0"),
        ('{"image_size": NaN}', "image_size is nan"),
        ('{"embed_from_stem": 1}', "embed_from_stem is 1"),
    ],
)
def test_broken_configuration(tmp_path, text, part):
    path = tmp_path / "net.safetensors"
    save_file({"a": torch.zeros(2)}, path, metadata={"config": text})
    assert part in error_of(path)


def test_a_refiner_comes_back_as_it_was(refiner, tmp_path):
    path = tmp_path / "refiner.safetensors"
    save_weights(refiner, path, {"steps": "3"})
    loaded = load_refiner(path, expect=refiner.config)
    assert loaded.config == refiner.config
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    state = loaded.state_dict()
    assert state.keys() == refiner.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in refiner.state_dict().items())


def test_a_network_of_the_other_kind_is_named(model, refiner, saved, tmp_path):
    path = tmp_path / "refiner.safetensors"
    save_weights(refiner, path)
    with pytest.raises(VPOGError, match=r"holds a coarse network where a refiner one is needed"):
        load_refiner(saved)
    assert "holds a refiner network where a coarse one is needed" in error_of(path)


@pytest.mark.parametrize(
    ("change", "config_change", "part"),
    [
        (lambda t: t.pop("trunk.stem_norm.weight"), None, "lacks the tensor 'trunk.stem_norm.weight'"),
        (
            lambda t: t["attention.kind"].fill_(float("nan")),
            None,
            "'attention.kind' holds values that are no",
        ),
        (lambda t: None, {"fine_dim": 24}, "(16, 8, 3, 3) where (24, 8, 3, 3) is needed"),
        (lambda t: None, {"fine_dim": 20}, "fine_dim is 20: give a multiple of 8"),
        (lambda t: None, {"wings": 2}, "'wings'"),
    ],
)
def test_a_damaged_refiner_is_refused_by_what_is_wrong(refiner, tmp_path, change, config_change, part):
    path = tmp_path / "refiner.safetensors"
    save_weights(refiner, path)
    rewrite(path, change, config_change)
    with pytest.raises(VPOGError) as told:
        load_refiner(path)
    assert part in str(told.value)
    assert "\n" not in str(told.value)


def test_a_refiner_cut_short_or_of_another_preset_is_refused(refiner, tmp_path):
    path = tmp_path / "refiner.safetensors"
    save_weights(refiner, path)
    with pytest.raises(VPOGError, match=r"is a network of image_size 32 where 128 is asked for"):
        load_refiner(path, expect=REFINER_PRESETS["refiner-tiny"])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(VPOGError, match=r"is no readable safetensors file"):
        load_refiner(path)
