"""Extract the images and matches of a hypothesis for drawing."""

from __future__ import annotations

import numpy as np

from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.types import MatchView


def match_view(hypothesis: PoseHypothesis) -> MatchView:
    """Choose the template that most confident correspondences come from, and show the crop beside it."""
    pairs, match = hypothesis.pairs, hypothesis.match
    inlier = hypothesis.pnp.inlier if hypothesis.pnp is not None else np.zeros(len(pairs.weights), dtype=bool)
    support = np.bincount(pairs.template, weights=pairs.weights * (0.1 + inlier), minlength=len(match.seen))
    best = int(support.argmax())
    chosen = pairs.template == best
    size = match.seen.shape[-1]
    y, x = np.mgrid[0:size, 0:size]
    return MatchView(
        crop=hypothesis.crop.rgb,
        template=hypothesis.cluster.rgb[best],
        flow=(match.in_template[best] - np.stack([x, y], axis=-1)).astype(np.float32),
        confidence=match.confidence[best],
        seen=match.seen[best],
        points_2d=pairs.points_2d[chosen].astype(np.float32),
        points_template=pairs.points_template[chosen].astype(np.float32),
        inlier=inlier[chosen],
    )
