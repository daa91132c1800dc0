import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vpog_core.geometry.epro_pnp import pose_cost, solve
from vpog_core.geometry.pose_distribution import sample_poses
from vpog_core.geometry.se3_torch import moved, rigid, rotation_exp
from vpog_core.inference.correspondence import dense_matches
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.synthetic.objects import make_object
from vpog_core.training.losses.labels import FlowComputer, PosedDepth
from vpog_core.training.losses.pose import SIGMA_PX, pose_loss, shared_weights
from vpog_core.training.losses.pose_correspondences import PoseCorrespondences, lift, pose_correspondences

SIZE, SIDE = 112, 7


@pytest.fixture(scope="module")
def views():
    """Return a real object: one query and two templates beside it, and its diameter."""
    renderer = Renderer(make_object(900_001, vertices=4000))

    def view(direction):
        direction = np.asarray(direction) / np.linalg.norm(direction)
        K, T = template_camera(renderer.mesh, direction, SIZE, distance=4.0)
        render = renderer.render(T, K, (SIZE, SIZE))
        return [torch.from_numpy(np.asarray(v, dtype=np.float32)) for v in (render.depth, K, T)]

    query = PosedDepth(*(v[None] for v in view([0.8, 0.5, 0.4])))
    beside = [view(d) for d in ([0.8, 0.45, 0.25], [0.7, 0.6, 0.5])]
    templates = PosedDepth(*(torch.stack(v)[None] for v in zip(*beside, strict=True)))
    return query, templates, torch.tensor([renderer.mesh.diameter])


def oracle(labels):
    """Return a network that outputs the labels, as `pose_correspondences` asks of model and matches."""
    logits = 20.0 * torch.nn.functional.one_hot(labels.patch_class, SIDE**2 + 1).float()
    matches = SimpleNamespace(logits=logits, templates=torch.zeros(1, 2, SIDE**2, 1))

    def flow_of_pairs(_, pairs):
        b, s, i, j = pairs.unbind(dim=1)
        seen = labels.seen[b, s, i] & (labels.patch_class[b, s, i] == j)[:, None, None]
        return SimpleNamespace(flow=labels.flow[b, s, i], confidence=seen.float())

    return SimpleNamespace(flow_of_pairs=flow_of_pairs), matches


def test_true_matches_give_points_that_lie_where_their_pixels_say(views):
    """With labels in place of the network, points reproject onto their pixels, and the pose is true."""
    query, templates, diameter = views
    labels = FlowComputer()(query, templates, diameter)
    torch.manual_seed(0)
    model, matches = oracle(labels)
    found = pose_correspondences(model, matches, templates, diameter, patches=20, offset=(2, 0))
    assert found.points_2d.shape == (1, 80, 2)
    assert found.points_3d.shape == (1, 80, 3)
    there = found.confidence[0] > 0.5
    assert there.sum() > 30
    T, K = query.T_view_obj[0], query.K[0]
    p = (found.points_3d[0, there] @ T[:3, :3].mT + T[:3, 3]) @ K.mT
    distance = (p[:, :2] / p[:, 2:] - found.points_2d[0, there]).norm(dim=1)
    # Depth of whole pixels, interpolated: a part of a pixel on smooth surface, more at few edges.
    assert distance.median() < 0.1
    assert distance.quantile(0.9) < 0.5
    _, scores = pose_loss(found, query.K, query.T_view_obj, diameter)
    assert scores["rotation_error"] < 0.5
    assert scores["translation_error"] < 0.02
    assert scores["pose_fraction"] == 1.0


