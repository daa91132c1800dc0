"""Test the training loop: exact resume, several processes, files written, and when it stops."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

pytest.importorskip("lightning")

from vpog_core.models.checkpoint import load_weights
from vpog_core.training.train import changed_settings, make_logger, make_module, train
from vpog_core.types import VPOGError

from . import toy_run as toy
from .runs import assert_same_run, finish, kill_after_first_epoch, losses_of, start, state_of

pytestmark = pytest.mark.usefixtures("one_thread")


def run(folder: Path, *settings: str):
    return train(toy.toy_config(f"output={folder}", *settings), toy.toy_data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Return the folder of an unbroken run of six steps, with all it writes."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    before = torch.get_num_threads()
    summary = run(folder, "trainer.logger=tensorboard", "trainer.figures=1")
    torch.set_num_threads(before)
    assert summary.step == 6
    return folder


def test_a_run_killed_and_resumed_ends_as_the_unbroken_one(whole, tmp_path):
    folder = tmp_path / "killed"
    kill_after_first_epoch(start(folder, 0.4), folder)
    assert state_of(folder)["global_step"] == 3
    (folder / "checkpoint.partial").write_bytes(b"the kill came while writing")
    assert run(folder).step == 6
    assert_same_run(folder, whole)
    assert losses_of(folder) == losses_of(whole)


def test_two_processes_do_what_one_does_with_two_batches_a_step(tmp_path):
    settings = ("trainer.max_epochs=1", "data.photometry=false")
    process = start(tmp_path / "two", 0.0, "trainer.devices=2", *settings)
    run(tmp_path / "one", "trainer.accumulate=2", *settings)
    assert process.wait(timeout=200) == 0, process.stderr.read()
    one, two = state_of(tmp_path / "one"), state_of(tmp_path / "two")
    assert one["items"] == two["items"] == 6
    # Sums over two processes are rounded once more or less than sums over two batches.
    for key, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][key], value, rtol=1e-5, atol=1e-6)
    assert losses_of(tmp_path / "one")[-1] == pytest.approx(losses_of(tmp_path / "two")[-1], rel=1e-5)


def test_the_run_stops_when_the_time_is_up_and_goes_on_later(whole, tmp_path):
    for step in (1, 2):
        assert run(tmp_path, "trainer.minutes=1e-9").step == step
        assert state_of(tmp_path)["items"] == step
    assert [h["step"] for h in json.loads((tmp_path / "history.json").read_text())] == [1, 2]
    finished = run(tmp_path, "loader.workers=2")
    assert_same_run(tmp_path, whole)
    assert run(tmp_path).step == finished.step == 6  # nothing is left to do
    assert "6 steps in" in str(finished)
    assert str(tmp_path / "weights.safetensors") in str(finished)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_cluster_s_sigterm_end_the_step_and_save(tmp_path, number):
    class Interrupting(toy.ToyData):
        def __getitem__(self, index):
            if index == 1:
                signal.raise_signal(number)
            return super().__getitem__(index)

    before = signal.getsignal(number)
    summary = train(toy.toy_config(f"output={tmp_path}"), lambda: (Interrupting(1), toy.ToyData(2, length=2)))
    assert summary.interrupted
    assert state_of(tmp_path)["global_step"] == summary.step == 2
    assert signal.getsignal(number) is before


def test_what_a_run_leaves_behind(whole):
    names = {p.name for p in whole.iterdir()}
    assert names == {
        "checkpoint.ckpt",
        "weights.safetensors",
        "history.json",
        "config.yaml",
        "log",
        "figures",
    }
    assert [p.name for p in sorted((whole / "figures").iterdir())] == ["step-000003.png", "step-000006.png"]
    history = json.loads((whole / "history.json").read_text())
    assert [h["step"] for h in history] == [3, 6]
    assert {"minutes", "loss", "seen_accuracy", "flow_error", "retrieval_error"} <= set(history[0])


def test_the_weights_written_are_the_averaged_ones(whole):
    tensors = state_of(whole)["state_dict"]
    loaded = load_weights(whole / "weights.safetensors").state_dict()
    assert all(torch.equal(loaded[key], tensors[f"averaged.{key}"]) for key in loaded)
    assert any(not torch.equal(tensors[f"averaged.{key}"], tensors[f"network.{key}"]) for key in loaded)


def test_tensorboard_gets_scores_rates_and_pictures(whole):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = events.EventAccumulator(str(whole / "log"))
    log.Reload()
    tags = log.Tags()
    assert {"train/loss", "train/lr", "train/gradient_norm", "val/loss"} <= set(tags["scalars"])
    assert [e.step for e in log.Scalars("train/loss")] == [0, 1, 2, 3, 4, 5]
    assert tags["images"] == ["val/samples"]
    # Warm-up over two steps to 2e-3; the cosine comes down to 1.2e-5 after the six.
    rates = [e.value for e in log.Scalars("train/lr")]
    assert rates[0] == pytest.approx(1e-3)
    assert rates[1] == max(rates) > rates[2] > rates[5] > 1.2e-5


def test_a_run_of_an_earlier_version_goes_on(whole, tmp_path):
    """The run's configuration and history have names that were changed since."""
    settings = yaml.safe_load((whole / "config.yaml").read_text())
    for new, old in (("cache_dir", "bank"), ("refined_fraction", "refined_share"), ("appearances", "looks")):
        settings["data"][old] = settings["data"].pop(new)
    settings["loader"]["groups"] = settings["loader"].pop("batch_size")
    settings["trainer"]["pictures"] = settings["trainer"].pop("figures")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    state = state_of(whole)
    for entry in state["callbacks"]["RunFiles"]["history"]:
        entry["pose_share"] = entry.pop("pose_fraction")
    torch.save(state, tmp_path / "checkpoint.ckpt")
    assert changed_settings(tmp_path, toy.toy_config("loader.batch_size=2")) == ["loader.batch_size 1 -> 2"]
    run(tmp_path, "trainer.max_epochs=3")
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["loader"]["batch_size"] == 1
    history = json.loads((tmp_path / "history.json").read_text())
    assert [(entry["step"], "pose_fraction" in entry) for entry in history] == [
        (3, True),
        (6, True),
        (9, True),
    ]


