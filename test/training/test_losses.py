import math

import pytest
import torch

from vpog_core.models.flow_head import CELLS, REACH, Flow, cell_offsets
from vpog_core.training.losses.classification import classification_loss, masked_mean
from vpog_core.training.losses.config import LossOptions
from vpog_core.training.losses.flow import (
    calibration_error,
    confidence_weights,
    correlation_loss,
    flow_loss,
    huber,
)
from vpog_core.training.losses.retrieval import SOFTNESS, retrieval_loss

UNSEEN = 9


def logits_for(answer, sharpness=8.0):
    return sharpness * torch.nn.functional.one_hot(answer, UNSEEN + 1).float()


@pytest.fixture
def target():
    """Return [1, 2, 9]: seen patches in both templates, unseen ones, too."""
    torch.manual_seed(0)
    t = torch.randint(0, UNSEEN, (1, 2, 9))
    t[..., ::3] = UNSEEN
    return t


def test_masked_mean_of_nothing_is_zero():
    values = torch.tensor([1.0, 3.0, 8.0], requires_grad=True)
    assert masked_mean(values, torch.tensor([True, True, False])) == 2.0
    nothing = masked_mean(values, torch.zeros(3, dtype=torch.bool))
    nothing.backward()
    assert nothing == 0.0
    assert torch.equal(values.grad, torch.zeros(3))


def test_right_classes_cost_less(target):
    correct, scores = classification_loss(logits_for(target), target)
    wrong, wrong_scores = classification_loss(logits_for((target + 1) % (UNSEEN + 1)), target)
    assert correct < 0.02
    assert wrong > 5.0
    assert (scores["seen_accuracy"], scores["unseen_accuracy"]) == (1.0, 1.0)
    assert (wrong_scores["seen_accuracy"], wrong_scores["unseen_accuracy"]) == (0.0, 0.0)


def test_seen_and_unseen_are_weighed_apart(target):
    """Uniform logits cost log 10 for each kind, however many patches are of it."""
    loss, _ = classification_loss(torch.zeros(1, 2, 9, UNSEEN + 1), target, unseen_weight=0.5)
    assert loss == pytest.approx(1.5 * math.log(UNSEEN + 1), rel=1e-5)


@pytest.mark.parametrize("only", [UNSEEN, 2])
def test_one_kind_alone_is_no_nan(only):
    target = torch.full((1, 2, 9), only)
    logits = torch.zeros(1, 2, 9, UNSEEN + 1, requires_grad=True)
    loss, scores = classification_loss(logits, target)
    loss.backward()
    fraction = 0.5 if only == UNSEEN else 1.0
    assert loss.item() == pytest.approx(fraction * math.log(UNSEEN + 1), rel=1e-5)
    assert torch.isfinite(logits.grad).all()
    assert all(torch.isfinite(v) for v in scores.values())


@pytest.mark.parametrize("added", [2, 3])
def test_several_unseen_columns_are_one_class(target, added):
    """Their probabilities add up: the same loss and scores as one column with the logsumexp."""
    torch.manual_seed(1)
    logits = torch.randn(1, 2, 9, UNSEEN + added)
    merged = torch.cat((logits[..., :UNSEEN], logits[..., UNSEEN:].logsumexp(dim=-1, keepdim=True)), dim=-1)
    (loss, scores), (expected, expected_scores) = (classification_loss(v, target) for v in (logits, merged))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert scores == expected_scores
    # Two columns that lose to a patch one by one may win together.
    near = torch.full((1, 1, 9, UNSEEN + 2), -9.0)
    near[..., 0], near[..., UNSEEN:] = 1.0, 0.5
    assert classification_loss(near, torch.full((1, 1, 9), UNSEEN))[1]["unseen_accuracy"] == 1.0


def test_label_smoothing_asks_for_a_share_of_every_class(target):
    """The loss is least at log odds of (1 - e + e / n) to e / n, and is the softened label's entropy."""
    classes, fraction = UNSEEN + 1, 0.2
    top, rest = 1 - fraction + fraction / classes, fraction / classes
    best = math.log(top / rest)
    entropy = -top * math.log(top) - (classes - 1) * rest * math.log(rest)
    at_best, sharper, flatter = (
        classification_loss(logits_for(target, s), target, label_smoothing=fraction)[0]
        for s in (best, best + 1, best - 1)
    )
    assert at_best.item() == pytest.approx(1.5 * entropy, rel=1e-5)
    assert sharper > at_best
    assert flatter > at_best


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}])
def test_classification_gradient(target, options):
    torch.manual_seed(2)
    logits = torch.randn(1, 2, 9, UNSEEN + 2, requires_grad=True)
    classification_loss(logits, target, **options)[0].backward()
    step = torch.randn_like(logits) * 1e-2
    ends = [classification_loss(logits.detach() + k * step, target, **options)[0] for k in (1, -1)]
    # Float32: a central difference over a hundredth is good to a thousandth.
    assert (logits.grad * step).sum().item() == pytest.approx((ends[0] - ends[1]).item() / 2, rel=5e-3)