def test_pixels_and_confidence_are_those_of_inference(tiny_config, views):
    """Every drawn pixel has the confidence and the place that `dense_matches` gives it."""
    _, templates, diameter = views
    one = PosedDepth(*(v[:, :1] for v in vars(templates).values()))
    torch.manual_seed(0)
    model = VPOGModel(tiny_config).eval()
    with torch.no_grad():
        encoded = model.encode(torch.rand(2, 3, SIZE, SIZE))
        matches = model.match(encoded[:1], encoded[None, 1:], torch.tensor([[[0.0, 0.0, -1.0]]]))
        matches.logits[..., SIDE**2 :] -= 3.0
        # A surface everywhere, so that every pixel is lifted.
        one.depth = torch.full_like(one.depth, 1.0)
        found = pose_correspondences(
            model, matches, one, torch.full_like(diameter, 9.0), SIDE**2, offset=(3, 1)
        )
        dense = dense_matches(model, matches)[0]
    x, y = found.points_2d[0].long().unbind(dim=1)
    assert sorted(set(x.tolist())) == [16 * k + o for k in range(SIDE) for o in (1, 9)]
    assert sorted(set(y.tolist())) == [16 * k + o for k in range(SIDE) for o in (3, 11)]
    place = torch.from_numpy(dense.in_template[0])[y, x]
    inside = ((place > -0.5) & (place < SIZE - 0.5)).all(dim=1)
    expected = torch.from_numpy(dense.confidence[0])[y, x] * inside
    torch.testing.assert_close(found.confidence[0], expected, atol=1e-6, rtol=1e-5)
    T, K = one.T_view_obj[0, 0], one.K[0, 0]
    p = (found.points_3d[0] @ T[:3, :3].mT + T[:3, 3]) @ K.mT
    # At a step of the depth the nearest pixel stands in; here there is none.
    torch.testing.assert_close((p[:, :2] / p[:, 2:])[inside], place[inside], atol=1e-2, rtol=0)


def slanted(dtype=torch.float64):
    """Return a template that sees a surface: depth 1 + 0.002 x, the left half empty."""
    line = torch.arange(SIZE, dtype=dtype)
    depth = (1 + 0.002 * line).expand(SIZE, SIZE).clone()
    depth[:, : SIZE // 2] = 0
    K = torch.tensor([[200.0, 0, 55.5], [0, 200.0, 55.5], [0, 0, 1]], dtype=dtype)
    step = torch.tensor([0.3, -0.2, 0.1, 0.1, 0.0, 1.0], dtype=dtype)
    T = rigid(rotation_exp(step[:3]), step[3:])
    return PosedDepth(depth[None, None], K[None, None], T[None, None])


def test_lifting_is_exact_on_pixels_and_differentiable_between_them():
    template, view = slanted(), torch.zeros(1, 3, dtype=torch.long)
    pixels = torch.tensor(
        [[[70.0, 40.0], [90.3, 20.8], [100.5, 111.2]]], dtype=torch.float64, requires_grad=True
    )
    points, there = lift(template, view, pixels, torch.ones(1).double())
    assert there.tolist() == [[True, True, True]]
    T = template.T_view_obj[0, 0]
    p = points[0].detach() @ T[:3, :3].mT + T[:3, 3]
    K = template.K[0, 0]
    assert p[0, 2] == pytest.approx(1.14)
    torch.testing.assert_close((p @ K.mT)[0, :2] / p[0, 2], pixels[0, 0].detach())
    inner = pixels[:, :2].detach().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: lift(template, view[:, :2], x, torch.ones(1).double())[0], inner
    )


def test_off_the_object_and_off_the_image_there_is_no_point():
    template, view = slanted(), torch.zeros(1, 5, dtype=torch.long)
    pixels = torch.tensor([[[20.0, 40.0], [-3.0, 5.0], [115.0, 5.0], [80.0, -0.6], [80.0, 112.0]]]).double()
    points, there = lift(template, view, pixels, torch.ones(1).double())
    assert not there.any()
    assert torch.isfinite(points).all()


def test_at_the_rim_the_nearest_pixel_stands_in():
    """Half of the pixels around show nothing: no point between the object and the camera's centre."""
    template = slanted()
    pixels = torch.tensor([[[SIZE / 2 - k, 40.0] for k in (0.3, 0.7, 0.01)]]).double()
    points, there = lift(template, torch.zeros(1, 3, dtype=torch.long), pixels, torch.ones(1).double())
    assert there.tolist() == [[True, False, True]]
    T = template.T_view_obj[0, 0]
    depth = (points[0] @ T[:3, :3].mT + T[:3, 3])[:, 2]
    assert depth[[0, 2]].tolist() == pytest.approx([1 + 0.002 * SIZE / 2] * 2)


