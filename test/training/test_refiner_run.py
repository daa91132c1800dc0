"""Test a refiner's training run: its files, how it resumes, in pieces and from the command line."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import trimesh

pytest.importorskip("lightning")

from vpog_core.cli.commands import main
from vpog_core.models.checkpoint import load_refiner, load_weights
from vpog_core.objects.mesh import Mesh, save_mesh
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.seeds import VALIDATION
from vpog_core.training.checkpoint_shards import pack, unpack
from vpog_core.training.data import symmetry_cache
from vpog_core.training.data.batch import RefinerBatch
from vpog_core.training.data.data_config import DataConfig
from vpog_core.training.data.refiner_datasets import build_refiner_datasets
from vpog_core.training.lightning_module import BatchPosition
from vpog_core.training.losses.refiner import refiner_labels, rotation_between
from vpog_core.training.synthesis.pose_perturbation import PerturbationConfig
from vpog_core.training.train import changed_settings, make_module, train
from vpog_core.types import VPOGError

from . import toy_run as toy
from .runs import assert_same_run, finish, kill_after_first_epoch, losses_of, start, state_of, tool

pytestmark = pytest.mark.usefixtures("one_thread")


def run(folder: Path, *settings: str):
    return train(toy.toy_refiner_config(f"output={folder}", *settings), toy.toy_pairs)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Return the folder of an unbroken run of six steps."""
    folder = tmp_path_factory.mktemp("refiner") / "whole"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    summary = run(folder, "trainer.figures=2")
    torch.set_num_threads(before)
    assert summary.step == 6
    return folder


@pytest.mark.parametrize("settings", [("loader.batch_size=1",), ("loader.batch_size=1", "trainer.devices=2")])
def test_medians_are_of_the_whole_validation_set(whole, tmp_path, settings):
    """The errors before refinement depend on no weights: they are the medians of the set, of any batches."""
    data = toy.toy_pairs()[1]
    pairs = [data[n] for n in range(len(data))]
    batch = RefinerBatch(**{key: torch.from_numpy(np.stack([p[key] for p in pairs])) for key in pairs[0]})
    labels = refiner_labels(batch)
    turn = rotation_between(batch.T_start, batch.T_true).rad2deg()[labels.same_view]
    finish(tmp_path, "network=refiner", "trainer.epoch_steps=1", "trainer.max_epochs=1", *settings)
    for folder in (whole, tmp_path):
        scores = json.loads((folder / "history.json").read_text())[0]
        assert scores["rotation_start"] == pytest.approx(turn.median().item(), rel=1e-5)
        assert scores["rotation_error"] > 0


def test_a_run_killed_and_resumed_ends_as_the_unbroken_one(whole, tmp_path):
    folder = tmp_path / "killed"
    kill_after_first_epoch(start(folder, 0.3, "network=refiner"), folder)
    assert state_of(folder)["global_step"] == 3
    assert run(folder).step == 6
    assert_same_run(folder, whole)
    assert losses_of(folder) == losses_of(whole)


def test_what_a_run_leaves_behind(whole):
    history = json.loads((whole / "history.json").read_text())
    assert [h["step"] for h in history] == [3, 6]
    assert {"flow_error", "flow_start", "visibility_accuracy", "rotation_start", "rotation_error"} <= set(
        history[0]
    )
    refiner = load_refiner(whole / "weights.safetensors", expect=toy.REFINER)
    tensors = state_of(whole)["state_dict"]
    state = refiner.state_dict()
    assert all(torch.equal(state[key], tensors[f"averaged.{key}"]) for key in state)
    sheet = cv2.imread(str(whole / "figures" / "step-000006.png"))
    assert sheet.std() > 20
    with pytest.raises(VPOGError, match="holds a refiner network"):
        load_weights(whole / "weights.safetensors")


def test_weights_begin_another_run_and_those_of_other_sizes_do_not(whole):
    fresh = make_module(toy.toy_refiner_config(f"init.weights={whole / 'weights.safetensors'}"))
    given = load_refiner(whole / "weights.safetensors").state_dict()
    assert all(torch.equal(fresh.network.state_dict()[key], given[key]) for key in given)
    with pytest.raises(VPOGError, match=r"is a network of fine_dim 16 where 24 is asked for"):
        make_module(
            toy.toy_refiner_config(f"init.weights={whole / 'weights.safetensors'}", "refiner.fine_dim=24")
        )


