"""Test a step of training: schedule, decay, averages, precision, recomputation, order of the data."""

import inspect
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

pytest.importorskip("lightning")

from vpog_core.geometry.se3 import rotation_z, transform
from vpog_core.models.refiner import RefinerNet
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.training.data.batch import Batch
from vpog_core.training.data_module import ConsecutiveBatches, rank_batches
from vpog_core.training.lightning_module import BatchPosition, VPOGLightning, decay_groups
from vpog_core.training.losses import compute
from vpog_core.training.losses.compute import compute_losses
from vpog_core.training.losses.config import LossConfig, LossOptions
from vpog_core.training.losses.labels import matching_labels
from vpog_core.training.losses.pose import pose_loss
from vpog_core.training.mixed_precision import NETWORK_METHODS, FullPrecisionOutside
from vpog_core.training.train_config import OptimizerConfig, SchedulerConfig

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def network(small_config) -> VPOGModel:
    torch.manual_seed(0)
    return VPOGModel(small_config)


@pytest.fixture
def module(network) -> VPOGLightning:
    return VPOGLightning(
        network, LossConfig(), OptimizerConfig(), SchedulerConfig(), batch_size=1, epoch_steps=500
    )


@pytest.fixture
def batch() -> Batch:
    """Return a flat disc in front of five cameras that are turned against each other."""
    y, x = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
    depth = ((x - 55.5) ** 2 + (y - 55.5) ** 2 < 1600).float().expand(1, 5, -1, -1)
    K = torch.tensor([[200.0, 0, 55.5], [0, 200, 55.5], [0, 0, 1]]).expand(1, 5, 3, 3)
    T = torch.stack([torch.tensor(transform(rotation_z(0.1 * n), [0.01 * n, 0, 1.0])) for n in range(5)])[
        None
    ].float()
    rgb = torch.randint(
        0, 255, (1, 5, 112, 112, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )
    return Batch(
        rgb[:, :2], depth[:, :2], K[:, :2], T[:, :2], rgb[:, 2:], depth[:, 2:4], K[:, 2:4], T[:, 2:],
        torch.tensor([[[0.0, 0, -1]] * 2]), torch.tensor([0.4]), torch.full((1, 2, 3), 0.3),
        torch.zeros(1, 2, 112, 112, dtype=torch.bool),
    )  # fmt: skip


def test_the_epochwise_rate_is_torchs_cosine_annealing(module):
    """After the warm-up: T_max 100, eta_min 1e-6, one step of torch's schedule an epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-4)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100, eta_min=1e-6)
    for epoch in range(1, 101):
        optimizer.step()
        torchs.step()
        ours = [1e-4 * module.rate(500 * epoch + step) for step in (0, 499)]
        assert ours == pytest.approx([torchs.get_last_lr()[0]] * 2, rel=1e-9)
    assert 1e-4 * module.rate(10**6) == pytest.approx(1e-6)


def test_the_stepwise_rate_goes_down_at_every_step(module):
    module.scheduler = SchedulerConfig(t_max=2, eta_min=1e-5, stepwise=True, warmup_steps=200)
    assert [module.rate(k) for k in (0, 99)] == pytest.approx([1 / 200, 0.5], rel=0.03)
    rates = [module.rate(k) for k in range(200, 1001)]
    assert all(a > b for a, b in pairwise(rates))
    assert module.rate(500) == pytest.approx((1 + 0.1) / 2)
    assert module.rate(1000) == module.rate(5000) == pytest.approx(0.1)


def test_the_rate_may_stay_and_fall_at_the_end_alone(module):
    module.scheduler = SchedulerConfig(t_max=4, decay=0.25, eta_min=1e-5, stepwise=True, warmup_steps=0)
    assert [module.rate(step) for step in (0, 700, 1500)] == [1.0] * 3
    assert module.rate(1750) == pytest.approx((1 + 0.1) / 2)
    assert module.rate(2000) == pytest.approx(0.1)
    # Made twice as long before it falls, the run goes on as if it had been begun so.
    module.scheduler.t_max = 8
    assert module.rate(1500) == module.rate(2999) == 1.0


def test_retrieval_alone_is_trained_in_between(module, batch):
    module.loss = LossConfig(options=LossOptions(matching_every=3, pose_patches=4, pose_samples=16))
    terms = [
        set(module.training_losses(module.network, batch, BatchPosition(step, step))[1]) for step in range(4)
    ]
    assert "flow" in terms[0] & terms[3]
    assert all("retrieval" in found for found in terms)
    assert not any("flow" in found or "classification" in found for found in terms[1:3])
    assert "flow" in module.validation_losses(module.network, batch)[1]


def test_all_processes_match_in_the_same_steps_and_supervise_every_pixel(module, batch, monkeypatch):
    """Two processes take batches in turn; both match in the first of two steps."""
    seen = []
    monkeypatch.setattr(
        "vpog_core.training.lightning_module.compute_losses",
        lambda network, batch, weights, **options: seen.append((weights.flow > 0, options["offset"])),
    )
    module.loss = LossConfig(options=LossOptions(matching_every=2))
    for step in range(16):
        for rank in (0, 1):
            module.training_losses(module.network, batch, BatchPosition(2 * step + rank, step, batches=2))
    assert [matched for matched, _ in seen] == [True, True, False, False] * 8
    assert len({offset for matched, offset in seen if matched}) == 16


def test_validation_scores_the_poses_of_all_queries(module, batch, monkeypatch):
    queries = []

    def counted(found, K, *args):
        queries.append(len(K))
        return pose_loss(found, K, *args)

    monkeypatch.setattr(compute, "pose_loss", counted)
    module.loss = LossConfig(options=LossOptions(pose_queries=1, pose_patches=4, pose_samples=16))
    module.training_losses(module.network, batch, BatchPosition())
    assert "pose_fraction" in module.validation_losses(module.network, batch)[1]
    assert queries == [1, 2]


def test_biases_norms_and_frozen_parts_do_not_decay(network):
    network.freeze_encoder()
    decayed, plain = decay_groups(network, 0.02)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.02, 0.0)
    names = {id(p): name for name, p in network.named_parameters()}
    found = [{names[id(p)] for p in group["params"]} for group in (decayed, plain)]
    assert "aa_module.global_blocks.0.attn.qkv.weight" in found[0]
    assert {"norm.weight", "norm.bias", "classification_head.query.bias"} & set(names.values()) <= found[1]
    assert not any(name.startswith("encoder.") for name in found[0] | found[1])
    assert all(p.ndim > 1 for p in decayed["params"])


def test_the_average_follows_at_once_and_then_slowly(module):
    with torch.no_grad():
        for p in module.averaged.parameters():
            p.zero_()
        for p in module.network.parameters():
            p.fill_(1.0)
    module.update_average(step=1)  # keeps 2 / 11 of what was
    weight = module.averaged.norm.weight
    assert weight[0].item() == pytest.approx(9 / 11)
    module.update_average(step=10**6)  # keeps 0.998
    assert weight[0].item() == pytest.approx(1 - 2 / 11 * 0.998)
    assert not any(p.requires_grad for p in module.averaged.parameters())


def test_a_step_without_a_finite_gradient_is_left_out(module, monkeypatch):
    monkeypatch.setattr(module, "log", lambda *args, **kwargs: None)
    optimizer = module.configure_optimizers()["optimizer"]
    weight = module.network.norm.weight
    before = weight.detach().clone()
    for gradient, moved in ((torch.nan, False), (1.0, True)):
        for p in module.network.parameters():
            p.grad = torch.full_like(p, gradient)
        module.configure_gradient_clipping(optimizer)
        optimizer.step()
        assert torch.isfinite(weight).all()
        assert torch.equal(weight, before) != moved


def test_gradients_are_clipped_by_their_norm(module, monkeypatch):
    monkeypatch.setattr(module, "log", lambda *args, **kwargs: None)
    for limit, expected in ((0.5, 0.5), (0.0, None)):
        module.optimizer = OptimizerConfig(clip=limit)
        for p in module.network.parameters():
            p.grad = torch.ones_like(p)
        count = sum(p.numel() for p in module.network.parameters())
        module.configure_gradient_clipping(module.configure_optimizers()["optimizer"])
        norm = torch.stack([p.grad.norm() for p in module.network.parameters() if p.numel()]).norm()
        assert norm.item() == pytest.approx(expected or count**0.5, rel=1e-4)


def test_recomputed_blocks_give_equal_gradients(network, batch):
    """Blocks of each kind are computed twice: encoder, global, and local for query and for templates.

    The encoder block is computed once for the further templates, which have no backward pass.
    """

    def gradients() -> tuple[dict, int]:
        blocks = (
            *network.encoder.enc_blocks,
            *network.aa_module.global_blocks,
            *network.aa_module.local_blocks,
        )
        calls = []
        hooks = [block.norm1.register_forward_hook(lambda *args: calls.append(1)) for block in blocks]
        network.zero_grad()
        torch.manual_seed(0)
        compute_losses(network, batch, LossConfig().weights, offset=(1, 3))[0].backward()
        for hook in hooks:
            hook.remove()
        return {k: p.grad.clone() for k, p in network.named_parameters() if p.grad is not None}, len(calls)

    plain, once = gradients()
    VPOGLightning(
        network, LossConfig(), OptimizerConfig(), SchedulerConfig(), batch_size=1, epoch_steps=1
    ).checkpoint_blocks()
    recomputed, twice = gradients()
    assert twice == 2 * once - 1
    assert all(torch.equal(recomputed[key], plain[key]) for key in plain)


def test_under_autocast_the_network_is_in_bfloat16_and_the_labels_are_not(network, batch):
    exact_labels, exact = matching_labels(batch, (0, 2)), network.encode(batch.images()).tokens
    with torch.autocast("cpu", dtype=torch.bfloat16), FullPrecisionOutside(network, "cpu") as guarded:
        labels, tokens = matching_labels(batch, (0, 2)), guarded.encode(batch.images()).tokens
    assert torch.equal(labels.flow, exact_labels.flow)
    assert torch.equal(labels.patch_class, exact_labels.patch_class)
    assert tokens.dtype == torch.float32
    assert 1e-4 < (tokens - exact).abs().max() < 0.3  # eight bits of tokens of about unit length
    with FullPrecisionOutside(network, "cpu") as guarded:
        assert torch.equal(guarded.encode(batch.images()).tokens, exact)


def test_processes_take_batches_in_turn_and_none_twice():
    ranks = [list(ConsecutiveBatches(2, batches=3, rank=r, ranks=2)) for r in (0, 1)]
    assert ranks == [[[0, 1], [4, 5], [8, 9]], [[2, 3], [6, 7], [10, 11]]]
    resumed = ConsecutiveBatches(2, batches=3, done=1, first=4, rank=1, ranks=2)
    assert list(resumed) == ranks[1][1:]
    assert len(resumed) == 3  # what is done counts in the progress bar
    # One process goes on with batches of three, where two with batches of two have stopped.
    alone = ConsecutiveBatches(3, batches=3, done=1, first=4)
    assert list(alone) == [[4, 5, 6], [7, 8, 9]]
    assert alone.end == 10


def test_every_validation_item_has_a_process_and_all_have_equally_many():
    assert rank_batches(5, 2, 0, 1) == [[0, 1], [2, 3], [4]]
    parts = [rank_batches(5, 2, rank, 2) for rank in (0, 1)]
    assert parts == [[[0, 2], [4]], [[1, 3], [0]]]


def test_photometry_on_the_device_changes_queries_alone(module, batch, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "vpog_core.training.lightning_module.compute_losses", lambda n, b, *args, **kw: seen.append(b)
    )
    batch.query_outside[:, :, :30] = True
    for module.photometry in (False, True):
        module._in_precision(module.training_losses, module.network, batch, BatchPosition())
    assert seen[0] is batch
    assert not torch.equal(seen[1].query_rgb, batch.query_rgb)
    assert seen[1] == replace(batch, query_rgb=seen[1].query_rgb)
    # Beyond the border of the camera's image they are black, whatever is done to the rest.
    assert not seen[1].query_rgb[:, :, :30].any()
    assert seen[1].query_rgb[:, :, 30:].float().mean() > 50


def test_every_method_of_the_networks_runs_in_the_trainer_s_precision():
    """Only `freeze_encoder`, which computes nothing, does not; a method that is renamed or new fails here."""
    own = {
        name
        for network in (VPOGModel, RefinerNet)
        for name, value in vars(network).items()
        if inspect.isfunction(value) and not name.startswith("_") and name not in vars(torch.nn.Module)
    }
    assert own - {"freeze_encoder", "forward"} == set(NETWORK_METHODS)
