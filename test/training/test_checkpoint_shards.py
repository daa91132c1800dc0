"""Test a run in pieces: what each fidelity keeps, how damaged ones are reported, and the tool's slices."""

import json
import re
import sys
import zipfile
from dataclasses import asdict
from importlib.metadata import packages_distributions
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

pytest.importorskip("lightning")

from vpog_core.models.checkpoint import load_weights
from vpog_core.training import checkpoint_shards
from vpog_core.training.callbacks import SafeCheckpointIO, read_checkpoint
from vpog_core.training.checkpoint_shards import MIB, pack, reduced, restored, unpack
from vpog_core.training.train import make_module
from vpog_core.types import VPOGError

from . import toy_run as toy
from .runs import ROOT, tool


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Return the folder of a run as one step of the optimizer leaves it."""
    folder = tmp_path_factory.mktemp("slices") / "run"
    config = toy.toy_config()
    module = make_module(config)
    parts = module.configure_optimizers()
    generator = torch.Generator().manual_seed(0)
    for p in module.network.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
    parts["optimizer"].step()
    checkpoint = {
        "state_dict": module.state_dict(), "optimizer_states": [parts["optimizer"].state_dict()], "items": 1,
        "global_step": 1, "callbacks": {"RunFiles": {"seconds": 1.0, "history": [{"step": 1}]}},
    }  # fmt: skip
    SafeCheckpointIO().save_checkpoint(checkpoint, folder / "checkpoint.ckpt")
    (folder / "config.yaml").write_text(yaml.safe_dump(asdict(config)))
    return folder


def test_pieces_are_small_and_make_the_run_again(run, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_shards, "SHARD_BYTES", MIB)
    assert pack(run, tmp_path / "pieces") == "exact"
    sizes = [p.stat().st_size for p in (tmp_path / "pieces").glob("state.*.bin")]
    assert max(sizes) == MIB
    assert len(sizes) > 3
    assert unpack(tmp_path / "pieces", tmp_path / "again") == "exact"
    before, after = (read_checkpoint(f / "checkpoint.ckpt") for f in (run, tmp_path / "again"))
    assert all(torch.equal(before["state_dict"][k], after["state_dict"][k]) for k in before["state_dict"])
    states = [c["optimizer_states"][0]["state"] for c in (before, after)]
    assert all(torch.equal(states[0][i][k], states[1][i][k]) for i in states[0] for k in states[0][i])
    assert json.loads((tmp_path / "again" / "history.json").read_text()) == [{"step": 1}]
    weights = load_weights(tmp_path / "again" / "weights.safetensors").state_dict()
    assert all(torch.equal(v, before["state_dict"][f"averaged.{k}"]) for k, v in weights.items())


def test_a_smaller_budget_costs_fidelity_and_then_refuses(run, tmp_path):
    floats = sum(p.numel() for p in make_module(toy.toy_config()).network.parameters())
    overhead = 800 * 1024  # of some hundred tensors in a file
    for width, fidelity in ((16, "exact"), (10, "half"), (3, "weights")):
        budget = width * floats + overhead
        assert pack(run, tmp_path, budget) == fidelity
        assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= budget
    with pytest.raises(VPOGError, match="alone take more than 0 MiB: give a larger budget"):
        pack(run, tmp_path, 1000)


def test_half_fidelity_keeps_the_weights_and_rounds_the_rest(run):
    before = read_checkpoint(run / "checkpoint.ckpt")
    after = restored(reduced(before, "half"))
    for key, value in before["state_dict"].items():
        # bfloat16 has eight significant bits.
        tolerance = 2**-8 if key.startswith("averaged.") else 0.0
        torch.testing.assert_close(after["state_dict"][key], value, rtol=tolerance, atol=0.0)
    for i, state in before["optimizer_states"][0]["state"].items():
        for name in ("exp_avg", "exp_avg_sq"):
            restored_moment = after["optimizer_states"][0]["state"][i][name]
            torch.testing.assert_close(restored_moment, state[name], rtol=2**-8, atol=1e-30)


def test_weights_fidelity_begins_again_from_the_average(run):
    before = read_checkpoint(run / "checkpoint.ckpt")
    moments = before["optimizer_states"][0]["state"]
    matrix = next(i for i, s in moments.items() if s["exp_avg_sq"].ndim == 2)
    vector = next(i for i, s in moments.items() if s["exp_avg_sq"].ndim == 1)
    rows, columns = (
        torch.rand(moments[matrix]["exp_avg_sq"].shape[0]),
        torch.rand(moments[matrix]["exp_avg_sq"].shape[1]),
    )
    moments[matrix]["exp_avg_sq"] = torch.outer(rows, columns)
    after = restored(reduced(before, "weights"))
    for key, value in before["state_dict"].items():
        if key.startswith("averaged."):
            # float16 has eleven significant bits, and steps of 6e-8 near zero.
            torch.testing.assert_close(after["state_dict"][key], value, rtol=2**-11, atol=6e-8)
            assert torch.equal(
                after["state_dict"][key.replace("averaged", "network", 1)], after["state_dict"][key]
            )
    state = after["optimizer_states"][0]["state"]
    torch.testing.assert_close(state[matrix]["exp_avg_sq"], torch.outer(rows, columns), rtol=1e-5, atol=0.0)
    assert torch.equal(state[vector]["exp_avg_sq"], moments[vector]["exp_avg_sq"])
    assert not any(s["exp_avg"].any() for s in state.values())
    optimizer = make_module(toy.toy_config()).configure_optimizers()["optimizer"]
    optimizer.load_state_dict(after["optimizer_states"][0])  # as the trainer does


def test_damaged_or_missing_pieces_are_named(run, tmp_path):
    pack(run, tmp_path)
    piece = tmp_path / "state.000.bin"
    content = bytearray(piece.read_bytes())
    content[1000] ^= 1
    piece.write_bytes(content)
    with pytest.raises(VPOGError, match=r"state.000.bin' is damaged or of another slice"):
        unpack(tmp_path, tmp_path / "run")
    piece.unlink()
    with pytest.raises(VPOGError, match=r"state.000.bin' is missing: copy all pieces"):
        unpack(tmp_path, tmp_path / "run")
    manifest = tmp_path / "state.json"
    manifest.write_text(manifest.read_text().replace("state.000.bin", "../state.000.bin"))
    with pytest.raises(VPOGError, match="names files outside its folder"):
        unpack(tmp_path, tmp_path / "run")
    manifest.unlink()
    with pytest.raises(VPOGError, match=r"There is no state.json"):
        unpack(tmp_path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wheels_are_installed_beside_the_machine_s_packages(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    assert "There are no wheels" in tool.use_wheels(tmp_path, tmp_path / "site")
    info = "toy_wheel-1.0.dist-info"
    with zipfile.ZipFile(tmp_path / "toy_wheel-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toy_wheel.py", "ANSWER = 42\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy-wheel\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    assert tool.use_wheels(tmp_path, tmp_path / "site") == ""
    import toy_wheel

    assert toy_wheel.ANSWER == 42
    monkeypatch.setattr(tool.subprocess, "run", None)
    assert tool.use_wheels(tmp_path, tmp_path / "site") == ""  # already there
    monkeypatch.setattr(tool, "NEEDED", ("torch", "no_such_package"))
    assert tool.missing_packages() == "This machine lacks no_such_package: put their wheels into --wheels."


def test_a_machine_for_slices_gets_all_that_training_depends_on():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    # Bags are read by `vpog replay` alone; without TensorBoard the log is CSV.
    packages = {re.split("[<>=]", entry)[0] for entry in wanted} - {"rosbags", "rosbags-image", "tensorboard"}
    modules = packages_distributions()
    names = [name for module in tool.NEEDED for name in modules[module]]
    assert packages <= {re.sub("[-_.]+", "-", name).lower() for name in names}
    # The machine has these three of its own.
    command = tool.__doc__.partition("pip wheel")[2].split()
    assert packages - {"torch", "numpy", "opencv-python-headless"} <= set(command)


def test_a_slice_goes_on_where_the_one_before_stopped(tmp_path, monkeypatch):
    """Two slices on two machines: the second has only the first one's pieces."""
    from vpog_core.training import train

    whole = train.train
    monkeypatch.setattr(train, "train", lambda config: whole(config, toy.toy_data))
    monkeypatch.setattr("vpog_core.training.compose.load_config", lambda settings: toy.toy_config(*settings))
    common = {"minutes": 5.0, "budget": 60.0, "settings": ["trainer.max_epochs=1"]}
    first = SimpleNamespace(pieces=str(tmp_path / "pieces"), resume=None, **common)
    report = tool.run_slice(first, tmp_path / "one", tool.time.monotonic() - 299.99)
    assert (report["resumed"], report["step"], report["state"]) == (None, 1, "exact")
    second = SimpleNamespace(pieces=str(tmp_path / "more"), resume=str(tmp_path / "pieces"), **common)
    report = tool.run_slice(second, tmp_path / "two", tool.time.monotonic())
    assert (report["resumed"], report["step"]) == ("exact", 3)
    assert load_weights(tmp_path / "two" / "weights.safetensors").config == toy.MODEL