def test_another_network_is_not_gone_on_with_and_unused_sections_do_not_matter(whole):
    other = toy.toy_refiner_config("refiner.fine_dim=24")
    with pytest.raises(VPOGError, match=r"has refiner.fine_dim 16 and 24 is asked for: give another output"):
        changed_settings(whole, other)
    with pytest.raises(VPOGError, match=r"has network refiner and coarse is asked for"):
        changed_settings(whole, toy.toy_config())
    assert changed_settings(whole, toy.toy_refiner_config("model.depth=2", "loss.weights.flow=2")) == []
    assert changed_settings(whole, toy.toy_refiner_config("refiner_loss.flow=2")) == [
        "refiner_loss.flow 1.0 -> 2.0"
    ]


def test_recomputed_blocks_give_equal_gradients(refiner_batch):
    def gradients(module) -> tuple[dict, int]:
        calls = []
        hooks = [
            block.norm1.register_forward_hook(lambda *args: calls.append(1)) for block in module.blocks()
        ]
        torch.manual_seed(0)
        module.training_losses(module.network, refiner_batch, BatchPosition())[0].backward()
        for hook in hooks:
            hook.remove()
        learning = {k: p.grad for k, p in module.network.named_parameters() if p.requires_grad}
        return learning, len(calls)

    plain, once = gradients(make_module(toy.toy_refiner_config()))
    recomputed, twice = gradients(make_module(toy.toy_refiner_config("trainer.checkpoint_blocks=true")))
    # Three blocks of the trunk, one of attention, two and one of the decoders.
    assert (once, twice) == (7, 14)
    assert all(torch.equal(recomputed[key], plain[key]) for key in plain)


def test_compiled_parts_give_the_same_loss(refiner_batch, monkeypatch):
    """Each part is traced whole and run uncompiled, which saves minutes."""
    compiled = []

    def traced(forward, **options):
        compiled.append(forward)
        return compile_as_given(forward, backend="eager", fullgraph=True, **options)

    compile_as_given = torch.compile
    monkeypatch.setattr(torch, "compile", traced)
    losses = []
    for setting in ("trainer.compile=false", "trainer.compile=true"):
        module = make_module(toy.toy_refiner_config(setting))
        torch.manual_seed(0)
        losses.append(module.training_losses(module.network, refiner_batch, BatchPosition())[0].item())
    assert len(compiled) == 4
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_in_bfloat16_labels_and_losses_stay_exact(refiner_batch):
    module = make_module(toy.toy_refiner_config())
    exact = module._in_precision(module.validation_losses, module.averaged, refiner_batch)[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = module._in_precision(module.validation_losses, module.averaged, refiner_batch)[1]
    assert rough["flow_start"] == exact["flow_start"]  # of the labels alone
    # Before refinement the errors are of the poses alone.
    exact_errors, rough_errors = module.pairs
    assert torch.equal(exact_errors[:, :2], rough_errors[:, :2])
    assert rough_errors.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in rough.values())
    assert rough["flow_error"].item() == pytest.approx(exact["flow_error"].item(), rel=0.05)


def test_pieces_make_a_refiner_s_run_again(whole, tmp_path):
    assert pack(whole, tmp_path / "pieces") == "exact"
    assert unpack(tmp_path / "pieces", tmp_path / "again") == "exact"
    assert_same_run(tmp_path / "again", whole)
    weights = load_refiner(tmp_path / "again" / "weights.safetensors", expect=toy.REFINER).state_dict()
    before = load_refiner(whole / "weights.safetensors").state_dict()
    assert all(torch.equal(weights[key], before[key]) for key in before)
    floats = sum(p.numel() for p in make_module(toy.toy_refiner_config()).network.parameters())
    assert pack(whole, tmp_path / "small", 3 * floats + 400 * 1024) == "weights"
    unpack(tmp_path / "small", tmp_path / "rough")
    assert run(tmp_path / "rough", "trainer.max_epochs=3").step == 9


