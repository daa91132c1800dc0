from pathlib import Path

import numpy as np
import pytest
import torch

from vpog_core.models.checkpoint import load_weights
from vpog_core.models.config import PRESETS
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.training.objective import Batch, LossWeights, meet_predictions, objective, seen_pairs
from vpog_core.training.train import HELD_OUT_EVERY, HELD_OUT_SEED, Run, Trainer, parse, sources
from vpog_core.training.vpog_dataset import Stage, VPOGTrainDataset

pytestmark = pytest.mark.usefixtures("one_thread")


def batch_of(dataset, *indices) -> Batch:
    groups = [dataset[i] for i in indices]
    return Batch(**{key: torch.from_numpy(np.stack([g[key] for g in groups])) for key in groups[0]})


@pytest.fixture(scope="module")
def fixed_batches(dataset):
    return [batch_of(dataset, i) for i in range(3)]


@pytest.fixture
def args(tmp_path, tiny_config, monkeypatch):
    monkeypatch.setitem(PRESETS, "vpog-test", tiny_config)
    return parse(
        ["--preset", "vpog-test", "--output", str(tmp_path / "run"), "--groups", "1", "--workers", "0"]
    )


def trainer(args, objects) -> Trainer:
    return Trainer(args, Run.start(args), objects, objects, [], 112)


def losses(of: Trainer, batches) -> list[float]:
    return [float(of.step(batch)["loss"]) for batch in batches]


def test_the_objective_names_its_parts(fixed_batches, tiny_config):
    torch.manual_seed(0)
    model, weights = VPOGModel(tiny_config), LossWeights()
    loss, scores = objective(model, fixed_batches[0], weights, offset=1)
    assert loss.requires_grad
    assert not any(v.requires_grad for v in scores.values())
    assert all(torch.isfinite(v) for v in scores.values())
    only_flow, scores = objective(model, fixed_batches[0], LossWeights(0.0, 0.0, 2.0, 0.0), offset=1)
    assert only_flow.item() == pytest.approx(2 * scores["flow"].item(), rel=1e-4)


def test_predicted_patches_take_the_place_of_true_ones():
    """The flow makes up for a neighbouring patch; farther off, the pair is unseen."""
    pairs = torch.tensor([[0, 0, 24, 24], [0, 0, 24, 24], [0, 1, 24, 24]])
    flow, seen = torch.full((3, 4, 4, 2), 0.25), torch.ones(3, 4, 4, dtype=torch.bool)
    logits = torch.zeros(1, 2, 49, 50)
    logits[0, 0, 24, 24 + 7 - 1] = 5.0  # one down, one to the left
    logits[0, 1, 24, 24 + 2] = 5.0
    logits[..., 49] = 9.0  # 'unseen' is no patch
    new_pairs, new_flow, new_seen = meet_predictions(pairs, flow, seen, logits, share=1.0)
    assert new_pairs.tolist() == [[0, 0, 24, 30], [0, 0, 24, 30], [0, 1, 24, 26]]
    assert new_flow[0, 2, 3].tolist() == [1.25, -0.75]
    assert new_seen.flatten(1).all(dim=1).tolist() == [True, True, False]
    kept = meet_predictions(pairs, flow, seen, logits, share=0.0)
    assert all(torch.equal(a, b) for a, b in zip(kept, (pairs, flow, seen), strict=True))


def test_the_objective_reaches_every_parameter(fixed_batches, tiny_config):
    """All but the bias of the retrieval shares, which a softmax does not feel."""
    torch.manual_seed(0)
    model = VPOGModel(tiny_config)
    objective(model, fixed_batches[0], LossWeights(), offset=2)[0].backward()
    silent = {
        name
        for name, p in model.named_parameters()
        if p.numel() and (p.grad is None or not p.grad.abs().max() > 1e-9)
    }
    assert silent <= {"retrieval_head.share.bias"}


def test_seen_pairs_are_the_labels_under_their_indices(fixed_batches):
    labels = fixed_batches[0].labels(offset=0)
    pairs, flow, seen = seen_pairs(labels)
    assert len(pairs) == (labels.patch_class < 49).sum() > 100
    b, s, i, j = pairs[57].tolist()
    assert labels.patch_class[b, s, i] == j
    assert torch.equal(flow[57], labels.flow[b, s, i])
    assert torch.equal(seen[57], labels.seen[b, s, i])


