"""From a comparison of render and image to the pose that explains it."""

from __future__ import annotations

import torch
from torch import Tensor

from vpog_core.geometry.epro_pnp import PnPProblem, PnPSolution, solve
from vpog_core.models.refiner import Comparison

MIN_VISIBILITY = 0.3
"""Cells less likely to be visible than this take no part in a pose."""
LAPLACE_SIGMA = 2**0.5
"""Standard deviation of a Laplace distribution over its scale."""


def refined_pose(
    found: Comparison, pixels: Tensor, points: Tensor, mask: Tensor, K: Tensor, T_start: Tensor
) -> PnPSolution:
    """Solve for B poses by probabilistic PnP, each correspondence weighted by scale and visibility.

    Args:
        found: the network's answer on a grid of g x g cells.
        pixels: [B, g, g, 2] (x, y) of the cells in the render; points: [B, g, g, 3] metres, object frame,
            under them; mask: [B, g, g] bool, cells that show the object.
        K: [B, 3, 3]; T_start: [B, 4, 4], both of the crop's camera.
    """
    visible = torch.sigmoid(found.visibility)
    weights = visible * (-found.log_scale).exp() / LAPLACE_SIGMA
    weights = torch.where(mask & (visible > MIN_VISIBILITY), weights, torch.zeros_like(weights))
    shown = pixels + found.flow.permute(0, 2, 3, 1)
    problem = PnPProblem(shown.flatten(1, 2), points.flatten(1, 2), weights.flatten(1), K)
    return solve(problem, T_start)
