"""Cluster mode: match a crop with the templates around a hypothesis, and solve for the pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vpog_core.geometry.pnp import PnPResult, solve_pnp
from vpog_core.inference.correspondence import Correspondences, DenseMatch, correspondences, dense_matches
from vpog_core.inference.crop import Crop
from vpog_core.inference.onboarding import Cluster
from vpog_core.models.vpog_model import Encoded, VPOGModel

CLUSTER_SIZE = 4
BATCH = 16
"""Crop-cluster pairs that go through the network at once."""
THRESHOLD_SHARE = 3.0 / 112.0
"""Largest reprojection error of an inlier over the crop's side."""
SCORE = {"bias": -7.65, "support": 1.57, "agreement": 1.29}
"""Logistic regression of 'ADD under 10 %' on held-out scenes: log of the support, log of its share."""


@dataclass
class Solution:
    """A pose of one crop with what it stands on.

    Attributes:
        pnp: pose in the crop's virtual camera, inliers, covariance; None when no pose was found.
        score: 0..1, an estimate of the probability that the pose is right.
    """

    crop: Crop
    cluster: Cluster
    match: DenseMatch
    pairs: Correspondences
    pnp: PnPResult | None
    score: float


def match_and_solve(
    model: VPOGModel, crops: Sequence[Crop], queries: Encoded, clusters: Sequence[Cluster]
) -> list[Solution]:
    """One solution per crop-cluster pair.

    Args:
        crops, clusters: N pairs, every cluster of the same S; queries: the crops' encodings [N].
    """
    solutions = []
    for start in range(0, len(crops), BATCH):
        part = slice(start, start + BATCH)
        matched = match_clusters(model, queries[part], clusters[part])
        for crop, cluster, match in zip(crops[part], clusters[part], matched, strict=True):
            solutions.append(solve(crop, cluster, match))
    return solutions


def match_clusters(model: VPOGModel, queries: Encoded, clusters: Sequence[Cluster]) -> list[DenseMatch]:
    """The network's answer for queries [N] against N clusters."""
    templates = Encoded(
        torch.stack([c.encoded.tokens for c in clusters]), torch.stack([c.encoded.stem for c in clusters])
    )
    directions = torch.from_numpy(np.stack([c.directions for c in clusters])).to(queries.tokens.device)
    with torch.inference_mode():
        return dense_matches(model, model.match(queries, templates, directions))


def solve(crop: Crop, cluster: Cluster, match: DenseMatch) -> Solution:
    """Lift the matches to 3D and find the pose they agree on."""
    pairs = correspondences(match, cluster.coords, crop.mask)
    threshold = THRESHOLD_SHARE * crop.virtual.size
    pnp = solve_pnp(pairs.points_2d, pairs.points_3d, crop.virtual.K, pairs.weights, threshold_px=threshold)
    return Solution(crop, cluster, match, pairs, pnp, pose_score(pairs, pnp))


def pose_score(pairs: Correspondences, pnp: PnPResult | None) -> float:
    """How sure a pose is, 0..1: by the confidence of the correspondences that agree, and its share of all."""
    if pnp is None:
        return 0.0
    support = float(pairs.weights[pnp.inlier].sum())
    share = support / float(pairs.weights.sum())
    logit = SCORE["bias"] + SCORE["support"] * np.log(support) + SCORE["agreement"] * np.log(share)
    return float(1.0 / (1.0 + np.exp(-logit)))
