"""Solve probabilistic PnP: batched robust Levenberg-Marquardt on SE(3) with covariance, in torch.

    problem = PnPProblem(points_2d, points_3d, weights, K)     # weights = 1 / sigma, 1/px; zero: not there
    solution = solve(problem, T_start)                         # T, cost, covariance, valid, converged
    samples = sample_poses(problem, solution.T, solution.covariance)      # see pose_distribution

Chen et al., EPro-PnP: Generalized End-to-End Probabilistic Perspective-n-Points (CVPR 2022; TPAMI 2024).
A pose has the likelihood exp(-cost), cost = 1/2 sum rho(|w (projection - pixel)|^2), rho Huber's kernel.
Steps and covariances are in the terms of `pnp`: (x, y, z, rotation about x, y, z), metres and radians, the
object's origin and its orientation about the camera's fixed axes. Nothing here raises on bad numbers or
returns NaN: a problem that leaves the pose open is flagged `valid == False`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vpog_core.geometry.se3_torch import identity_like, moved, rigid

MIN_POINTS = 3
MIN_DEPTH = 1e-3
"""Points nearer than this (metres), or behind the camera, are projected as if they were here."""
ADAPTIVE_HUBER = 0.1
"""Huber's threshold as a fraction of the pixels' spread (EPro-PnP, delta_rel for 6 degrees of freedom)."""

_MAX_VALUE = 1e6
_MAX_ROTATION_SIGMA = math.radians(60.0)
_FIRST_DAMPING, _MAX_DAMPING = 1e-3, 1e8


@dataclass
class PnPProblem:
    """Holds B sets of M weighted 2D-3D correspondences; smaller sets are padded with zero weights.

    A correspondence with a value that is not finite (or a size beyond 1e6), or with a weight that is not
    positive, gets weight zero.

    Attributes:
        points_2d: [B, M, 2] pixels of pinhole cameras; points_3d: [B, M, 3] metres, object frame.
        weights: [B, M, 2], or [B, M] for both coordinates: inverse standard deviations, 1/px.
        K: [B, 3, 3] intrinsics, pixels.
        huber: threshold of the robust kernel on |w r|, in standard deviations; [B, M] where each
            correspondence has its own. None: the paper's adaptive one, `ADAPTIVE_HUBER` x mean weight x
            spread of the pixels, which follows any scale of the weights.

    Raises:
        ValueError: shapes that do not belong together.
    """

    points_2d: Tensor
    points_3d: Tensor
    weights: Tensor
    K: Tensor
    huber: float | Tensor | None = None

    def __post_init__(self) -> None:
        batch, count = self.points_2d.shape[0], self.points_2d.shape[1]
        shapes = [tuple(v.shape) for v in (self.points_2d, self.points_3d, self.weights, self.K)]
        wanted = [(batch, count, 2), (batch, count, 3), (batch, count, 2), (batch, 3, 3)]
        if shapes[2] == (batch, count):
            self.weights, shapes[2] = self.weights[..., None].expand(-1, -1, 2), wanted[2]
        if shapes != wanted:
            raise ValueError(f"Pixels, points, weights and K have shapes {shapes}: give {wanted}.")
        values = torch.cat((self.points_2d, self.points_3d, self.weights), dim=-1).detach()
        camera = torch.isfinite(self.K).flatten(1).all(dim=1)
        there = (values.abs() < _MAX_VALUE).all(dim=-1) & (values[..., 5:] > 0).all(dim=-1) & camera[:, None]
        for name in ("points_2d", "points_3d", "weights"):
            value = getattr(self, name)
            setattr(self, name, torch.where(there[..., None], value, torch.zeros_like(value)))
        self.K = torch.where(camera[:, None, None], self.K, identity_like(3, self.K))

    @property
    def there(self) -> Tensor:
        """The mask [B, M] bool of correspondences that count."""
        return self.weights.detach()[..., 0] > 0

    def threshold(self) -> Tensor:
        """Compute Huber's threshold on |w r|, positive: [B, 1], or [B, M] as it was given."""
        if isinstance(self.huber, Tensor):
            return torch.where(self.there, self.huber, torch.ones_like(self.huber))
        if self.huber is not None:
            return self.weights.new_full((len(self.weights), 1), self.huber)
        there = self.there[..., None]
        count = there.sum(dim=1).clamp_min(1)  # [B, 1]
        mean = self.points_2d.sum(dim=1, keepdim=True) / count[..., None]
        squares = ((self.points_2d - mean).square() * there).sum(dim=(1, 2))[:, None]
        variance = squares / (count - 1).clamp_min(1)
        mean_weight = self.weights.sum(dim=(1, 2))[:, None] / (2 * count)
        return ADAPTIVE_HUBER * mean_weight * (variance + 1e-12).sqrt() + 1e-12

    def detach(self) -> PnPProblem:
        """Return the same problem without gradients."""
        return replace(self, points_2d=self.points_2d.detach(), points_3d=self.points_3d.detach(),
                       weights=self.weights.detach(), K=self.K.detach())  # fmt: skip


