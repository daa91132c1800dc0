from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from vpog_core.models.vpog_model import VPOGModel
from vpog_core.training.data.batch import Batch
from vpog_core.training.data.vpog_dataset import VPOGTrainDataset
from vpog_core.training.losses.compute import compute_losses, mix_in_predictions, seen_pairs, supervised_pixel
from vpog_core.training.losses.config import LossConfig, LossOptions, LossWeights
from vpog_core.training.losses.labels import matching_labels
from vpog_core.training.losses.retrieval import retrieval_loss
from vpog_core.training.synthesis.scene_assets import SceneAssets
from vpog_core.types import VPOGError

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = tuple(asdict(LossWeights()))
NOTHING = LossWeights(**dict.fromkeys(NAMES, 0.0))


@pytest.fixture(scope="module")
def batch(training_objects) -> Batch:
    """Return one sample: two queries, two templates to match, 24 more for retrieval."""
    small = VPOGTrainDataset(
        training_objects, SceneAssets([], training_objects), 112, seed=3, queries=2, cluster=2, negatives=24
    )
    sample = small[0]
    return Batch(**{key: torch.from_numpy(np.asarray(value))[None] for key, value in sample.items()})


@pytest.fixture
def model(tiny_config) -> VPOGModel:
    torch.manual_seed(0)
    return VPOGModel(tiny_config)


def only(name, weight=1.0) -> LossWeights:
    return replace(NOTHING, **{name: weight})


def test_the_loss_is_the_weighted_sum_of_its_parts(model, batch):
    weights = LossWeights(regularization=0.01)
    loss, scores = compute_losses(model, batch, weights, offset=(1, 3))
    assert loss.requires_grad
    assert not any(v.requires_grad for v in scores.values())
    assert all(torch.isfinite(v) for v in scores.values())
    assert set(NAMES) < set(scores)
    expected = sum(getattr(weights, name) * scores[name] for name in NAMES)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_part_alone(model, batch, name):
    """A term of weight 0 is neither computed nor scored, and is no part of the loss."""
    loss, scores = compute_losses(model, batch, only(name, 2.0), offset=(1, 3))
    assert [part for part in NAMES if part in scores] == [name]
    assert loss.item() == pytest.approx(2 * scores[name].item(), rel=1e-5)


def test_what_no_part_needs_is_not_run(model, batch, monkeypatch):
    def forbidden(*args):
        raise AssertionError

    for method in ("match", "encode", "describe", "encoder_logits", "flow_of_pairs"):
        monkeypatch.setattr(model, method, forbidden)
    compute_losses(model, batch, only("regularization"), offset=(0, 2))
    assert compute_losses(model, batch, NOTHING, offset=(0, 2))[0] == 0.0


def test_every_pixel_of_a_patch_is_supervised_in_turn(model, batch):
    """Flow and confidence meet every pixel, over as many steps as there are pixels in 4x4."""
    head = model.flow_head
    for step in range(16):
        compute_losses(model, batch, only("flow"), offset=supervised_pixel(step))[0].backward()
    assert (head.residual.weight.grad.abs().amax(dim=1) > 0).all()
    assert (head.confidence.weight.grad.abs().amax(dim=1) > 0).all()


def mean_scores(model, batch, name):
    """Return means over four offsets, flow of the true patches; what is drawn is the same at each call."""
    torch.manual_seed(1)
    with torch.no_grad():
        scores = [
            compute_losses(model, batch, only(name), offset=(k, k), predicted_fraction=0.0)[1]
            for k in range(4)
        ]
    return {key: torch.stack([s[key] for s in scores]).mean().item() for key in scores[0]}


METRICS = [
    ("classification", "seen_accuracy", "more", 0.3),
    ("encoder_classification", "encoder_seen_accuracy", "more", 0.3),
    ("flow", "flow_error", "less", 0.8),
    ("retrieval", "retrieval", "less", 0.8),
    ("regularization", "weight_rms", "less", 0.8),
    ("pose", "rotation_error", "less", 0.6),
]


