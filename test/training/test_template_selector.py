import numpy as np
import pytest
import torch

from vpog_core.geometry.se3 import random_rotation, rotation_angle, rotation_z
from vpog_core.objects.template_set import template_camera
from vpog_core.objects.viewpoints import (
    align_roll,
    nearest_viewpoints,
    upright_rotation,
    viewpoint_directions,
)
from vpog_core.synthetic.objects import make_object
from vpog_core.training.synthesis.template_selector import (
    FAR_NEIGHBOURS,
    LEAST_TURN,
    REFERENCE_NEIGHBOURS,
    ROLL_ERROR,
    TemplateSelector,
    roll_free_distance,
)


@pytest.fixture(scope="module")
def rotations():
    """Return the rotations of a real object's template cameras."""
    mesh = make_object(900_001, vertices=2000)
    return np.stack([template_camera(mesh, d, 112)[1][:3, :3] for d in viewpoint_directions()])


def anchors(count=20):
    d = np.random.default_rng(5).standard_normal((count, 3))
    return d / np.linalg.norm(d, axis=1, keepdims=True)


def draws(rotations, **kwargs):
    selector, rng = TemplateSelector(rotations, **kwargs), np.random.default_rng(0)
    return [(anchor, selector.draw(rng, anchor)) for anchor in anchors()]


def test_the_cluster_are_the_views_nearest_to_the_reference(rotations):
    directions = viewpoint_directions()
    for _, selection in draws(rotations, cluster=5):
        cosine = directions @ directions[selection.views[0]]
        expected = np.sort(cosine)[::-1][:5]
        np.testing.assert_allclose(cosine[selection.views[:5]], expected, atol=1e-12)
        assert len(set(selection.views[:5])) == 5


def test_the_reference_is_near_the_anchor_and_not_always_the_nearest(rotations):
    ranks = [
        list(nearest_viewpoints(anchor, REFERENCE_NEIGHBOURS)).index(s.views[0])
        for anchor, s in draws(rotations)
    ]
    assert 0.4 < np.mean([r == 0 for r in ranks]) < 0.95
    assert max(ranks) > 2


def test_rolls_of_the_cluster_are_aligned_with_the_reference(rotations):
    for _, s in draws(rotations):
        R_ref = rotation_z(s.rolls[0]) @ rotations[s.views[0]]
        for view, roll in zip(s.views[1 : s.cluster], s.rolls[1 : s.cluster], strict=True):
            here = rotation_angle(rotation_z(roll) @ rotations[view], R_ref)
            # Neighbours are 18.7 degrees apart at most; the four nearest lie within that.
            assert here < np.radians(20)
            for more in (-0.02, 0.02):
                assert rotation_angle(rotation_z(roll + more) @ rotations[view], R_ref) > here