def test_a_changed_setting_counts_from_the_resume_on(whole, tmp_path):
    run(tmp_path, "trainer.max_epochs=1")
    assert changed_settings(tmp_path, toy.toy_config("optimizer.lr=1e-3", "trainer.max_epochs=1")) == [
        "optimizer.lr 0.002 -> 0.001"
    ]
    module = make_module(toy.toy_config("optimizer.lr=1e-3", "optimizer.weight_decay=0.5"))
    state = state_of(tmp_path)
    module.on_load_checkpoint(state)
    groups = state["optimizer_states"][0]["param_groups"]
    assert [g["weight_decay"] for g in groups] == [0.5, 0.0]
    assert groups[0]["lr"] == pytest.approx(1e-3 * module.rate(3))
    assert state["lr_schedulers"][0]["base_lrs"] == [1e-3, 1e-3]


@pytest.mark.parametrize(
    ("before", "after", "items"),
    [
        (("loader.batch_size=2",), ("loader.batch_size=1",), 9),
        (("trainer.accumulate=2",), ("trainer.accumulate=1",), 9),
        (("trainer.accumulate=1",), ("trainer.accumulate=2",), 9),
    ],
)
def test_a_run_resumed_with_other_batches_ends_and_sees_no_item_twice(tmp_path, before, after, items):
    """Steps of two items become steps of one, or the reverse; the run ends validated and saved."""
    train(
        toy.toy_config(f"output={tmp_path}", "trainer.max_epochs=1", *before),
        lambda: toy.toy_data(record=tmp_path / toy.ITEMS),
    )
    assert changed_settings(tmp_path, toy.toy_config("trainer.max_epochs=1", *after)) == [
        f"{now.partition('=')[0]} {old[-1]} -> {now[-1]}" for old, now in zip(before, after, strict=True)
    ]
    finish(tmp_path, *after)
    assert [int(line) for line in (tmp_path / toy.ITEMS).read_text().split()] == list(range(items))
    assert [h["step"] for h in json.loads((tmp_path / "history.json").read_text())] == [3, 6]
    assert (state_of(tmp_path)["global_step"], state_of(tmp_path)["items"]) == (6, items)


def test_a_run_resumed_by_fewer_processes_says_so_and_ends(tmp_path):
    finish(tmp_path, "trainer.devices=2", "trainer.max_epochs=1")
    assert changed_settings(tmp_path, toy.toy_config("trainer.max_epochs=1")) == ["trainer.devices 2 -> 1"]
    finish(tmp_path)
    # Two processes write their items in any order.
    assert sorted(int(line) for line in (tmp_path / toy.ITEMS).read_text().split()) == list(range(9))
    assert state_of(tmp_path)["global_step"] == 6


def test_a_run_of_another_network_is_not_gone_on_with(whole):
    other = replace(toy.toy_config(), model=replace(toy.MODEL, aa_depth=2))
    with pytest.raises(VPOGError, match=r"has model.aa_depth 1 and 2 is asked for: give another output"):
        train(replace(other, output=str(whole)), toy.toy_data)


def test_a_damaged_checkpoint_is_refused_by_name(whole, tmp_path):
    content = (whole / "checkpoint.ckpt").read_bytes()
    (tmp_path / "checkpoint.ckpt").write_bytes(content[: len(content) // 2])
    with pytest.raises(VPOGError, match=r"checkpoint.ckpt' is no readable checkpoint"):
        run(tmp_path)


def test_init_weights_begin_a_fresh_run(whole):
    fresh = make_module(toy.toy_config(f"init.weights={whole / 'weights.safetensors'}"))
    given = load_weights(whole / "weights.safetensors").state_dict()
    for network in (fresh.network, fresh.averaged):
        assert all(torch.equal(network.state_dict()[key], given[key]) for key in given)
    assert fresh.items == 0


def test_loggers_are_named_and_what_they_lack_is_said(tmp_path):
    assert make_logger("none", tmp_path, {}) is False
    assert make_logger("csv", tmp_path, {"version": "a"}).log_dir == str(tmp_path / "log" / "a")
    with pytest.raises(VPOGError, match=r"trainer.logger is 'paper': use one of tensorboard, csv, wandb"):
        make_logger("paper", tmp_path, {})
    with pytest.raises(VPOGError, match=r"does not take these trainer.logger_options"):
        make_logger("csv", tmp_path, {"colour": "red"})


def test_too_few_items_for_the_run_are_said_before_it_starts(tmp_path):
    with pytest.raises(VPOGError, match=r"has 4 items and the run needs 6: lower trainer.max_epochs"):
        train(
            toy.toy_config(f"output={tmp_path}"), lambda: (toy.ToyData(1, length=4), toy.ToyData(2, length=2))
        )
