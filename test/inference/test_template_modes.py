from types import SimpleNamespace

import numpy as np
import pytest

from vpog_core.geometry.se3 import rotation_angle
from vpog_core.inference.matching import match_and_solve
from vpog_core.inference.onboarding import CROP_TURNS, ROLLS, encode_images, roll_angle, rotate_image
from vpog_core.inference.retrieval import ViewSearch, best_views, template_logits
from vpog_core.inference.template_modes import ClusterMode, GlobalMode, likely_rolls, view_groups
from vpog_core.objects.viewpoints import viewpoint_directions


def test_groups_hold_every_view_and_are_neighbours():
    groups, directions = view_groups(), viewpoint_directions()
    assert len(groups) == 42
    assert {view for group in groups for view in group} == set(range(162))
    for group in groups:
        assert len(set(group)) == 4
        # The first is the middle; neighbours of the finest division are 15.9 to 18.7 degrees apart.
        assert (directions[list(group)] @ directions[group[0]] > np.cos(np.radians(19))).all()
    # No direction is farther from a group's middle than two thirds of the way between two of them.
    rng = np.random.default_rng(0)
    anywhere = rng.normal(size=(500, 3))
    anywhere /= np.linalg.norm(anywhere, axis=1, keepdims=True)
    middles = directions[[group[0] for group in groups]]
    assert (anywhere @ middles.T).max(axis=1).min() > np.cos(np.radians(23))


def test_the_likely_roll_brings_the_groups_views_to_the_crop(described):
    """Whichever view of a group the crop shows, at whichever roll, the group is turned towards it."""
    for group in view_groups()[::9]:
        for view in group:
            for roll in (0, 5):
                similarity = np.zeros((162, ROLLS))
                similarity[view, roll] = 1.0
                best = likely_rolls(ViewSearch(similarity, described), group, 1)
                R_true, R_group = described.rotation(view, roll), described.rotation(group[0], best[0])
                # Half a step of the rolls, and the way from one view to the next.
                assert rotation_angle(R_true, R_group) < np.radians(15 + 20)
    assert likely_rolls(ViewSearch(np.zeros((162, ROLLS)), described), view_groups()[0], 12) == list(
        range(12)
    )


def test_the_roll_of_a_rolled_template_is_found(described, small_model):
    view = view_groups()[7][0]
    image = described.templates.images[view]
    turns = np.stack([rotate_image(image, roll_angle(4 + k)) for k in range(CROP_TURNS)])
    descriptors = small_model.describe(encode_images(small_model, turns))
    assert 4 in likely_rolls(
        ViewSearch(template_logits(descriptors, described), described), view_groups()[7], 2
    )


@pytest.mark.parametrize(
    ("num_views", "retry_views", "sizes"),
    [(2, 16, [2, 4, 12]), (2, 4, [2, 4]), (2, 7, [2, 4, 3]), (3, 0, [3]), (1, 1, [1, 1])],
)
def test_each_retry_tries_twice_as_many_views_as_were_tried_before(
    described, small_model, num_views, retry_views, sizes
):
    descriptors = small_model.describe(encode_images(small_model, described.templates.images[:CROP_TURNS]))
    search = ViewSearch(template_logits(descriptors, described), described)
    mode = ClusterMode(num_views, retry_views)
    rounds = [list(mode.clusters(n, search)) for n in range(mode.num_rounds)]
    assert [len(clusters) for clusters in rounds] == sizes
    best = best_views(search, num_views + retry_views)
    tried = [cluster for clusters in rounds for cluster in clusters]
    for cluster, view in zip(tried, best, strict=True):
        assert (cluster.rgb == described.cluster(view.view, view.roll_index, 4).rgb).all()


def test_every_group_is_tried_at_its_rolls(described, small_model):
    clusters = list(GlobalMode(rolls=2).clusters(0, ViewSearch(np.zeros((162, ROLLS)), described)))
    assert len(clusters) == 84
    assert all(c.rgb.shape == (4, 48, 48, 3) for c in clusters)


def test_how_many_groups_go_through_at_once_changes_nothing(described, small_model, crop_of):
    """The solutions are the same, in the same order, one by one and all together."""
    crop = crop_of(described)
    encoded = encode_images(small_model, crop.rgb[None])
    logits = template_logits(small_model.describe(encoded).expand(CROP_TURNS, -1), described)
    query = SimpleNamespace(crop=crop, encoding=encoded)

    def solved(batch):
        tried = ((0, c) for c in GlobalMode(rolls=1).clusters(0, ViewSearch(logits, described)))
        return [h for _, h in match_and_solve(small_model, [query], tried, batch=batch)]

    some = solved(5)
    assert len(some) == 42
    for batch in (1, 42):
        for one, other in zip(some, solved(batch), strict=True):
            # Float32 sums in another order.
            np.testing.assert_allclose(one.match.in_template, other.match.in_template, atol=1e-2)
            np.testing.assert_allclose(one.match.confidence, other.match.confidence, atol=1e-4)
            assert (one.pnp is None) == (other.pnp is None)
            assert one.score == pytest.approx(other.score, abs=1e-2)


def test_clusters_are_made_as_they_are_needed(described, small_model, crop_of, monkeypatch):
    """No more clusters are held in memory than go through the network at once."""
    crop = crop_of(described)
    encoded = encode_images(small_model, crop.rgb[None])
    query = SimpleNamespace(crop=crop, encoding=encoded)
    logits = template_logits(small_model.describe(encoded).expand(CROP_TURNS, -1), described)
    made, ahead = 0, []

    def counted():
        nonlocal made
        for cluster in GlobalMode(rolls=1).clusters(0, ViewSearch(logits, described)):
            made += 1
            yield 0, cluster

    for solved, _ in enumerate(match_and_solve(small_model, [query], counted(), batch=6)):
        ahead.append(made - solved)
    assert max(ahead) <= 6