def test_a_slice_of_a_refiner_goes_on_elsewhere(tmp_path, monkeypatch):
    from vpog_core.training import train as module

    build = module.train
    monkeypatch.setattr(module, "train", lambda config: build(config, toy.toy_pairs))
    monkeypatch.setattr(
        "vpog_core.training.compose.load_config", lambda settings: toy.toy_refiner_config(*settings)
    )
    common = {"minutes": 5.0, "budget": 60.0, "settings": ["trainer.max_epochs=1"]}
    first = SimpleNamespace(pieces=str(tmp_path / "pieces"), resume=None, **common)
    report = tool.run_slice(first, tmp_path / "one", tool.time.monotonic() - 299.99)
    assert (report["resumed"], report["step"], report["state"]) == (None, 1, "exact")
    second = SimpleNamespace(pieces=str(tmp_path / "more"), resume=str(tmp_path / "pieces"), **common)
    assert tool.run_slice(second, tmp_path / "two", tool.time.monotonic())["step"] == 3
    assert load_refiner(tmp_path / "two" / "weights.safetensors").config == toy.REFINER


def write_meshes(folder: Path, count: int) -> None:
    mesh = make_object(900_008, vertices=600)
    for n in range(count):
        save_mesh(Mesh(mesh.vertices * (1 + 0.1 * n), mesh.faces), folder / f"{n:02d}.ply")


def test_objects_that_are_held_out_are_never_in_training(tmp_path):
    write_meshes(tmp_path / "meshes", 4)
    config = DataConfig(
        meshes=[str(tmp_path / "meshes")], procedural=1, held_out_every=3, held_out_procedural=1,
        cache_dir=str(tmp_path / "cache"), image_size=32, validation_samples=5, processes=2,
    )  # fmt: skip
    sets = build_refiner_datasets(config, 32, PerturbationConfig(), progress=False)
    names = [[obj.name for obj in part.objects] for part in sets]
    assert names[0] == ["01", "02", "seed_000000"]
    assert names[1] == ["00", "03", f"seed_{VALIDATION.start}"]
    assert [obj.name for obj in sets[1].assets.objects] == names[0]
    assert len(sets[1]) == 5
    again = build_refiner_datasets(replace(config, seed=9), 32, PerturbationConfig(), progress=False)
    assert all(np.array_equal(again[1][1][key], value) for key, value in sets[1][1].items())
    assert not np.array_equal(again[0][1]["image_rgb"], sets[0][1]["image_rgb"])
    item = {key: torch.from_numpy(value)[None] for key, value in sets[0][0].items()}
    assert refiner_labels(RefinerBatch(**item)).flow.shape == (1, 8, 8, 2)


def test_symmetries_are_found_once_and_kept_in_the_bank(tmp_path, monkeypatch):
    (tmp_path / "meshes").mkdir()
    for name, depth in (("box", 0.04), ("crate", 0.06)):
        trimesh.creation.box((0.1, 0.06, depth)).export(tmp_path / "meshes" / f"{name}.ply")
    config = DataConfig(
        meshes=[str(tmp_path / "meshes")], held_out_every=2, cache_dir=str(tmp_path / "cache"), processes=1
    )
    for _ in range(2):
        sets = build_refiner_datasets(config, 32, PerturbationConfig(), progress=False)
        counts = [len(obj.symmetry.discrete) for part in sets for obj in part.objects]
        assert counts == [8, 4]  # the crate and the box
        monkeypatch.setattr(symmetry_cache, "find_symmetry", None)  # the second time it is read


def test_data_that_a_refiner_cannot_use_is_refused(tmp_path):
    write_meshes(tmp_path / "meshes", 1)
    with pytest.raises(VPOGError, match=r"leave data\.bop empty"):
        build_refiner_datasets(DataConfig(bop=["a:test"]), 32, PerturbationConfig())
    config = DataConfig(meshes=[str(tmp_path / "meshes")], cache_dir=str(tmp_path / "cache"), processes=1)
    with pytest.raises(VPOGError, match=r"No object is left to validate on"):
        build_refiner_datasets(config, 32, PerturbationConfig(), progress=False)


def test_the_command_trains_a_refiner_on_mesh_files(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "meshes").mkdir()
    for n in range(2):
        trimesh.creation.box((0.1 + 0.02 * n, 0.06, 0.04)).export(tmp_path / "meshes" / f"box_{n}.ply")
    settings = [s for s in toy.REFINER_SETTINGS if "max_epochs" not in s and "epoch_steps" not in s]
    settings += ["trainer.max_epochs=1", "trainer.epoch_steps=2", "data.meshes=[meshes]", "data.procedural=0",
                 "data.held_out_every=2", "data.validation_samples=2", "data.processes=1"]  # fmt: skip
    assert main(["train", *settings]) == 0
    assert "2 steps in" in capfd.readouterr().out
    assert load_refiner(tmp_path / "runs" / "refiner_tiny" / "weights.safetensors").config == toy.REFINER