@dataclass
class PnPSolution:
    """Holds the poses of B problems.

    Attributes:
        T: [B, 4, 4] T_cam_obj; cost: [B], minus the log likelihood there.
        covariance: [B, 6, 6] inverse of the robust normal matrix, valid where the weights are 1 / sigma and
            the errors independent; the identity (1 m, 1 rad) where not valid.
        valid: [B] bool: three points or more, all in front of the camera, that determine the pose, its
            orientation to a standard deviation of 60 degrees.
        converged: [B] bool: valid, and a further step would be far below the pose's own uncertainty.
    """

    T: Tensor
    cost: Tensor
    covariance: Tensor
    valid: Tensor
    converged: Tensor


def pose_cost(problem: PnPProblem, T: Tensor, delta: Tensor | None = None) -> Tensor:
    """Compute minus the log likelihood [B(, N)] of poses T_cam_obj [B(, N), 4, 4], differentiable.

    Args:
        delta: the problem's `threshold()`, where it is known already.
    """
    poses = T if T.ndim == 4 else T[:, None]
    batch, count = poses.shape[:2]
    # The projection without the principal point, which is taken off the pixels: a matrix for each pose.
    rows = torch.cat((problem.K[:, None, :2, :2] @ poses[..., :2, :], poses[..., 2:3, :]), dim=2)
    rows = rows.reshape(batch, 3 * count, 4)
    p = torch.baddbmm(rows[..., 3:], rows[..., :3], problem.points_3d.mT).unflatten(1, (count, 3))
    measured = (problem.points_2d - problem.K[:, None, :2, 2]).mT[:, None]  # [B, 1, 2, M]
    r = (p[:, :, :2] / p[:, :, 2:].clamp_min(MIN_DEPTH) - measured) * problem.weights.mT[:, None]
    squared = r.square().sum(dim=2)  # [B, N, M]
    delta = (problem.threshold() if delta is None else delta)[:, None]  # [B, 1, 1 or M]
    outer = 2 * delta * squared.clamp_min(delta.square()).sqrt() - delta.square()
    cost = torch.where(squared <= delta.square(), squared, outer).sum(dim=-1) / 2
    return cost if T.ndim == 4 else cost[:, 0]


@torch.no_grad()
def solve(problem: PnPProblem, T_start: Tensor, iterations: int = 30, tolerance: float = 0.0) -> PnPSolution:
    """Find the robust least-squares poses near starts T_cam_obj [B, 4, 4]; no gradients.

    Args:
        iterations, tolerance: see `descend`.
    """
    T, cost = descend(problem, T_start, iterations, tolerance)
    return _solution_at(problem, T, cost, _finite_poses(T_start)[1])


