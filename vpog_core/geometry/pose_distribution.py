"""Sample probabilistic PnP: the distribution exp(-cost), by adaptive multiple importance sampling.

EPro-PnP (Chen et al., CVPR 2022): proposals are a multivariate t (3 degrees of freedom) of the position and
an angular central Gaussian of the orientation's quaternion, laid out by the covariance of the solution, then
fitted to the weighted samples of all rounds so far (Cornuet et al. 2012). Ours: the position is that of the
points' middle, which depends least on the orientation; the fits are by moments; and there may be several
modes, each with proposals of its own in one mixture.

Densities are relative to cubic metres times the uniform probability on SO(3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vpog_core.geometry.epro_pnp import PnPProblem, pose_cost
from vpog_core.geometry.se3_torch import (
    identity_like,
    quaternion_of_rotation,
    rigid,
    rotation_log,
    rotation_of_quaternion,
)

T_FREEDOM = 3
PRIOR_SAMPLES = 4.0
"""Weight of the previous proposal, in samples, in the fit of the next: regularises fits to few samples."""


@dataclass
class PoseSamples:
    """Holds N weighted poses of each of B problems.

    Attributes:
        T: [B, N, 4, 4] T_cam_obj; cost: [B, N], minus the log likelihood, with gradients to the problem.
        log_proposal: [B, N], log density they were drawn with.
    """

    T: Tensor
    cost: Tensor
    log_proposal: Tensor

    @property
    def log_weights(self) -> Tensor:
        """The log importance weights [B, N], not normalised; their softmax weighs the samples."""
        return -self.cost - self.log_proposal

    @property
    def log_evidence(self) -> Tensor:
        """Estimate the log [B] of the integral of exp(-cost) over all poses."""
        return self.log_weights.logsumexp(dim=-1) - math.log(self.T.shape[1])

    @torch.no_grad()
    def moments(self) -> tuple[Tensor, Tensor]:
        """Compute mean pose [B, 4, 4] and covariance [B, 6, 6] in the terms of `pnp`, around that mean."""
        w = self.log_weights.softmax(dim=-1)
        q = quaternion_of_rotation(self.T[..., :3, :3])
        t = (w[..., None] * self.T[..., :3, 3]).sum(dim=1)
        R = rotation_of_quaternion(torch.linalg.eigh((w[..., None] * q).mT @ q)[1][..., -1])
        turn = rotation_log(self.T[..., :3, :3] @ R[:, None].mT)
        step = torch.cat((self.T[..., :3, 3] - t[:, None], turn), dim=-1)
        return rigid(R, t), (w[..., None] * step).mT @ step


def sample_poses(
    problem: PnPProblem,
    T: Tensor,
    covariance: Tensor,
    samples: int = 512,
    rounds: int = 4,
    generator: torch.Generator | None = None,
) -> PoseSamples:
    """Draw from the distribution of poses of B problems.

    Args:
        T: [B, 4, 4] where it is likely high (`solve`'s), or [B, H, 4, 4] for H modes.
        covariance: [B, 6, 6] or [B, H, 6, 6] of each; both are finite in what `solve` returns, valid or not.
        samples: per problem, spread evenly over rounds and modes; rounds: of drawing and fitting.

    Returns:
        rounds * modes * (samples // (rounds * modes)) samples per problem. Places and densities are
        constants; the cost has gradients if the problem has. The estimate of the evidence is a little low
        (0.04 in its log at 512 samples), because the proposals follow the samples.
    """
    modes = T.shape[1] if T.ndim == 4 else 1
    size = max(1, samples // (rounds * modes))
    with torch.no_grad():
        pivot = _middle(problem)
        proposal = _Proposal.at(T.reshape(-1, modes, 4, 4), covariance.reshape(-1, modes, 6, 6), pivot)
    proposals, draws, costs = [], [], []
    for k in range(rounds):
        with torch.no_grad():
            t, q = proposal.draw(size, generator)  # [B, H, n, 3], [B, H, n, 4]
            R = rotation_of_quaternion(q)
            poses = rigid(R, t - (R @ pivot[:, None, None, :, None])[..., 0])
        proposals.append(proposal)
        draws.append((poses, t, q))
        costs.append(pose_cost(problem, poses.flatten(1, 2)).unflatten(1, (modes, size)))
        with torch.no_grad():
            poses, t, q = (torch.cat(parts, dim=2) for parts in zip(*draws, strict=True))
            log_proposal = _log_mixture(proposals, t.flatten(1, 2), q.flatten(1, 2)).view(t.shape[:3])
            if k + 1 < rounds:
                log_weights = -torch.cat([c.detach() for c in costs], dim=2) - log_proposal
                proposal = proposal.fitted(t, q, log_weights.softmax(dim=-1))
    return PoseSamples(poses.flatten(1, 2), torch.cat(costs, dim=2).flatten(1), log_proposal.flatten(1))


@dataclass
class _Proposal:
    """Holds H modes of position t and orientation q: multivariate t and angular central Gaussian.

    Attributes:
        mean: [B, H, 3]; scale: [B, H, 3, 3] and shape: [B, H, 4, 4], positive definite.
    """

    mean: Tensor
    scale: Tensor
    shape: Tensor

    @classmethod
    def at(cls, T: Tensor, covariance: Tensor, pivot: Tensor) -> _Proposal:
        """Make a proposal of covariances [B, H, 6, 6] at poses [B, H, 4, 4], about object points [B, 3]."""
        arm = (T[..., :3, :3] @ pivot[:, None, :, None])[..., 0]
        lever = torch.linalg.cross(identity_like(3, T).expand(*arm.shape, 3), arm[..., None, :], dim=-1)
        turn = torch.cat((identity_like(3, T).expand_as(lever), lever.mT), dim=-1)  # step -> of the pivot
        scale = turn @ covariance @ turn.mT
        q = quaternion_of_rotation(T[..., :3, :3])
        E = _tangent(q)
        values, vectors = torch.linalg.eigh(covariance[..., 3:, 3:])
        # A rotation by a is an angle of a / 2 between quaternions; the uniform density is the widest.
        narrow = (vectors * (values / 4).clamp(1e-12, 1.0)[..., None, :]) @ vectors.mT
        return cls(T[..., :3, 3] + arm, _positive(scale), q[..., None] * q[..., None, :] + E @ narrow @ E.mT)

    def draw(self, size: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Draw positions [B, H, n, 3] and quaternions [B, H, n, 4]."""

        def normal(n: int) -> Tensor:
            return torch.randn(
                *self.mean.shape[:2],
                size,
                n,
                generator=generator,
                device=self.mean.device,
                dtype=self.mean.dtype,
            )

        chi_squared = normal(T_FREEDOM).square().sum(dim=-1, keepdim=True).clamp_min(1e-6)
        z = normal(3) * (T_FREEDOM / chi_squared).sqrt()
        t = self.mean[:, :, None] + z @ torch.linalg.cholesky(self.scale).mT
        q = normal(4) @ torch.linalg.cholesky(self.shape).mT
        return t, q / q.norm(dim=-1, keepdim=True)

    def log_density(self, t: Tensor, q: Tensor) -> Tensor:
        """Compute each mode's log density [B, H, n] at t [B, n, 3], q [B, n, 4]."""
        L, offset = torch.linalg.cholesky(self.scale), (t[:, None] - self.mean[:, :, None]).mT
        m = torch.linalg.solve_triangular(L, offset, upper=False).square().sum(dim=-2)
        log_t = -_log_det(L)[..., None] - (T_FREEDOM + 3) / 2 * torch.log1p(m / T_FREEDOM)
        L = torch.linalg.cholesky(self.shape)
        m = torch.linalg.solve_triangular(L, q[:, None].mT.expand(-1, L.shape[1], -1, -1), upper=False)
        return _LOG_T + log_t - _log_det(L)[..., None] - 2 * m.square().sum(dim=-2).log()

    def fitted(self, t: Tensor, q: Tensor, w: Tensor) -> _Proposal:
        """Fit to the moments of each mode's samples [B, H, n, ...] under weights w [B, H, n] that sum to one.

        The previous moments count as `PRIOR_SAMPLES` against the samples' effective number.
        """
        w = w[..., None]
        trust = 1 / w.square().sum(dim=2, keepdim=True)  # [B, H, 1, 1]
        trust = trust / (trust + PRIOR_SAMPLES)
        mean = trust[..., 0] * (w * t).sum(dim=2) + (1 - trust[..., 0]) * self.mean
        offset = t - mean[:, :, None]
        before = (self.mean - mean)[..., None]
        scale = trust * (w * offset).mT @ offset + (1 - trust) * (self.scale + before @ before.mT)
        previous = self.shape / self.shape.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[..., None, None]
        return _Proposal(mean, _positive(scale), _positive(trust * (w * q).mT @ q + (1 - trust) * previous))


_LOG_T = math.lgamma((T_FREEDOM + 3) / 2) - math.lgamma(T_FREEDOM / 2) - 1.5 * math.log(T_FREEDOM * math.pi)


def _log_mixture(proposals: list[_Proposal], t: Tensor, q: Tensor) -> Tensor:
    """Log density [B, n] of drawing from all proposals and modes equally."""
    densities = torch.cat([p.log_density(t, q) for p in proposals], dim=1)
    return densities.logsumexp(dim=1) - math.log(densities.shape[1])


def _middle(problem: PnPProblem) -> Tensor:
    """Compute the weighted mean [B, 3] of the object points."""
    w = problem.weights.square().sum(dim=-1, keepdim=True)
    return (w * problem.points_3d).sum(dim=1) / w.sum(dim=1).clamp_min(1e-12)


def _tangent(q: Tensor) -> Tensor:
    """Return [..., 4, 3]: quaternion change per half rotation vector, applied from the left."""
    x, y, z, w = q.unbind(dim=-1)
    rows = ((w, z, -y), (-z, w, x), (y, -x, w), (-x, -y, -z))
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _positive(matrix: Tensor) -> Tensor:
    """Make a matrix symmetric and slightly rounder, so that its Cholesky factor exists."""
    matrix = (matrix + matrix.mT) / 2
    size = matrix.diagonal(dim1=-2, dim2=-1).mean(dim=-1)[..., None, None].clamp_min(1e-18)
    return matrix + 100 * torch.finfo(matrix.dtype).eps * size * identity_like(matrix.shape[-1], matrix)


def _log_det(L: Tensor) -> Tensor:
    """Compute half the log determinant [...] of L L^T, L [..., n, n] triangular."""
    return L.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