@pytest.mark.parametrize(("name", "metric", "goal", "bound"), METRICS)
def test_each_part_alone_lowers_its_own_metric(model, batch, name, metric, goal, bound):
    """Steps on one object: accuracies gain `bound`, errors fall to that fraction of where they began."""
    before = mean_scores(model, batch, name)
    # The best of many placements changes from step to step where those are large.
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3 if name == "retrieval" else 3e-3)
    torch.manual_seed(2)
    for step in range(25 if name in ("flow", "pose", "retrieval") else 12):
        loss, _ = compute_losses(
            model, batch, only(name), offset=supervised_pixel(step), predicted_fraction=0.0
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    after = mean_scores(model, batch, name)
    assert after[name] < before[name]
    if goal == "more":
        assert after[metric] > before[metric] + bound
    else:
        assert after[metric] < bound * before[metric]


@torch.no_grad()
def test_retrieval_trains_the_score_that_inference_asks(model, batch):
    """The loss is of all templates, though those beside the cluster are encoded without gradient."""

    def encoded(rgb):
        return model.encode(rgb[0].permute(0, 3, 1, 2))

    crops, templates = encoded(batch.query_rgb), encoded(batch.template_rgb)
    logits = model.retrieval_head.logits(model.describe(crops), model.describe_templates(templates))
    expected = retrieval_loss(logits, batch.rotation_distance()[0])[0]
    assert compute_losses(model, batch, only("retrieval"), (0, 0))[0].item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_the_encoder_learns_from_what_is_matched_alone(model, batch):
    """Further templates cost no backward pass: nothing of them reaches the encoder."""
    without = replace(
        batch,
        template_rgb=batch.template_rgb[:, :2],
        template_T=batch.template_T[:, :2],
        distance=batch.distance[..., :2],
    )
    sizes = []
    real = model.encode
    model.encode = lambda images: sizes.append((len(images), torch.is_grad_enabled())) or real(images)
    compute_losses(model, batch, only("retrieval"), (0, 0))
    compute_losses(model, without, only("retrieval"), (0, 0))
    assert sizes == [(4, True), (24, False), (4, True)]


@pytest.mark.parametrize("emptied", ["query_depth", "template_depth"])
def test_a_batch_without_a_single_match_is_no_nan(model, batch, emptied):
    empty = replace(batch, **{emptied: torch.zeros_like(getattr(batch, emptied))})
    assert (matching_labels(empty, (0, 2)).patch_class == 49).all()
    loss, scores = compute_losses(model, empty, LossWeights(), offset=(0, 2))
    loss.backward()
    assert all(torch.isfinite(v) for v in scores.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert scores["flow_error"] == scores["seen_accuracy"] == 0.0
    if emptied == "template_depth":  # nothing to lift the matches onto
        assert scores["pose"] == scores["pose_fraction"] == 0.0


def test_the_objective_reaches_every_parameter(model, batch):
    compute_losses(model, batch, LossWeights(regularization=0.0), offset=(2, 0))[0].backward()
    silent = {
        name
        for name, p in model.named_parameters()
        if p.numel() and (p.grad is None or not p.grad.abs().max() > 1e-9)
    }
    assert not silent


@pytest.mark.parametrize(
    "change",
    [{"label_smoothing": 0.1}, {"unseen_weight": 0.0}, {"flow_kind": "huber"}, {"confidence_weighting": 1.0}],
)
def test_options_reach_their_losses(model, batch, change):
    name = "flow" if {"flow_kind", "confidence_weighting"} & set(change) else "classification"
    torch.manual_seed(0)
    before = compute_losses(model, batch, only(name), (1, 3))[1][name]
    torch.manual_seed(0)
    assert compute_losses(model, batch, only(name), (1, 3), options=LossOptions(**change))[1][name] != before


def test_the_pose_loss_takes_as_many_queries_as_asked(model, batch, monkeypatch):
    sizes = []
    real = model.flow_of_pairs
    monkeypatch.setattr(model, "flow_of_pairs", lambda m, pairs: sizes.append(len(pairs)) or real(m, pairs))
    for queries in (1, 2, 9):
        options = LossOptions(pose_queries=queries, pose_patches=5, pose_samples=16)
        compute_losses(model, batch, only("pose"), (1, 3), options=options)
    assert sizes == [5, 10, 10]


def test_the_pose_loss_takes_queries_of_every_group(model, batch, monkeypatch):
    two = Batch(**{key: torch.cat((value, value)) for key, value in vars(batch).items()})
    two.query_T[1, :, 2, 3] += 0.01
    poses = []

    def watched(found, K, T_true, *args):
        poses.append(T_true)
        return K.new_zeros(()), {}

    monkeypatch.setattr("vpog_core.training.losses.compute.pose_loss", watched)
    for queries in (1, 2, 4):
        compute_losses(model, two, only("pose"), (1, 3), options=LossOptions(pose_queries=queries))
    assert torch.equal(poses[0], two.query_T[:1, 0])
    assert torch.equal(poses[1], two.query_T[:, 0])
    assert torch.equal(poses[2], two.query_T.flatten(0, 1))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"flow_kind": "l2"}, "flow_kind is 'l2'"),
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5"),
        ({"huber_px": 0.0}, "huber_px is 0.0"),
        ({"unseen_weight": -1.0}, "unseen_weight is -1.0"),
        ({"pose_samples": 3}, "pose_samples is 3"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, sentence):
    with pytest.raises(VPOGError, match=sentence):
        LossOptions(**options)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_weights_that_cannot_be_are_refused(value):
    with pytest.raises(VPOGError, match="weight of 'pose'"):
        LossWeights(pose=value)


