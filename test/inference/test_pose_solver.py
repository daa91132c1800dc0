"""Test how the correspondences of a pose are grouped by place, against the plain way."""

from types import SimpleNamespace

import numpy as np
import pytest

from vpog_core.inference.correspondence import Correspondences
from vpog_core.inference.pose_solver import _points_per_patch, compute_score_features
from vpog_core.models.config import PATCH


def pairs_at(places: np.ndarray, rng: np.random.Generator) -> Correspondences:
    """Return correspondences at pixels [M, 2], several at each."""
    count = len(places)
    confidence = rng.uniform(0.01, 1.0, count)
    return Correspondences(
        places, rng.normal(size=(count, 3)), confidence, confidence, rng.integers(0, 4, count), places
    )


def plain_confidence(pairs: Correspondences, chosen: np.ndarray) -> float:
    places, row = np.unique(pairs.points_2d[chosen], axis=0, return_inverse=True)
    surest = np.zeros(len(places))
    np.maximum.at(surest, row.ravel(), pairs.confidence[chosen])
    return float(surest.sum())


@pytest.mark.parametrize("first", [2.0, 7.5], ids=["pixels", "patches"])
def test_score_features_are_those_of_places_that_are_grouped_as_they_are(first):
    rng = np.random.default_rng(0)
    for count in (1, 20, 700):
        pairs = pairs_at(first + 4.0 * rng.integers(0, 27, (count, 2)), rng)
        pnp = SimpleNamespace(inlier=rng.random(count) < 0.6, reprojection_error=0.7)
        pnp.inlier[0] = True
        support, total = plain_confidence(pairs, pnp.inlier), plain_confidence(pairs, np.ones(count, bool))
        expected = np.log(np.maximum((support, support / total, 0.7), 1e-6))
        # To the last bit: sums are taken in the same order.
        np.testing.assert_array_equal(compute_score_features(pairs, pnp), expected)


def test_points_of_a_patch_are_those_whose_pixels_lie_in_it():
    rng = np.random.default_rng(1)
    for count in (1, 50, 900):
        # Points that are aligned with the image may lie beside the crop.
        points, weights = rng.uniform(-40, 150, (count, 2)), rng.uniform(0.1, 2.0, count)
        _, patch = np.unique(np.floor(points / PATCH), axis=0, return_inverse=True)
        of_patches = np.bincount(patch.ravel(), weights)
        expected = float(np.sum(of_patches**2) / np.sum(weights) / np.mean(weights))
        assert _points_per_patch(points, weights) == expected