def test_retrieval_is_least_at_the_softened_distance():
    torch.manual_seed(0)
    distance = torch.rand(2, 3, 12) * 1.5
    best = -((distance / SOFTNESS) ** 2)
    loss, scores = retrieval_loss(best, distance)
    assert scores["retrieval_error"] == 0.0
    for _ in range(10):
        assert retrieval_loss(best + 0.1 * torch.randn_like(best), distance)[0] > loss
    flipped, flipped_scores = retrieval_loss(-best, distance)
    assert flipped > loss + 1
    assert flipped_scores["retrieval_error"] > 20


def test_what_is_no_candidate_of_retrieval_has_no_part_in_it():
    torch.manual_seed(0)
    logits, distance = torch.randn(2, 3, 8, requires_grad=True), torch.rand(2, 3, 8)
    expected, scores = retrieval_loss(logits[..., 1:], distance[..., 1:])
    distance[..., 0] = torch.inf
    loss, found = retrieval_loss(logits, distance)
    assert loss.item() == pytest.approx(expected.item())
    assert found == scores
    loss.backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[..., 0] == 0).all()


def test_a_query_without_candidates_costs_nothing():
    torch.manual_seed(0)
    logits, distance = torch.randn(3, 2, 8, requires_grad=True), torch.rand(3, 2, 8)
    expected = retrieval_loss(logits[:2], distance[:2])
    distance[2] = torch.inf
    loss, scores = retrieval_loss(logits, distance)
    assert (loss, scores) == (expected[0], expected[1])
    loss.backward()
    assert logits.grad.isfinite().all()
    nothing, scores = retrieval_loss(logits[2:], distance[2:])
    assert nothing == scores["retrieval_error"] == 0


def test_retrieval_error_is_degrees_beyond_the_best():
    distance = torch.deg2rad(torch.tensor([[10.0, 25.0, 60.0], [40.0, 10.0, 20.0]]))
    logits = torch.tensor([[0.0, 5.0, 0.0], [0.0, 5.0, 0.0]])
    assert retrieval_loss(logits, distance)[1]["retrieval_error"] == pytest.approx(7.5, abs=1e-3)


def bilinear_logits(target):
    """Log of the distribution [P, 16, 144] whose mass lies on the four cells around the true place."""
    cell = torch.arange(REACH, dtype=torch.float32)
    own = torch.stack(torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="xy"), dim=-1)
    place = (target * CELLS + own + CELLS).flatten(1, 2)  # x, y
    x, y = ((1 - (cell - place[..., k, None]).abs()).clamp_min(0) for k in (0, 1))
    return (y[..., :, None] * x[..., None, :]).flatten(2).clamp_min(1e-12).log()


def random_places(pairs=5, reach=0.9):
    torch.manual_seed(1)
    return (torch.rand(pairs, CELLS, CELLS, 2) * 2 - 1) * reach


def test_correlation_is_least_at_the_true_place():
    """Among distributions of the bilinear shape, the one at the true place costs least."""
    target = random_places()
    here = correlation_loss(bilinear_logits(target), target)
    for dx, dy in ((0.05, 0), (-0.05, 0), (0, 0.05), (0, -0.05), (0.25, 0), (0, -0.5)):
        moved = correlation_loss(bilinear_logits(target + torch.tensor([dx, dy])), target)
        assert (moved > here).all()