def test_the_whole_configuration_is_two_mappings():
    """A YAML file gives them: `weights` and `options`, one to one."""
    whole = asdict(LossConfig())
    assert set(whole) == {"weights", "options"}
    assert LossConfig(LossWeights(**whole["weights"]), LossOptions(**whole["options"])) == LossConfig()


def test_predicted_patches_take_the_place_of_true_ones():
    """The flow makes up for a neighbouring patch; farther off, the pair is unseen."""
    pairs = torch.tensor([[0, 0, 24, 24], [0, 0, 24, 24], [0, 1, 24, 24]])
    flow, seen = torch.full((3, 4, 4, 2), 0.25), torch.ones(3, 4, 4, dtype=torch.bool)
    logits = torch.zeros(1, 2, 49, 50)
    logits[0, 0, 24, 24 + 7 - 1] = 5.0  # one down, one to the left
    logits[0, 1, 24, 24 + 2] = 5.0
    logits[..., 49] = 9.0  # 'unseen' is no patch
    new_pairs, new_flow, new_seen = mix_in_predictions(pairs, flow, seen, logits, fraction=1.0)
    assert new_pairs.tolist() == [[0, 0, 24, 30], [0, 0, 24, 30], [0, 1, 24, 26]]
    assert new_flow[0, 2, 3].tolist() == [1.25, -0.75]
    assert new_seen.flatten(1).all(dim=1).tolist() == [True, True, False]
    kept = mix_in_predictions(pairs, flow, seen, logits, fraction=0.0)
    assert all(torch.equal(a, b) for a, b in zip(kept, (pairs, flow, seen), strict=True))


def test_seen_pairs_are_the_labels_under_their_indices(batch):
    labels = matching_labels(batch, offset=(0, 2))
    pairs, flow, seen = seen_pairs(labels)
    assert len(pairs) == (labels.patch_class < 49).sum() > 20
    b, s, i, j = pairs[17].tolist()
    assert labels.patch_class[b, s, i] == j
    assert torch.equal(flow[17], labels.flow[b, s, i])
    assert torch.equal(seen[17], labels.seen[b, s, i])
