"""What a solution looks like: the material of flow pictures."""

from __future__ import annotations

import numpy as np

from vpog_core.inference.solution import Solution
from vpog_core.types import MatchView


def match_view(solution: Solution) -> MatchView:
    """The crop beside the template that most confident correspondences come from."""
    pairs, match = solution.pairs, solution.match
    inlier = solution.pnp.inlier if solution.pnp is not None else np.zeros(len(pairs.weights), dtype=bool)
    support = np.bincount(pairs.template, weights=pairs.weights * (0.1 + inlier), minlength=len(match.seen))
    best = int(support.argmax())
    chosen = pairs.template == best
    size = match.seen.shape[-1]
    y, x = np.mgrid[0:size, 0:size]
    return MatchView(
        crop=solution.crop.rgb,
        template=solution.cluster.rgb[best],
        flow=(match.in_template[best] - np.stack([x, y], axis=-1)).astype(np.float32),
        confidence=match.confidence[best],
        seen=match.seen[best],
        points_2d=pairs.points_2d[chosen].astype(np.float32),
        points_template=pairs.points_template[chosen].astype(np.float32),
        inlier=inlier[chosen],
    )