def test_thirty_steps_on_one_group_overfit_it(training_objects, tiny_config):
    small = VPOGTrainDataset(
        training_objects, Stage([], training_objects), 112, seed=3, queries=2, cluster=2, negatives=2
    )
    batch = batch_of(small, 0)
    torch.manual_seed(0)
    model = VPOGModel(tiny_config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    history = []
    for _ in range(30):
        loss, scores = objective(model, batch, LossWeights(), offset=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append({key: float(value) for key, value in scores.items()})
    first, last = history[0], history[-1]
    # Classification over 50 columns starts near 1.5 x log 50 = 5.9; chance alone does not take a third off.
    assert last["loss"] < 0.75 * first["loss"]
    assert last["classification"] < 0.8 * first["classification"]
    assert last["flow_error"] < first["flow_error"]
    assert last["retrieval"] < first["retrieval"]


def test_a_resumed_run_goes_on_exactly(args, training_objects, fixed_batches):
    batches = fixed_batches * 2
    whole = losses(trainer(args, training_objects), batches)
    begun = trainer(args, training_objects)
    first = losses(begun, batches[:3])
    begun.run.history.append({"step": 3})
    begun.run.seconds = 12.5
    folder = Path(args.output)
    begun.run.save(folder)
    resumed = trainer(args, training_objects)
    assert (resumed.run.step, resumed.run.seconds, resumed.run.history) == (3, 12.5, [{"step": 3}])
    assert first + losses(resumed, batches[3:]) == whole
    assert len(set(whole)) == 6
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoint.pt", "history.json", "weights.safetensors",
    ]  # fmt: skip


def test_the_weights_written_are_the_averaged_ones(args, training_objects, fixed_batches, tmp_path):
    begun = trainer(args, training_objects)
    losses(begun, fixed_batches)
    begun.run.save(tmp_path / "out")
    loaded = load_weights(tmp_path / "out" / "weights.safetensors").state_dict()
    averaged, current = begun.run.ema.state_dict(), begun.run.model.state_dict()
    assert all(torch.equal(loaded[key], averaged[key]) for key in averaged)
    assert any(not torch.equal(averaged[key], current[key]) for key in averaged)


def test_init_takes_weights_with_a_fresh_schedule(args, training_objects, fixed_batches, tmp_path):
    begun = trainer(args, training_objects)
    losses(begun, fixed_batches[:1])
    begun.run.save(tmp_path / "other")
    args.init = str(tmp_path / "other" / "checkpoint.pt")
    fresh = Run.start(args)
    assert fresh.step == 0
    for state in (fresh.model.state_dict(), fresh.ema.state_dict()):
        assert all(torch.equal(state[key], value) for key, value in begun.run.ema.state_dict().items())


def test_train_stops_validates_and_continues(args, training_objects):
    args.minutes = 0.0
    for step in (1, 2):
        run = trainer(args, training_objects)
        run.val_set.length = 2
        run.train()
        assert run.run.step == step
        assert [h["step"] for h in run.run.history] == list(range(1, step + 1))
        assert np.isfinite(run.run.history[-1]["loss"])


def test_learning_rate_warms_up_and_cools_down(args, training_objects):
    args.schedule_steps, args.lr = 1000, 1e-3
    of = trainer(args, training_objects)
    rates = []
    for of.run.step in (0, 99, 199, 600, 1000, 2000):
        rates.append(of.learning_rate())
    assert rates[0] == pytest.approx(1e-3 / 200, rel=1e-3)
    assert rates[1] == pytest.approx(0.5e-3, rel=0.05)
    assert rates[2] > rates[1] > rates[0]
    assert rates[2] > rates[3] > rates[4]
    assert rates[4] == rates[5] == pytest.approx(2e-5)


def test_no_decay_on_biases_and_norms(args):
    decayed, plain = Run.start(args).optimizer.param_groups
    assert decayed["weight_decay"] == args.weight_decay > 0
    assert plain["weight_decay"] == 0.0
    assert all(p.ndim <= 1 for p in plain["params"])
    assert all(p.ndim > 1 for p in decayed["params"])


def test_held_out_objects_are_never_trained_on(args, tmp_path):
    (tmp_path / "meshes").mkdir()
    for i in range(30):
        (tmp_path / "meshes" / f"{i:02d}.ply").touch()
    args.meshes, args.procedural = str(tmp_path / "meshes"), 20
    train, held_out = sources(args)
    assert not set(train) & set(held_out)
    assert sum(s.endswith(".ply") for s in held_out) == -(-30 // HELD_OUT_EVERY)
    assert len(train) + len(held_out) == 30 + 20 + 12
    seeds = [int(s[5:]) for s in held_out if s.startswith("seed:")]
    assert min(seeds) == HELD_OUT_SEED
