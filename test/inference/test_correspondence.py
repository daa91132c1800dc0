import numpy as np
import pytest
import torch

from vpog_core.inference.correspondence import (
    DenseMatch,
    correspondences,
    dense_matches,
    lift,
    merged,
)
from vpog_core.inference.options import Options
from vpog_core.models.flow_head import MatchedPixels
from vpog_core.models.vpog_model import Matches
from vpog_core.types import VPOGError

SIZE = 48
SIDE = 3


def plane(size=SIZE):
    """Return [1, P, P, 3] points of a slanted plane: linear in the pixel."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    return np.stack([0.001 * x, 0.002 * y, 0.3 + 0.001 * x - 0.0005 * y], axis=-1)[None]


def on_plane(pixels):
    x, y = np.asarray(pixels).T
    return np.stack([0.001 * x, 0.002 * y, 0.3 + 0.001 * x - 0.0005 * y], axis=-1)


def zeros(count):
    return np.zeros(count, dtype=int)


def test_lift_is_exact_between_the_pixels_of_a_plane():
    pixels = np.random.default_rng(0).uniform(0, SIZE - 1, (200, 2))
    np.testing.assert_allclose(lift(plane(), zeros(200), pixels), on_plane(pixels), atol=1e-6)


def test_lift_at_pixel_centres_and_corners():
    pixels = np.array([[0, 0], [47, 0], [0, 47], [47, 47], [13, 20]], dtype=float)
    np.testing.assert_allclose(lift(plane(), zeros(5), pixels), on_plane(pixels), atol=1e-6)


def test_lift_is_nan_outside_the_picture():
    pixels = np.array([[-0.6, 5], [5, -0.6], [47.6, 5], [5, 47.6], [-900, 1e4], [np.nan, 3]])
    assert np.isnan(lift(plane(), zeros(6), np.nan_to_num(pixels, nan=-5))).all()
    # The outer half of the outer pixels is still theirs.
    assert np.isfinite(lift(plane(), zeros(2), np.array([[-0.4, 5], [47.4, 5]]))).all()


def test_lift_is_nan_off_the_object_and_nearest_at_its_rim():
    coords = plane()
    coords[0, :, 24:] = np.nan
    pixels = np.array([[30.0, 10.0], [23.6, 10.0], [23.4, 10.0], [22.5, 10.0]])
    points = lift(coords, zeros(4), pixels)
    assert np.isnan(points[:2]).all()
    np.testing.assert_allclose(points[2], on_plane([[23, 10]])[0], atol=1e-6)
    np.testing.assert_allclose(points[3], on_plane([[22.5, 10]])[0], atol=1e-6)


def test_lift_does_not_mix_two_surfaces():
    """Across a step of half the object a mean would lie in the air: the nearest surface counts."""
    coords = plane()
    coords[0, :, 24:, 2] += 0.5
    points = lift(coords, zeros(2), np.array([[23.4, 10.0], [23.6, 10.0]]))
    np.testing.assert_allclose(
        points[:, 2], [on_plane([[23, 10]])[0, 2], on_plane([[24, 10]])[0, 2] + 0.5], atol=1e-6
    )


def test_lift_takes_each_template_for_itself():
    coords = np.concatenate([plane(), plane() + 1.0])
    points = lift(coords, np.array([1, 0]), np.array([[3.5, 4.0], [3.5, 4.0]]))
    np.testing.assert_allclose(points[0] - points[1], 1.0, atol=1e-6)


def identity_match(confidence=0.5):
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    return DenseMatch(
        np.stack([x, y], axis=-1)[None], np.full((1, SIZE, SIZE), confidence, np.float32),
        np.ones((1, SIZE, SIZE), dtype=bool),
    )  # fmt: skip


def test_correspondences_of_the_view_itself():
    pairs = correspondences(identity_match(), plane())
    assert len(pairs.points_2d) == (SIZE / 4) ** 2
    np.testing.assert_allclose(pairs.points_3d, on_plane(pairs.points_2d), atol=1e-6)
    np.testing.assert_allclose(pairs.points_template, pairs.points_2d)
    assert (pairs.weights == 0.5).all()
    assert pairs.points_3d.dtype == pairs.points_2d.dtype == np.float64


def test_only_seen_masked_object_pixels_count():
    match, coords, mask = identity_match(), plane(), np.ones((SIZE, SIZE), dtype=bool)
    match.seen[0, :16] = False
    coords[0, 32:] = np.nan
    mask[:, 24:] = False
    pairs = correspondences(match, coords, mask)
    assert len(pairs.points_2d) == 4 * 6
    x, y = pairs.points_2d.T
    assert ((y >= 16) & (y < 32) & (x < 24)).all()


def test_nothing_seen_gives_no_correspondence():
    match = identity_match()
    match.seen[:] = False
    pairs = correspondences(match, plane())
    assert pairs.points_2d.shape == (0, 2)
    assert pairs.points_3d.shape == (0, 3)


def test_points_that_agree_become_one_and_those_that_do_not_stay():
    """At pixel 0 three agree and one does not; at pixel 1 there is one template; at pixel 2 none."""
    points = np.full((4, 3, 3), np.nan)
    weights = np.zeros((4, 3))
    points[:, 0] = [[0.0, 0, 0], [0.01, 0, 0], [0.02, 0, 0], [1.0, 0, 0]]
    weights[:, 0] = [0.1, 0.4, 0.1, 0.3]
    points[2, 1], weights[2, 1] = [5, 5, 5], 0.2
    found, weight = merged(points, weights, 0.015)
    np.testing.assert_allclose(weight[:, 0], [0, 0.6, 0, 0.3])
    np.testing.assert_allclose(found[1, 0], [0.01, 0, 0], atol=1e-12)
    np.testing.assert_allclose(found[3, 0], [1, 0, 0])
    np.testing.assert_allclose(weight[:, 1], [0, 0, 0.2, 0])
    np.testing.assert_allclose(found[2, 1], [5, 5, 5])
    assert weight[:, 2].sum() == 0


def test_merging_weighs_and_the_surest_template_leads():
    match, coords = identity_match(), np.concatenate([plane(), plane() + np.float32(0.0003)])
    both = DenseMatch(*(np.concatenate([v, v]) for v in vars(match).values()))
    both.confidence[1] = 0.25
    pairs = correspondences(both, coords)
    assert len(pairs.weights) == (SIZE / 4) ** 2
    np.testing.assert_allclose(pairs.weights, 0.75)
    np.testing.assert_allclose(pairs.confidence, 0.5)
    assert (pairs.template == 0).all()
    np.testing.assert_allclose(pairs.points_3d, on_plane(pairs.points_2d) + 0.0001, atol=1e-6)
    apart = correspondences(both, coords, options=Options(match_merge=False))
    assert len(apart.weights) == 2 * (SIZE / 4) ** 2


def test_unsure_matches_are_left_out():
    match = identity_match()
    match.confidence[0, :, :24] = 0.09
    assert (
        correspondences(match, plane(), options=Options(match_min_confidence=0.1)).points_2d[:, 0] >= 24
    ).all()


def test_a_patch_is_one_correspondence_at_its_middle():
    match = identity_match()
    match.in_template += np.random.default_rng(0).normal(0, 0.5, match.in_template.shape).astype(np.float32)
    pairs = correspondences(match, plane(), options=Options(match_level="patch"))
    assert len(pairs.weights) == 9
    np.testing.assert_allclose(np.unique(pairs.points_2d), [7.5, 23.5, 39.5])
    # The noise of 256 pixels, averaged.
    np.testing.assert_allclose(pairs.points_template, pairs.points_2d, atol=0.15)


@pytest.mark.parametrize(
    "change", [{"match_level": "cell"}, {"match_patches": 0}, {"match_min_confidence": 1.0}]
)
def test_settings_that_make_no_sense_are_refused(change):
    with pytest.raises(VPOGError, match=next(iter(change))):
        Options(**change)


class FixedFlow:
    """Stands for the network: a constant flow."""

    def __init__(self, flow):
        self.value = torch.tensor(flow)

    def flow_where(self, matches, index, wanted):
        shape = index.shape
        return MatchedPixels(self.value.expand(*shape, 16, 16, 2), torch.full((*shape, 16, 16), 0.5))


def matches_of(logits):
    b, s, q, _ = logits.shape
    return Matches(logits, torch.zeros(b, q, 4), torch.zeros(b, s, q, 4), torch.zeros(0), torch.zeros(0))


def test_dense_matches_put_patches_and_flow_together():
    """Crop pixel u of patch i lies at centre(j) + (u - centre(i)) + 16 flow."""
    logits = torch.full((1, 2, 9, 10), -20.0)
    index = torch.arange(9)
    logits[0, 0, index, index] = 20.0
    logits[0, 1, index, (index + 1) % 9] = 20.0
    logits[0, 1, 4] = -20.0
    logits[0, 1, 4, 9] = 20.0
    match = dense_matches(FixedFlow([0.25, -0.5]), matches_of(logits))[0]
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    here = np.stack([x, y], axis=-1).astype(float)
    np.testing.assert_allclose(match.in_template[0], here + np.array([4, -8]), atol=1e-4)
    # Patch 0 of the second template lies in patch 1: 16 pixels to the right.
    np.testing.assert_allclose(match.in_template[1][:16, :16], here[:16, :16] + np.array([20, -8]), atol=1e-4)
    # Patch 2, the last of its row, lies in patch 3, the first of the next.
    np.testing.assert_allclose(
        match.in_template[1][:16, 32:], here[:16, 32:] + np.array([4 - 32, -8 + 16]), atol=1e-4
    )
    assert match.seen[0].all()
    assert not match.seen[1][16:32, 16:32].any()
    assert match.seen[1].sum() == 8 * 256
    # Logit 0 is one half, times certain classes.
    np.testing.assert_allclose(match.confidence[0], 0.5, atol=1e-4)
    assert match.confidence[1][20, 20] < 1e-6


def test_soft_places_are_the_mean_over_neighbouring_patches():
    """Patches 0 and 1 share the match 3 to 1; patch 8, as likely as 1, is no neighbour and has no say."""
    logits = torch.full((1, 1, 9, 10), -30.0)
    for patch, probability in ((0, 0.6), (1, 0.2), (8, 0.2)):
        logits[..., patch] = float(np.log(probability))
    match = dense_matches(FixedFlow([0.0, 0.0]), matches_of(logits), match_patches=3)[0]
    # Patch 1 lies 16 px to the right of patch 0: a quarter of that.
    np.testing.assert_allclose(match.in_template[0, 5, 5], [5 + 4, 5], atol=1e-4)
    hard = dense_matches(FixedFlow([0.0, 0.0]), matches_of(logits), match_patches=1)[0]
    np.testing.assert_allclose(hard.in_template[0, 5, 5], [5, 5], atol=1e-4)
    # 0.8 instead of 0.6 of the mass speaks for the place.
    assert match.confidence[0, 5, 5] == pytest.approx(0.5 * np.sqrt(0.8), abs=1e-4)
    assert hard.confidence[0, 5, 5] == pytest.approx(0.5 * np.sqrt(0.6), abs=1e-4)


@pytest.mark.parametrize("added", [1, 3])
def test_unseen_is_what_all_added_tokens_say_together(added):
    logits = torch.full((1, 1, 9, 9 + added), -30.0)
    logits[:, :, 0, 4], logits[:, :, 0, 9:] = float(np.log(0.6)), float(np.log(0.4 / added))
    logits[:, :, 1:, 4], logits[:, :, 1:, 9:] = float(np.log(0.4)), float(np.log(0.6 / added))
    match = dense_matches(FixedFlow([0.0, 0.0]), matches_of(logits))[0]
    assert match.seen[0, :16, :16].all()
    np.testing.assert_allclose(match.confidence[0, :16, :16], 0.5 * 0.6, atol=1e-4)
    assert match.seen.sum() == 256
    assert not match.confidence[~match.seen].any()


def test_confidence_falls_with_doubt():
    logits = torch.zeros(1, 1, 9, 10)
    logits[..., 9] = -20.0
    doubtful = dense_matches(FixedFlow([0.0, 0.0]), matches_of(logits))[0]
    # One of nine patches, certainly seen: the root of a ninth, times the flow's half.
    np.testing.assert_allclose(doubtful.confidence, 0.5 / 3, atol=1e-4)
    assert doubtful.seen.all()


def test_crops_of_a_batch_keep_apart():
    logits = torch.full((2, 1, 9, 10), -20.0)
    logits[0, 0, :, 0] = 20.0
    logits[1, 0, :, 8] = 20.0
    one, two = dense_matches(FixedFlow([0.0, 0.0]), matches_of(logits))
    assert one.in_template[0, 16, 16] == pytest.approx([0, 0])
    assert two.in_template[0, 16, 16] == pytest.approx([32, 32])