def cloud(batch=4, points=64, noise=1.0, seed=0):
    """Return correspondences of a 12 cm object, with K and the true poses."""
    generator = torch.Generator().manual_seed(seed)
    K = torch.tensor([[400.0, 0, 55.5], [0, 400.0, 55.5], [0, 0, 1]]).expand(batch, 3, 3)
    R = rotation_exp(torch.randn(batch, 3, generator=generator))
    T = rigid(R, torch.tensor([0.0, 0.01, 0.6]).expand(batch, 3))
    X = (torch.rand(batch, points, 3, generator=generator) - 0.5) * 0.1
    p = (X @ R.mT + T[:, None, :3, 3]) @ K.mT
    u = p[..., :2] / p[..., 2:] + noise * torch.randn(batch, points, 2, generator=generator)
    return PoseCorrespondences(u, X, torch.full((batch, points), 0.7)), K, T, torch.full((batch,), 0.12)


def loss_of(found, K, T, diameter, **options):
    return pose_loss(found, K, T, diameter, generator=torch.Generator().manual_seed(0), **options)


def test_the_better_the_matches_the_lower_the_loss():
    """Ten times less noise gives ten times smaller errors, and log 10 less per degree of freedom."""
    (fine, fine_scores), (coarse, coarse_scores) = (
        loss_of(*cloud(noise=n), derivative=0.0) for n in (1.0, 10.0)
    )
    # The four errors' own luck is in it: chi-squared of 24 degrees, a fifth or so of their size.
    assert coarse - fine == pytest.approx(math.log(10), abs=0.4)
    assert coarse_scores["rotation_error"] > 5 * fine_scores["rotation_error"]
    assert coarse_scores["translation_error"] > 5 * fine_scores["translation_error"]


def test_errors_are_degrees_and_shares_of_the_diameter():
    """Exact matches are of a pose 5 degrees and 3 cm beside the one called true."""
    found, K, T, diameter = cloud(noise=0.0)
    step = torch.tensor([0.0, 0.0, 0.03, 0.0, math.radians(5.0), 0.0]).expand(4, 6)
    scores = loss_of(found, K, moved(T, step), diameter)[1]
    assert scores["rotation_error"] == pytest.approx(5.0, abs=0.05)
    assert scores["translation_error"] == pytest.approx(0.03 / 0.12, rel=0.02)


def test_only_the_ratios_of_the_confidences_count():
    confidence = torch.tensor([[0.1, 0.4, 0.0, 0.9]])
    weights = shared_weights(confidence)
    torch.testing.assert_close(weights, shared_weights(0.1 * confidence))
    assert weights[0, 1] == pytest.approx(2 * weights[0, 0].item())
    assert weights[0, 2] == 0.0
    assert weights.sum() / 3 == pytest.approx(1.0)
    found, K, T, diameter = cloud()
    half = PoseCorrespondences(found.points_2d, found.points_3d, found.confidence / 2)
    assert loss_of(half, K, T, diameter)[0] == pytest.approx(
        loss_of(found, K, T, diameter)[0].item(), abs=1e-3
    )


def test_descent_trusts_good_matches_and_doubts_bad_ones():
    found, K, T, diameter = cloud(batch=8, noise=1.0)
    wrong = torch.arange(64) % 4 == 0
    shift = torch.tensor([6.0, -8.0]) * wrong[:, None]  # one systematic error: a kernel alone cannot tell
    logit = torch.zeros(8, 64, requires_grad=True)
    optimizer = torch.optim.Adam([logit], lr=0.1)
    errors = []
    for _ in range(20):
        confident = PoseCorrespondences(found.points_2d + shift, found.points_3d, logit.sigmoid())
        loss, scores = loss_of(confident, K, T, diameter)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(scores["translation_error"]))
    assert logit[:, wrong].mean() < logit[:, ~wrong].mean() - 0.5
    assert errors[-1] < 0.8 * errors[0]


