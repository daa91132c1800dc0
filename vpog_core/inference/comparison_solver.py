"""Solve for the poses that explain comparisons of renders with images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vpog_core.geometry.epro_pnp import PnPProblem, PnPSolution, solve
from vpog_core.models.refiner import Comparison

MIN_VISIBILITY = 0.3
"""Cells less likely to be visible than this are not used for the pose."""
LAPLACE_SIGMA = 2**0.5
"""Standard deviation of a Laplace distribution over its scale."""
AGREES_PX = 2.0
"""A cell agrees with a pose when its flow ends this near to its projection, pixels of the crop."""


@dataclass
class Fit:
    """Holds the pose of one comparison and how the comparison's cells agree with it.

    Attributes:
        T: [4, 4], of the crop's camera; valid: the cells determine the pose.
        visible, agreement, precision: see `render_and_compare.RefinedPose`.
        pixels: [N, 2] of the crop where the image shows the cells that agree; points: [N, 3] metres, object
            frame; weights: [N] their inverse variances, up to a factor.
    """

    T: np.ndarray
    valid: bool
    visible: float
    agreement: float
    precision: float
    pixels: np.ndarray
    points: np.ndarray
    weights: np.ndarray


def refined_pose(
    found: Comparison, pixels: Tensor, points: Tensor, mask: Tensor, K: Tensor, T_start: Tensor
) -> PnPSolution:
    """Solve for B poses by probabilistic PnP, each correspondence weighted by scale and visibility.

    Args:
        found: the network's output on a grid of g x g cells.
        pixels: [B, g, g, 2] (x, y) of the cells in the render; points: [B, g, g, 3] metres, object frame,
            under them; mask: [B, g, g] bool, cells that show the object.
        K: [B, 3, 3]; T_start: [B, 4, 4], both of the crop's camera.
    """
    return solve(pose_problem(found, pixels, points, mask, K), T_start)


def pose_problem(found: Comparison, pixels: Tensor, points: Tensor, mask: Tensor, K: Tensor) -> PnPProblem:
    """Make a PnP problem of the cells that are likely to be visible; arguments as of `refined_pose`."""
    visible = torch.sigmoid(found.visibility)
    weights = visible * (-found.log_scale).exp() / LAPLACE_SIGMA
    weights = torch.where(mask & (visible > MIN_VISIBILITY), weights, torch.zeros_like(weights))
    observed = pixels + found.flow.permute(0, 2, 3, 1)
    return PnPProblem(observed.flatten(1, 2), points.flatten(1, 2), weights.flatten(1), K)


def fit_poses(
    found: Comparison,
    pixels: np.ndarray,
    points: np.ndarray,
    mask: np.ndarray,
    K: np.ndarray,
    T_start: np.ndarray,
) -> list[Fit]:
    """Solve for B poses in double precision, and measure how the cells agree with each.

    Args:
        pixels: [g, g, 2]; others as of `refined_pose`, as arrays.
    """
    # Gather the object's cells, padded to the same number.
    count = int(mask.reshape(len(mask), -1).sum(axis=1).max())
    chosen = np.argsort(~mask.reshape(len(mask), -1), axis=1, kind="stable")[:, :count]
    index = torch.from_numpy(chosen)

    def at(values: Tensor) -> Tensor:
        flat = values.flatten(1, 2)
        return flat.gather(1, index[..., None].expand(-1, -1, flat.shape[-1]))[:, None]

    comparison = Comparison(
        flow=at(found.flow.permute(0, 2, 3, 1).double()).permute(0, 3, 1, 2),
        log_scale=at(found.log_scale[..., None].double())[..., 0],
        visibility=at(found.visibility[..., None].double())[..., 0],
        score=found.score,
    )
    # Solve all problems at once.
    grid = torch.from_numpy(np.broadcast_to(pixels, (len(mask), *pixels.shape)).copy())
    object_cells = at(torch.from_numpy(mask)[..., None])[..., 0]
    problem = pose_problem(
        comparison, at(grid), at(torch.from_numpy(points)), object_cells, torch.from_numpy(K)
    )
    solution = solve(problem, torch.from_numpy(T_start))
    return [_fit_of(problem, solution, comparison, object_cells, n) for n in range(len(mask))]


def _fit_of(
    problem: PnPProblem, solution: PnPSolution, comparison: Comparison, object_cells: Tensor, n: int
) -> Fit:
    T, mask = solution.T[n], object_cells[n].flatten()
    visible = torch.sigmoid(comparison.visibility[n].flatten())[mask]
    p = problem.points_3d[n][mask] @ T[:3, :3].T + T[:3, 3]
    projected = (p @ problem.K[n].T)[:, :2] / p[:, 2:].clamp_min(1e-6)
    # Cells that are unlikely to be visible have weight zero in the problem; they do not count as agreeing.
    counts = problem.there[n][mask]
    residual = (projected - problem.points_2d[n][mask]).norm(dim=1)
    agrees = counts & (residual < AGREES_PX)
    scale = comparison.log_scale[n].flatten()[mask]
    total = max(int(mask.sum()), 1)
    return Fit(
        T=T.numpy(),
        valid=bool(solution.valid[n]),
        visible=float(visible.sum()) / total,
        agreement=float((visible * agrees).sum()) / total,
        precision=float(scale[counts].mean()) if counts.any() else 4.0,
        pixels=problem.points_2d[n][mask][agrees].numpy(),
        points=problem.points_3d[n][mask][agrees].numpy(),
        weights=problem.weights[n][mask][agrees][:, 0].square().numpy(),
    )