def test_rolls_of_references_go_all_around(rotations):
    quadrants = {int(s.rolls[0] % (2 * np.pi) // (np.pi / 2)) for _, s in draws(rotations)}
    assert quadrants == {0, 1, 2, 3}


def test_align_roll_is_the_minimiser():
    rng = np.random.default_rng(1)
    steps = np.linspace(-np.pi, np.pi, 721)
    for _ in range(20):
        R, R_ref = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
        R, R_ref = R * np.linalg.det(R), R_ref * np.linalg.det(R_ref)
        best = rotation_angle(rotation_z(align_roll(R, R_ref)) @ R, R_ref)
        assert best <= min(rotation_angle(rotation_z(a) @ R, R_ref) for a in steps) + 1e-9


@pytest.mark.parametrize("negatives", [0, 3, 8, 11])
def test_as_many_negatives_as_asked_for(rotations, negatives):
    for _, s in draws(rotations, cluster=4, negatives=negatives)[:5]:
        assert len(s.views) == len(s.rolls) == 4 + negatives
        assert s.cluster == 4
        assert ((s.views >= 0) & (s.views < 162)).all()


def test_negatives_are_wrong_in_roll_then_in_view_and_mostly_any(rotations):
    directions = viewpoint_directions()
    for _, s in draws(rotations, negatives=8):
        R_ref = rotation_z(s.rolls[0]) @ rotations[s.views[0]]
        views, rolls = s.views[4:], s.rolls[4:]
        for view, roll in zip(views[:1], rolls[:1], strict=True):
            turn = roll - align_roll(rotations[view], R_ref)
            assert abs((turn + np.pi) % (2 * np.pi) - np.pi) > LEAST_TURN - 1e-9
        rank = np.argsort(np.argsort(-(directions @ directions[s.views[0]]), kind="stable"))
        assert rank[views[0]] < REFERENCE_NEIGHBOURS
        assert (rank[views[1:3]] >= REFERENCE_NEIGHBOURS).all()
        assert (rank[views[1:3]] < FAR_NEIGHBOURS).all()
    far = np.concatenate([s.views[7:12] for _, s in draws(rotations, negatives=8)])
    # Of any view, a hundred in twenty draws: nearly all are different ones.
    assert len(set(far.tolist())) > 60


def test_each_query_has_a_candidate_as_near_as_inference_has(rotations):
    rng = np.random.default_rng(0)
    R = np.stack([random_rotation(rng) for _ in range(40)])
    found = TemplateSelector(rotations).nearest_to(rng, R)
    assert found.cluster == 0
    seen = np.stack(
        [rotation_z(roll) @ rotations[view] for view, roll in zip(found.views, found.rolls, strict=True)]
    )
    apart = np.array([rotation_angle(a, b) for a, b in zip(R, seen, strict=True)])
    # A view lies within 11 degrees of any direction, and the roll is off by 15 at most.
    assert apart.max() < np.hypot(np.radians(11.5), ROLL_ERROR)
    assert np.degrees(apart).mean() > 8


def test_the_same_generator_draws_the_same(rotations):
    selector, anchor = TemplateSelector(rotations), anchors(1)[0]
    one, two, three = (selector.draw(np.random.default_rng(seed), anchor) for seed in (4, 4, 5))
    assert np.array_equal(one.views, two.views)
    assert np.array_equal(one.rolls, two.rolls)
    assert not np.array_equal(one.rolls, three.rolls)


def test_distance_without_roll_is_the_least_over_all_rolls():
    """A search over rolls of the plain SO(3) geodesic finds the same least, at the roll found."""
    rng = np.random.default_rng(2)
    steps = np.linspace(-np.pi, np.pi, 721)
    for _ in range(20):
        R, R_ref = random_rotation(rng), random_rotation(rng)
        distance, roll = (float(v) for v in roll_free_distance(torch.tensor(R), torch.tensor(R_ref)))
        searched = min(rotation_angle(rotation_z(a) @ R, R_ref) for a in steps)
        # The search misses the best roll by a quarter of a degree at most, where the distance is flat.
        assert searched - 1e-4 < distance <= searched + 1e-9
        assert rotation_angle(rotation_z(roll) @ R, R_ref) == pytest.approx(distance, abs=1e-7)


def test_a_roll_alone_is_no_distance():
    R = torch.tensor(upright_rotation(np.array([0.3, 0.5, -0.8])))
    for roll in (0.0, 1e-9, 0.7, 3.1):
        turned = torch.tensor(rotation_z(roll)) @ R
        distance, back = roll_free_distance(turned, R)
        # The square root of a double's rounding.
        assert float(distance) < 5e-8
        assert float(back) == pytest.approx(-roll, abs=1e-7)


def test_positives_are_the_views_nearest_to_the_query_at_any_roll(rotations):
    """By brute force, the cluster of an exact selection holds the view with the least geodesic over rolls."""
    rng, directions = np.random.default_rng(4), viewpoint_directions()
    R = np.stack([rotation_z(roll) @ upright_rotation(d) for roll, d in enumerate(rng.normal(size=(6, 3)))])
    selection = TemplateSelector(rotations).select(
        torch.tensor(R), torch.Generator().manual_seed(0), exact=True
    )
    upright = np.stack([upright_rotation(d) for d in directions])
    rolls = np.stack([rotation_z(r) for r in np.linspace(-np.pi, np.pi, 181)])
    for q, view in zip(R, selection.views[:, 0].tolist(), strict=True):
        # The trace falls with the angle.
        trace = np.einsum("rij,vjk,ik->vr", rolls, upright, q, optimize=True)
        assert view == int(np.argmax(trace.max(axis=1)))


def test_a_batch_is_drawn_at_once(rotations):
    R = torch.tensor(np.stack([upright_rotation(a) for a in anchors(30)]))
    selector = TemplateSelector(rotations, cluster=5, negatives=11)
    one, two = (selector.select(R, torch.Generator().manual_seed(3)) for _ in range(2))
    assert one.views.shape == one.rolls.shape == (30, 16)
    assert torch.equal(one.views, two.views)
    assert torch.equal(one.rolls, two.rolls)
    assert len({tuple(v) for v in one.views.tolist()}) == 30
    nearest = [int(nearest_viewpoints(a, 1)[0]) for a in anchors(30)]
    exact = selector.select(R, exact=True).views[:, 0].tolist()
    assert exact == nearest
    # Half of the references are drawn among seven, the nearest among them.
    assert 0.3 < np.mean(np.array(one.views[:, 0].tolist()) == nearest) < 0.9


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_selections_on_a_gpu(rotations):
    R = torch.tensor(np.stack([upright_rotation(a) for a in anchors(8)]))
    here = TemplateSelector(rotations, negatives=0).select(R, exact=True)
    there = TemplateSelector(torch.tensor(rotations).cuda(), negatives=0).select(R.cuda(), exact=True)
    assert there.views.is_cuda
    assert torch.equal(here.views, there.views.cpu())
