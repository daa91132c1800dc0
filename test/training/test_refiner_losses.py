"""Test the refiner's losses: each lowers what it is about, and perfect output costs least."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vpog_core.geometry.se3 import rotation_y
from vpog_core.geometry.se3_torch import rotation_log
from vpog_core.inference.comparison_solver import refined_pose
from vpog_core.models.refiner import Comparison, Correlation, RefinerNet
from vpog_core.training.losses.refiner import (
    RefinerLossConfig,
    coarse_labels,
    correlation_loss,
    laplace_loss,
    median_pose_errors,
    refined_pose_errors,
    refiner_labels,
    refiner_losses,
    visibility_accuracy,
    visibility_loss,
)
from vpog_core.types import VPOGError

pytestmark = pytest.mark.usefixtures("one_thread")

TERMS = ("correlation", "coarse_flow", "flow", "visibility", "pose")


def alone(**counts: float) -> RefinerLossConfig:
    """Return weights by which only the terms that are named count."""
    return RefinerLossConfig(**{term: counts.get(term, 0.0) for term in TERMS}, pose_samples=32)


@pytest.fixture(scope="module")
def labels(refiner_batch):
    return refiner_labels(refiner_batch)


@pytest.fixture(scope="module")
def perfect(labels) -> Comparison:
    """Make the answer of a refiner without fault."""
    flow = labels.flow.permute(0, 3, 1, 2)
    score = torch.zeros(len(flow))
    return Comparison(flow, torch.full(flow[:, 0].shape, -2.5), 20.0 * labels.visible - 10.0, score)


@pytest.fixture
def network(refiner_config) -> RefinerNet:
    """Return a network with output in every layer: an untrained one's is zero, and stops gradients."""
    torch.manual_seed(0)
    network = RefinerNet(refiner_config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize(
    ("term", "scores"),
    [
        ("correlation", ["loss_fine_correlation", "loss_coarse_correlation"]),
        ("coarse_flow", ["loss_coarse_flow"]), ("flow", ["loss_flow", "flow_error"]),
        ("visibility", ["loss_visibility"]), ("pose", ["loss_pose"]),
    ],
)  # fmt: skip
def test_each_term_lowers_what_it_is_about(network, refiner_batch, labels, term, scores):
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    seen = []
    for _ in range(20):
        torch.manual_seed(1)
        trace = network.trace(*refiner_batch.inputs())
        loss, found = refiner_losses(trace, labels, refiner_batch, alone(**{term: 1.0}))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(found)
    for score in scores:
        before, after = (seen[n][score].item() for n in (0, -1))
        assert after < before - 0.03 * abs(before), score


def test_gradients_reach_every_parameter(network, refiner_batch, labels):
    trace = network.trace(*refiner_batch.inputs())
    loss, _ = refiner_losses(trace, labels, refiner_batch, RefinerLossConfig(pose_samples=32))
    loss.backward()
    for name, parameter in network.named_parameters():
        if name.startswith("scorer."):  # it is trained by itself, see test_scorer_run
            assert parameter.grad is None
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_the_labels_explain_the_true_pose(refiner_batch, labels, perfect):
    """A comparison made of the labels gives the pose of the image."""
    of, T = refiner_batch, refiner_batch.T_true
    pixels = labels.pixels.expand_as(labels.flow)
    solution = refined_pose(perfect, pixels, labels.points, labels.on_object, of.K, of.T_start)
    good = labels.visible.flatten(1).sum(dim=1) >= 8
    assert good.sum() >= 4
    assert solution.valid[good].all()
    turn = rotation_log(solution.T[:, :3, :3] @ T[:, :3, :3].mT).norm(dim=-1)
    shift = (solution.T[:, :3, 3] - T[:, :3, 3]).norm(dim=-1) / of.diameter
    # float32 pixels of a frame of 32, and depths of metres in float32.
    assert turn[good].rad2deg().max() < 0.2
    assert shift[good].max() < 0.01


def test_perfect_answers_have_the_scores_of_perfect_ones(refiner_batch, labels, perfect):
    loss, scores = laplace_loss(perfect, labels)
    assert loss.item() == pytest.approx(-2.5)
    assert scores["flow_error"] == scores["flow_lost"] == 0
    start = labels.flow.norm(dim=-1)[labels.visible].mean().item()
    assert scores["flow_start"].item() == pytest.approx(start, rel=1e-5)
    assert visibility_accuracy(perfect.visibility, labels) == 1
    assert visibility_loss(perfect.visibility, labels) < 1e-3
    poses = median_pose_errors(refined_pose_errors(perfect, labels, refiner_batch), labels.same_view)
    assert poses["rotation_error"] < 0.1 < 1 < poses["rotation_start"]
    assert poses["translation_error"] < 0.005 < poses["translation_start"]


def test_medians_are_of_pairs_of_the_same_view():
    errors = torch.tensor([[1.0], [9.0], [2.0], [8.0], [3.0]]).expand(-1, 4)
    same_view = torch.tensor([True, False, True, False, True])
    assert all(value == 2.0 for value in median_pose_errors(errors, same_view).values())
    none = torch.zeros(5, dtype=torch.bool)
    assert all(value == 3.0 for value in median_pose_errors(errors, none).values())


def test_the_likelihood_is_best_at_the_scale_of_the_errors(labels, perfect):
    """Where errors are 2 pixels on both axes, their mean absolute value is the best scale."""
    wrong = replace(perfect, flow=perfect.flow + 2.0)
    losses = [
        laplace_loss(replace(wrong, log_scale=torch.full_like(perfect.log_scale, value)), labels)[0]
        for value in torch.tensor([1.0, 2.0, 4.0]).log()
    ]
    assert losses[1] < losses[0]
    assert losses[1] < losses[2]
    assert losses[1].item() == pytest.approx(1 + torch.tensor(2.0).log().item())


def test_hidden_cells_cost_no_flow_and_background_no_visibility(labels, perfect):
    torch.manual_seed(0)
    noise = 50 * torch.randn_like(perfect.flow) * ~labels.visible[:, None]
    assert laplace_loss(replace(perfect, flow=perfect.flow + noise), labels)[0].item() == pytest.approx(-2.5)
    other = perfect.visibility + 40.0 * torch.randn_like(perfect.visibility) * ~labels.on_object
    assert visibility_loss(other, labels) == visibility_loss(perfect.visibility, labels)


def test_the_correlation_s_target_is_spread_over_four_neighbours():
    """A shift of (0.25, -0.5) cells in a window of 3 x 3 gives weights 3/8, 3/8, 1/8, 1/8."""
    torch.manual_seed(0)
    logits = torch.randn(1, 1, 9)
    seen = Correlation(logits, torch.zeros(1, 1, 2, dtype=torch.long))
    shift, visible = torch.tensor([0.25, -0.5]).view(1, 1, 1, 2), torch.ones(1, 1, 1, dtype=torch.bool)
    log_p = logits[0, 0].log_softmax(dim=-1)
    # Row-major: 1 is above the middle, 4 the middle, 2 and 5 are right of these.
    expected = -(0.375 * (log_p[1] + log_p[4]) + 0.125 * (log_p[2] + log_p[5]))
    torch.testing.assert_close(correlation_loss(seen, shift, visible), expected)
    moved = Correlation(logits, torch.full((1, 1, 2), 7))
    torch.testing.assert_close(correlation_loss(moved, shift + 7, visible), expected)
    for outside in (shift + 1.0, shift - 1.0):
        assert correlation_loss(seen, outside, visible) == 0
    assert correlation_loss(seen, shift, ~visible) == 0


def test_a_coarse_cell_is_the_mean_of_the_visible_ones_of_its_four(labels):
    flow, visible = coarse_labels(labels)
    assert flow.shape[1:] == (4, 4, 2)
    for n, i, j in ((0, 1, 1), (2, 2, 1), (3, 1, 2), (4, 2, 2)):
        four = labels.visible[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        assert visible[n, i, j].item() == (four.sum() >= 2)
        if visible[n, i, j]:
            mean = labels.flow[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2][four].mean(dim=0)
            torch.testing.assert_close(flow[n, i, j], mean)


def turned_to_other_views(batch, degrees: float):
    """Return a batch whose renders are said to be of poses turned by an angle from the true ones."""
    T_start = batch.T_true.clone()
    turn = torch.from_numpy(rotation_y(np.radians(degrees))).to(T_start)
    T_start[:, :3, :3] = T_start[:, :3, :3] @ turn
    return replace(batch, T_start=T_start)


@pytest.mark.parametrize(("degrees", "same"), [(40.0, True), (80.0, False)])
def test_nothing_of_another_view_is_visible(refiner_batch, degrees, same):
    labels = refiner_labels(turned_to_other_views(refiner_batch, degrees))
    assert labels.same_view.tolist() == [same] * len(refiner_batch.diameter)
    assert bool(labels.visible.any()) is same


def test_pairs_of_other_views_teach_visibility_alone(network, refiner_batch):
    batch = turned_to_other_views(refiner_batch, 80.0)
    labels = refiner_labels(batch)
    trace = network.trace(*batch.inputs())
    _, scores = refiner_losses(trace, labels, batch, replace(RefinerLossConfig(), pose_samples=32))
    taught = {name for name in scores if name.startswith("loss_") and scores[name] != 0}
    assert taught == {"loss_visibility"}
    assert scores["visible_other_view"] > 0
    assert "visible_same_view" not in scores


def test_a_batch_without_a_visible_cell_costs_no_nan(network, refiner_batch):
    hidden = replace(refiner_batch, image_depth=torch.zeros_like(refiner_batch.image_depth))
    loss, scores = refiner_losses(
        network.trace(*hidden.inputs()), refiner_labels(hidden), hidden, RefinerLossConfig(pose_samples=32)
    )
    loss.backward()
    assert all(value.isfinite() for value in scores.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"flow": -1.0}, r"refiner_loss\.flow is -1\.0: give 0 or more"),
        ({"pose": float("nan")}, r"refiner_loss\.pose is nan"),
        ({"pose_pairs": 0}, r"refiner_loss\.pose_pairs is 0: give 1 or more"),
        ({"pose_samples": 4}, r"refiner_loss\.pose_samples is 4: give 16 or more"),
    ],
)
def test_weights_that_cannot_be_are_refused(values, sentence):
    with pytest.raises(VPOGError, match=sentence):
        RefinerLossConfig(**values)
