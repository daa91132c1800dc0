"""Compute the pose loss: KL divergence of the true pose from the distribution of poses (EPro-PnP).

Chen et al. (CVPR 2022), Monte Carlo pose loss: cost(true pose) + log of the integral of exp(-cost) over all
poses, the integral by importance sampling. Their local regularization of derivatives draws the solution
itself to the truth.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from vpog_core.geometry.epro_pnp import (
    PnPProblem,
    PnPSolution,
    gauss_newton_step,
    necker_reversal,
    pose_cost,
    solve,
)
from vpog_core.geometry.pose_distribution import sample_poses
from vpog_core.geometry.se3_torch import rotation_log
from vpog_core.training.losses.classification import masked_mean
from vpog_core.training.losses.pose_correspondences import PoseCorrespondences

FREEDOM = 6.0
SIGMA_PX = (0.5, 64.0)
"""Bounds of the standard deviation that a mean weight stands for, pixels."""
SMALL_SHIFT = 0.05
"""Position error, in diameters, at which the loss of the solution turns from square to linear."""


def pose_loss(
    found: PoseCorrespondences,
    K: Tensor,
    T_true: Tensor,
    diameter: Tensor,
    samples: int = 128,
    derivative: float = 0.1,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the loss over B queries; those whose points do not determine a pose count nothing.

    Two modes are sampled: the minimum near the true pose, and that near its Necker reversal, so that a flat
    object's second pose is paid for.

    Args:
        K: [B, 3, 3]; T_true: [B, 4, 4]; diameter: [B] metres.
        samples: poses drawn for each query; derivative: what the solution's own error counts.

    Returns:
        the loss, per degree of freedom of a pose; `rotation_error` (degrees) and `translation_error` (in
        diameters) of the better minimum, means over the queries with a pose; `pose_fraction`: of the
        queries, how many have one.
    """
    # Solve for both minima.
    problem = PnPProblem(found.points_2d, found.points_3d, shared_weights(found.confidence), K)
    near, other = _two_solutions(problem, T_true)
    valid = near.valid
    # Scale the weights to the size of the errors.
    scale = _calibrating_scale(pose_cost(problem.detach(), T_true) - near.cost)
    problem = replace(problem, weights=problem.weights * scale[:, None, None])
    # Estimate the normaliser by samples around both minima: Monte-Carlo loss.
    T = torch.stack((near.T, other.T), dim=1)
    covariance = torch.stack((near.covariance, other.covariance), dim=1) / scale[:, None, None, None].square()
    drawn = sample_poses(problem, T, covariance, samples, generator=generator)
    values = (pose_cost(problem, T_true) + drawn.log_evidence) / FREEDOM
    # Add the error of the minimum itself, which has a gradient through one more step.
    if derivative:
        stepped = gauss_newton_step(problem, near.T)
        values = values + derivative * _solution_loss(stepped, T_true, diameter)
    # Measure the better minimum.
    best = torch.where((other.valid & (other.cost < near.cost))[:, None, None], other.T, near.T)
    rotation = torch.rad2deg(rotation_log(best[:, :3, :3] @ T_true[:, :3, :3].mT).norm(dim=-1))
    translation = (best[:, :3, 3] - T_true[:, :3, 3]).norm(dim=-1) / diameter
    scores = {
        "rotation_error": masked_mean(rotation, valid),
        "translation_error": masked_mean(translation, valid),
        "pose_fraction": valid.float().mean(),
    }
    return masked_mean(values, valid), {k: v.detach() for k, v in scores.items()}


def shared_weights(confidence: Tensor) -> Tensor:
    """Turn confidences [B, M] into relative inverse standard deviations [B, M] of mean one.

    A confidence is an inverse variance up to a factor, as for `solve_pnp`. As in the paper, the weights of a
    query are relative to each other; their scale is set separately.
    """
    there = confidence > 0
    root = torch.where(there, confidence, torch.ones_like(confidence)).sqrt() * there
    count = there.sum(dim=1, keepdim=True).clamp_min(1)
    return root / (root.sum(dim=1, keepdim=True) / count).clamp_min(1e-6)


def _calibrating_scale(excess: Tensor) -> Tensor:
    """Return the factor [B] on the weights for which 2 (cost of the true pose - minimum) is 6.

    There the divergence's derivative by the scale vanishes: what the paper's network learns to say of each
    object, set here in closed form. The adaptive Huber cost grows with the square of the scale.
    """
    least, most = SIGMA_PX
    return (FREEDOM / (2 * excess).clamp_min(1e-6)).sqrt().clamp(1 / most, 1 / least)


def _two_solutions(problem: PnPProblem, T_true: Tensor) -> tuple[PnPSolution, PnPSolution]:
    """Find the minimum near the true pose and the one near its reversal, in one batch."""
    names = ("points_2d", "points_3d", "weights", "K")
    twice = replace(problem, **{k: torch.cat([getattr(problem, k).detach()] * 2) for k in names})
    both = solve(twice, torch.cat((T_true, necker_reversal(problem, T_true))), iterations=12)
    halves = zip(*(v.chunk(2) for v in vars(both).values()), strict=True)
    near, other = (PnPSolution(*half) for half in halves)
    return near, other


def _solution_loss(T: Tensor, T_true: Tensor, diameter: Tensor) -> Tensor:
    """Compute [B]: smooth L1 of the position (diameters) plus the squared sine of half the angle."""
    shift = (T[:, :3, 3] - T_true[:, :3, 3]) / diameter[:, None]
    position = F.smooth_l1_loss(shift, torch.zeros_like(shift), reduction="none", beta=SMALL_SHIFT).sum(
        dim=-1
    )
    chord = (T[:, :3, :3] - T_true[:, :3, :3]).square().sum(dim=(1, 2)) / 8
    return position + chord