def test_the_expected_place_at_the_optimum_is_exact():
    """Descend on the loss from nothing: the soft-argmax of what comes out is the true flow, without bias."""
    target = random_places(pairs=2)
    logits = torch.zeros(2, CELLS**2, REACH**2, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(150):
        optimizer.zero_grad()
        correlation_loss(logits, target).sum().backward()
        optimizer.step()
    flow = torch.einsum("pqc,qcd->pqd", logits.detach().softmax(dim=-1), cell_offsets())
    # A hundredth of a patch is a sixth of a pixel; what is left is the tail the descent has not yet removed.
    torch.testing.assert_close(flow.unflatten(1, (CELLS, CELLS)), target, atol=0.01, rtol=0)


def test_places_outside_the_window_cost_nothing():
    target = torch.zeros(1, CELLS, CELLS, 2)
    target[0, 0, 0] = torch.tensor([-1.2, 0.0])  # 1.2 patches left of the first cell: outside
    target[0, 3, 3] = torch.tensor([0.0, 1.3])
    target[0, 1, 1] = torch.tensor([-1.2, 0.0])  # cell 1 + 4 - 4.8 = 0.2: still inside
    loss = correlation_loss(torch.zeros(1, CELLS**2, REACH**2), target)[0]
    assert loss[0, 0] == loss[3, 3] == 0.0
    assert loss[1, 1] == pytest.approx(math.log(REACH**2), rel=1e-5)
    assert (loss > 0).sum() == CELLS**2 - 2


@pytest.fixture
def flow_case():
    """Return three pairs whose target is constant, one of every 4x4 pixels supervised."""
    target = torch.tensor([0.3, -0.2]).expand(3, CELLS, CELLS, 2)
    seen = torch.ones(3, CELLS, CELLS, dtype=torch.bool)

    def answer(flow, confidence=4.0, cells=None):
        flow = torch.as_tensor(flow, dtype=torch.float32).expand(3, 16, 16, 2).clone()
        cells = bilinear_logits(target) if cells is None else cells
        cell_flow = torch.einsum("pqc,qcd->pqd", cells.softmax(dim=-1), cell_offsets())
        return Flow(flow, torch.full((3, 16, 16), confidence), cells, cell_flow)

    return answer, target, seen


def test_right_flow_costs_less(flow_case):
    answer, target, seen = flow_case
    correct, scores = flow_loss(answer([0.3, -0.2]), target, seen, offset=(1, 3))
    wrong, wrong_scores = flow_loss(answer([0.3, 0.2]), target, seen, offset=(1, 3))
    assert wrong > correct + 1.0
    assert scores["flow_error"] < 1e-4
    assert scores["cell_error"] < 1e-3
    assert scores["flow_within_2px"] == 1.0
    assert wrong_scores["flow_error"] == pytest.approx(0.4 * 16, rel=1e-4)
    assert wrong_scores["flow_within_2px"] == 0.0


def test_confidence_should_tell_right_from_wrong(flow_case):
    answer, target, seen = flow_case
    for flow, sign in (([0.3, -0.2], 1), ([0.3, 0.2], -1)):
        sure, unsure = (flow_loss(answer(flow, c), target, seen, (1, 3))[0] for c in (4.0, -4.0))
        assert (unsure - sure) * sign > 1.0


def test_only_the_pixels_at_the_offset_count(flow_case):
    answer, target, seen = flow_case
    flow = answer([9.0, 9.0])
    flow.flow[:, 2::4, 0::4] = torch.tensor([0.3, -0.2])
    assert flow_loss(flow, target, seen, offset=(2, 0))[1]["flow_error"] < 1e-4
    assert flow_loss(flow, target, seen, offset=(0, 2))[1]["flow_error"] > 100


def test_unseen_pixels_do_not_pull(flow_case):
    answer, target, seen = flow_case
    seen[:, :2] = False
    flow = answer([0.3, -0.2])
    flow.flow[:, :8] = 50.0
    flow.flow.requires_grad_()
    loss, scores = flow_loss(flow, target, seen, offset=(0, 2))
    loss.backward()
    assert scores["flow_error"] < 1e-4
    assert not flow.flow.grad[:, :8].any()
    assert flow.flow.grad[:, 8:].shape == (3, 8, 16, 2)


def test_nothing_seen_is_no_nan(flow_case):
    answer, target, seen = flow_case
    loss, scores = flow_loss(answer([0.3, 0.2]), target, torch.zeros_like(seen), offset=(0, 2))
    assert torch.isfinite(loss)
    assert scores.pop("confidence_calibration") == pytest.approx(torch.tensor(4.0).sigmoid().item(), rel=1e-5)
    assert all(v == 0.0 for v in scores.values())


def test_no_pairs_at_all_are_no_nan(flow_case):
    answer, target, seen = flow_case
    none = Flow(*(v[:0].requires_grad_() for v in vars(answer([0.3, 0.2])).values()))
    for options in (LossOptions(), LossOptions(flow_kind="huber", confidence_weighting=1.0)):
        loss, scores = flow_loss(none, target[:0], seen[:0], (0, 2), options)
        loss.backward()
        assert loss == 0.0
        assert all(v == 0.0 for v in scores.values())


def test_errors_in_pixels(flow_case):
    """3 px in x and 4 px in y make 7 in all, 3.5 a coordinate, and a root mean square of sqrt(12.5)."""
    answer, target, seen = flow_case
    scores = flow_loss(answer([0.3 + 3 / 16, -0.2 - 4 / 16]), target, seen, offset=(1, 3))[1]
    assert scores["flow_error"] == pytest.approx(7.0, rel=1e-4)
    assert scores["flow_mae"] == pytest.approx(3.5, rel=1e-4)
    assert scores["flow_rmse"] == pytest.approx(12.5**0.5, rel=1e-4)


def test_huber_is_square_near_and_l1_far():
    """With L1's slope it is x^2 / (2 d) below d pixels and |x| - d / 2 above, summed over x and y."""
    d = 2 / 16
    difference = torch.tensor([[0.5 * d, 0.0], [3 * d, -4 * d]])
    torch.testing.assert_close(huber(difference, d), torch.tensor([0.125 * d, 6 * d]))


def test_huber_forgives_small_errors(flow_case):
    answer, target, seen = flow_case
    loss = {}
    for pixels in (0.5, 8.0):
        flow = answer([0.3 + pixels / 16, -0.2])
        for kind in ("l1", "huber"):
            loss[kind, pixels] = flow_loss(
                flow, target, seen, (1, 3), LossOptions(flow_kind=kind, huber_px=2.0)
            )[0]
    # 4 x (|x| - x^2 / 2d) at half a pixel, 4 x d / 2 at eight.
    assert loss["l1", 0.5] - loss["huber", 0.5] == pytest.approx(4 * (0.5 - 0.0625) / 16, rel=1e-3)
    assert loss["l1", 8.0] - loss["huber", 8.0] == pytest.approx(4 * 1.0 / 16, rel=1e-3)


def test_confident_pixels_count_more_where_asked(flow_case):
    """Weights have mean one over what is seen, and the confidence learns nothing from them."""
    _, _, seen = flow_case
    seen[0] = False
    confidence = torch.rand(3, CELLS, CELLS, generator=torch.Generator().manual_seed(0))
    for fraction in (0.5, 1.0):
        weights = confidence_weights(confidence, seen, fraction)
        assert weights[seen].mean().item() == pytest.approx(1.0, rel=1e-5)
    torch.testing.assert_close(weights[seen], confidence[seen] / confidence[seen].mean())


def test_confidence_weighting_turns_the_loss_to_the_sure_pixels(flow_case):
    answer, target, seen = flow_case
    flow = answer([0.3, -0.2])
    flow.flow[:, :8] += 0.5  # wrong in the upper half,
    flow.confidence_logits[:, :8] = -6.0  # and it says so
    plain, weighted = (
        flow_loss(flow, target, seen, (0, 2), LossOptions(confidence_weighting=w))[0] for w in (0.0, 1.0)
    )
    # 4 x (0.5 + 0.5) over half of the pixels; the parts that do not know of the weighting are equal.
    assert plain - weighted == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("options", [{}, {"flow_kind": "huber"}, {"confidence_weighting": 1.0}])
def test_flow_gradient(flow_case, options):
    """The gradient equals central differences, at flows away from the loss's kinks."""
    answer, target, seen = flow_case
    options = LossOptions(**options)
    base = answer([0.35, 0.1])
    step = torch.randn(base.flow.shape, generator=torch.Generator().manual_seed(0)) * 1e-3

    def loss(flow):
        return flow_loss(
            Flow(flow, base.confidence_logits, base.cell_logits, base.cell_flow),
            target,
            seen,
            (1, 3),
            options,
        )[0]

    flow = base.flow.clone().requires_grad_()
    loss(flow).backward()
    expected = (loss(base.flow + step) - loss(base.flow - step)).item() / 2
    assert (flow.grad * step).sum().item() == pytest.approx(expected, rel=2e-2)


def test_calibration_error_of_known_bins():
    """Pixels of confidence 0.35 are correct half of the time, those of 0.05 never: errors 0.15 and 0.05."""
    confidence = torch.tensor([0.35] * 4 + [0.05] * 4)
    correct = torch.tensor([1.0, 0, 1, 0, 0, 0, 0, 0])
    assert calibration_error(confidence, correct).item() == pytest.approx((0.15 + 0.05) / 2, rel=1e-5)
    assert calibration_error(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])) == 0.0
    assert calibration_error(confidence[:0], correct[:0]) == 0.0


def test_calibration_error_of_an_honest_confidence_is_small():
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(20_000, generator=generator)
    correct = (torch.rand(20_000, generator=generator) < confidence).float()
    # Ten bins of 2000: each mean has a standard error of a hundredth.
    assert calibration_error(confidence, correct) < 0.02
    assert calibration_error(confidence.sqrt(), correct) > 0.1