@torch.no_grad()
def descend(
    problem: PnPProblem, T_start: Tensor, iterations: int, tolerance: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Move poses T_cam_obj [B, 4, 4] down the cost; no gradients.

    Levenberg-Marquardt with iteratively reweighted residuals (the kernel's first derivative), each of
    the batch with its own damping; stops when all have converged.

    Args:
        iterations: at most.
        tolerance: a pose has converged when its squared step, in standard deviations of the pose, is below
            this, or so small that rounding hides any gain.

    Returns:
        The poses [B, 4, 4], and their costs [B].
    """
    T, finite = _finite_poses(T_start)
    delta = problem.threshold()
    cost = pose_cost(problem, T, delta)
    damping = torch.full_like(cost, _FIRST_DAMPING)
    running = torch.ones_like(finite)
    for _ in range(iterations):
        r, J = linearise(problem, T, delta)
        step, decrement = _damped_step(r, J, damping)
        candidate = moved(T, step)
        new_cost = pose_cost(problem, candidate, delta)
        better = running & (new_cost <= cost)  # False for NaN
        T = torch.where(better[:, None, None], candidate, T)
        converged = (decrement <= _negligible(cost).clamp_min(tolerance)) & (damping <= _FIRST_DAMPING)
        cost = torch.where(better, new_cost, cost)
        damping = torch.where(better, damping / 10, damping * 10).clamp_min(100 * torch.finfo(T.dtype).eps)
        running = running & ~converged & (damping < _MAX_DAMPING)
        if not running.any():
            break
    return T, cost


def gauss_newton_step(problem: PnPProblem, T: Tensor) -> Tensor:
    """Move poses T [B, 4, 4] by one Gauss-Newton step, with gradients to points and weights.

    At a minimum the step is zero in value and its gradient says how the minimum moves (EPro-PnP, local
    regularization of derivatives). T itself carries no gradient.
    """
    r, J = linearise(problem, _finite_poses(T.detach())[0])
    damping = r.new_full((len(r),), 1e-6)
    return moved(_finite_poses(T.detach())[0], _damped_step(r, J, damping)[0])


def linearise(problem: PnPProblem, T: Tensor, delta: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Compute reweighted residuals [B, 2 M] at poses [B, 4, 4] and their derivatives [B, 2 M, 6].

    1/2 |r|^2 has the gradient of the robust cost; `delta` as for `pose_cost`.
    """
    X = T[:, :3, :3] @ problem.points_3d.mT  # [B, 3, M]
    p = X + T[:, :3, 3:]
    z = p[:, 2].clamp_min(MIN_DEPTH)
    front = (p[:, 2] > MIN_DEPTH).to(z)
    fx, skew, fy = (problem.K[:, i, j, None] for i, j in ((0, 0), (0, 1), (1, 1)))
    u, v = (fx * p[:, 0] + skew * p[:, 1]) / z, fy * p[:, 1] / z
    # Derivatives by the point in the camera frame: (a, b, c) of the pixel's x, (0, e, f) of its y.
    zero = torch.zeros_like(z)
    a, b, c, e, f = fx / z, skew / z, -front * u / z, fy / z, -front * v / z
    X, Y, Z = X.unbind(dim=1)
    # Derivatives by the step: the translation, then the rotation, by cross products with the rotated point.
    columns = (a, zero, b, e, c, f,
               Y * c - Z * b, Y * f - Z * e, Z * a - X * c, -X * f, X * b - Y * a, X * e)  # fmt: skip
    weights, measured = problem.weights.mT, (problem.points_2d - problem.K[:, None, :2, 2]).mT
    r = (torch.stack((u, v), dim=1) - measured) * weights  # [B, 2, M]
    delta = problem.threshold() if delta is None else delta
    root = (delta / r.square().sum(dim=1).clamp_min(delta.square()).sqrt()).sqrt()[:, None]
    J = torch.stack(columns, dim=1).unflatten(1, (6, 2)) * (weights * root)[:, None]  # [B, 6, 2, M]
    return (r * root).flatten(1), J.flatten(2).mT


def necker_reversal(problem: PnPProblem, T: Tensor) -> Tensor:
    """Compute the other pose [B, 4, 4] from which flat, distant points look nearly the same as from T.

    Reverses depth along the ray to the points' middle, and the points along their thinnest direction:
    where there is a second minimum of a flat object's cost, it lies near. A start for `solve`.
    """
    X, w = problem.points_3d.detach(), problem.weights.detach().square().sum(dim=-1, keepdim=True)
    centre = (w * X).sum(dim=1) / w.sum(dim=1).clamp_min(1e-12)
    spread = X - centre[:, None]
    normal = torch.linalg.eigh((w * spread).mT @ spread + 1e-12 * identity_like(3, X))[1][..., :1]
    T = _finite_poses(T.detach())[0]
    place = T[:, :3, :3] @ centre[..., None] + T[:, :3, 3:]
    ray = place / place.norm(dim=1, keepdim=True).clamp_min(MIN_DEPTH)
    identity = identity_like(3, X)
    R = (identity - 2 * ray @ ray.mT) @ T[:, :3, :3] @ (identity - 2 * normal @ normal.mT)
    return rigid(R, (place - R @ centre[..., None])[..., 0])


def _finite_poses(T: Tensor) -> tuple[Tensor, Tensor]:
    """Replace poses that are not finite by the identity, one metre away; tell which are finite."""
    finite = torch.isfinite(T).flatten(1).all(dim=1)
    away = identity_like(4, T)
    away[2, 3] = 1.0
    return torch.where(finite[:, None, None], T, away), finite


def _scaled_normal(r: Tensor, J: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the normal matrix [B, 6, 6] with unit diagonal, gradient [B, 6], and their scale [B, 6]."""
    H = J.mT @ J
    g = (J.mT @ r[..., None])[..., 0]
    scale = 1 / H.diagonal(dim1=-2, dim2=-1).clamp_min(1e-20).sqrt()
    return H * scale[:, :, None] * scale[:, None], g * scale, scale


def _damped_step(r: Tensor, J: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
    """Compute steps [B, 6] against the gradient and the squared decrement [B] (squared length in sigmas)."""
    H, g, scale = _scaled_normal(r, J)
    L, _ = torch.linalg.cholesky_ex(H + damping[:, None, None] * identity_like(6, H))
    # The matrix of a set without points is zero: only the damping keeps it regular.
    step = torch.cholesky_solve(g[..., None], L)[..., 0]
    return -step * scale, (step * g).sum(dim=-1)


def _negligible(cost: Tensor) -> Tensor:
    """Return the squared decrement [B] below which rounding hides any gain."""
    return 16 * torch.finfo(cost.dtype).eps * (1 + cost)


def _solution_at(problem: PnPProblem, T: Tensor, cost: Tensor, finite: Tensor) -> PnPSolution:
    r, J = linearise(problem, T)
    H, g, scale = _scaled_normal(r, J)
    good = torch.isfinite(H).flatten(1).all(dim=1)
    identity = identity_like(6, H)
    values, vectors = torch.linalg.eigh(torch.where(good[:, None, None], H, identity))
    depth = problem.points_3d @ T[:, 2, :3, None] + T[:, 2, 3, None, None]
    behind = ((depth[..., 0] <= MIN_DEPTH) & problem.there).any(dim=1)
    rounding = 100 * torch.finfo(H.dtype).eps
    valid = finite & good & (problem.there.sum(dim=1) >= MIN_POINTS) & ~behind & (values[:, 0] > rounding)
    inverse = (vectors / values.clamp_min(rounding)[:, None]) @ vectors.mT
    decrement = (g * (inverse @ g[..., None])[..., 0]).sum(dim=-1)
    covariance = inverse * scale[:, :, None] * scale[:, None]
    covariance = torch.where(valid[:, None, None], (covariance + covariance.mT) / 2, identity)
    known = torch.linalg.eigvalsh(covariance[:, 3:, 3:])[:, -1] < _MAX_ROTATION_SIGMA**2
    valid, covariance = valid & known, torch.where(known[:, None, None], covariance, identity)
    return PnPSolution(T, cost, covariance, valid, valid & (decrement <= 4 * _negligible(cost)))