@pytest.mark.parametrize("derivative", [0.0, 1.0])
def test_descent_moves_points_to_the_true_pose(derivative):
    found, K, T, diameter = cloud(noise=0.5)
    bent = rotation_exp(torch.tensor([0.2, 0.0, 0.0]))
    X = (found.points_3d @ bent.mT).requires_grad_()
    optimizer = torch.optim.Adam([X], lr=1e-3)
    errors = []
    for _ in range(20):
        moving = PoseCorrespondences(found.points_2d, X, found.confidence)
        loss, scores = loss_of(moving, K, T, diameter, derivative=derivative)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(scores["rotation_error"]))
    assert errors[0] == pytest.approx(math.degrees(0.2), rel=0.1)
    assert errors[-1] < 0.5 * errors[0]


def test_derivative_regularization_alone_has_the_descent_direction():
    """The step's loss falls along its own gradient as far as that says."""
    found, K, T, diameter = cloud(noise=0.5)
    bent = (found.points_3d @ rotation_exp(torch.tensor([0.1, 0.0, 0.0])).mT).requires_grad_()

    def extra(X):
        moving = PoseCorrespondences(found.points_2d, X, found.confidence)
        return (
            loss_of(moving, K, T, diameter, derivative=1.0)[0]
            - loss_of(moving, K, T, diameter, derivative=0.0)[0]
        )

    value = extra(bent)
    assert value > 0.0
    (gradient,) = torch.autograd.grad(value, bent)
    fall = 0.05 * value.item()
    lower = extra((bent - gradient * fall / gradient.square().sum()).detach())
    assert (value - lower).item() == pytest.approx(fall, rel=0.2)


@pytest.mark.parametrize("kind", ["no points", "two points", "nan points", "behind"])
def test_problems_without_a_pose_cost_nothing(kind):
    found, K, T, diameter = cloud()
    X, confidence = found.points_3d.clone().requires_grad_(), found.confidence.clone()
    if kind == "no points":
        confidence[:] = 0
    elif kind == "two points":
        confidence[:, 2:] = 0
    elif kind == "behind":
        T = T.clone()
        T[:, 2, 3] = -0.6
    confidence.requires_grad_()
    lifted = X * torch.nan if kind == "nan points" else X
    loss, scores = loss_of(PoseCorrespondences(found.points_2d, lifted, confidence), K, T, diameter)
    assert loss == 0.0
    assert all(v == 0.0 for v in scores.values())
    loss.backward()
    assert not confidence.grad.any()
    if kind != "nan points":  # the product with NaN is the test's own
        assert not X.grad.any()


def test_a_query_without_a_pose_leaves_the_others_alone():
    found, K, T, diameter = cloud()
    confidence = found.confidence.clone()
    confidence[1] = 0
    some = PoseCorrespondences(found.points_2d, found.points_3d, confidence.requires_grad_())
    loss, scores = loss_of(some, K, T, diameter)
    loss.backward()
    assert scores["pose_fraction"] == 0.75
    assert torch.isfinite(confidence.grad).all()
    assert confidence.grad.flatten(1).any(dim=1).tolist() == [True, False, True, True]


def test_the_modes_are_sampled_as_wide_as_they_are(monkeypatch):
    """Solutions of the plain weights, as proposals for the scaled ones, give those of solving again."""
    given = {}

    def watched(problem, T, covariance, *args, **kwargs):
        given.update(problem=problem, T=T, covariance=covariance)
        return sample_poses(problem, T, covariance, *args, **kwargs)

    monkeypatch.setattr("vpog_core.training.losses.pose.sample_poses", watched)
    found, K, T, diameter = cloud(noise=3.0)
    loss_of(found, K, T, diameter)
    again = solve(given["problem"], T)
    torch.testing.assert_close(given["covariance"][:, 0], again.covariance, rtol=0.02, atol=1e-8)
    excess = 2 * (pose_cost(given["problem"], T) - again.cost)
    torch.testing.assert_close(excess, torch.full((4,), 6.0), rtol=0.02, atol=0)


def test_errors_of_no_size_leave_the_loss_finite():
    """The standard deviation stays at its least."""
    exact, coarse = (loss_of(*cloud(noise=n), derivative=0.0)[0] for n in (0.0, SIGMA_PX[0] / 10))
    assert torch.isfinite(exact)
    assert exact == pytest.approx(coarse.item(), abs=0.1)
