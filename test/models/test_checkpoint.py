import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vpog_core.models.checkpoint import load_weights, save_weights, weights_key
from vpog_core.types import VPOGError


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "runs" / "net.safetensors"
    save_weights(model, path, {"steps": "12"})
    return path


def rewrite(path, change, config_change=None):
    """The file again with changed tensors or configuration."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    change(tensors)
    if config_change:
        metadata["config"] = json.dumps({**json.loads(metadata["config"]), **config_change})
    save_file(tensors, path, metadata=metadata)


def error_of(path) -> str:
    with pytest.raises(VPOGError) as caught:
        load_weights(path)
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


def test_key_follows_the_content(model, saved, tmp_path):
    (tmp_path / "copy.safetensors").write_bytes(saved.read_bytes())
    assert weights_key(tmp_path / "copy.safetensors") == weights_key(saved)
    with torch.no_grad():
        model.encoder.enc_norm.weight[0] += 1e-3
    save_weights(model, tmp_path / "other.safetensors", {"steps": "12"})
    assert weights_key(tmp_path / "other.safetensors") != weights_key(saved)


def test_missing_file(tmp_path):
    assert "none.safetensors" in error_of(tmp_path / "none.safetensors")


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\x80\x02}q\x00."])
def test_not_safetensors(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    assert f"'{path}' is no readable safetensors file" in error_of(path)


def test_cut_short(saved):
    saved.write_bytes(saved.read_bytes()[:-100])
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
    ],
)
def test_broken_configuration(tmp_path, text, part):
    path = tmp_path / "net.safetensors"
    save_file({"a": torch.zeros(2)}, path, metadata={"config": text})
    assert part in error_of(path)
