import math

import pytest
import torch

from vpog_core.geometry.epro_pnp import PnPProblem, necker_reversal, pose_cost, solve
from vpog_core.geometry.pose_distribution import sample_poses
from vpog_core.geometry.se3_torch import rotation_log


def laplace_evidence(solution):
    """Compute [B] logs of the Gaussian integrals; all rotations have the volume 8 pi^2."""
    gaussian = 3 * math.log(2 * math.pi) + torch.logdet(solution.covariance) / 2
    return -solution.cost + gaussian - math.log(8 * math.pi**2)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def effective_size(samples) -> torch.Tensor:
    """Compute the effective number [B] of independent samples (Kish), 1..N."""
    return 1 / samples.log_weights.softmax(dim=-1).square().sum(dim=-1)


@pytest.mark.parametrize("rounds", [1, 4])
def test_well_conditioned_is_gaussian(scenes, rounds):
    """Evidence, mean and covariance of sharp problems are those of Laplace's approximation.

    Of a slab whose origin lies outside of it, so that each direction has a sigma of its own and position and
    orientation hang together.
    """
    problem, T = scenes(30, noise=0.2, flat=0.1, centre=(0.15, 0.1, -0.05))
    solution = solve(problem, T)
    samples = sample_poses(problem, solution.T, solution.covariance, 2048, rounds, generator())
    assert samples.T.shape == (30, 2048, 4, 4)
    # Proposals so close to the target that a good part of the samples count (measured: 0.46).
    assert effective_size(samples).median() > 0.35 * 2048
    # Standard error of the log 0.03 each, 0.006 for the mean of 30; adaptation takes 0.01 off.
    excess = samples.log_evidence - laplace_evidence(solution)
    assert excess.abs().max() < 0.12
    assert excess.mean().abs() < 0.025
    mean, covariance = samples.moments()
    turn = rotation_log(mean[:, :3, :3] @ solution.T[:, :3, :3].mT)
    d = torch.cat((mean[:, :3, 3] - solution.T[:, :3, 3], turn), dim=1)
    # 950 effective samples: the mean's squared Mahalanobis distance is 6 / 950.
    assert (d * torch.linalg.solve(solution.covariance, d)).sum(dim=1).mean() < 0.02
    L = torch.linalg.cholesky(solution.covariance)
    whitened = torch.linalg.solve(L, torch.linalg.solve(L, covariance).mT)
    torch.testing.assert_close(whitened.mean(dim=0), torch.eye(6).double(), atol=0.05, rtol=0)


def test_the_proposals_start_does_not_matter(scenes):
    """Rounds that start a sigma off and too wide by half find the same distribution."""
    problem, T = scenes(25, noise=0.2)
    solution = solve(problem, T)
    off = solution.T.clone()
    off[:, :3, 3] += solution.covariance.diagonal(dim1=1, dim2=2).sqrt()[:, :3]
    samples = sample_poses(problem, off, 2.25 * solution.covariance, 2048, 4, generator())
    assert (samples.log_evidence - laplace_evidence(solution)).mean().abs() < 0.03
    assert effective_size(samples).median() > 0.25 * 2048


@pytest.mark.parametrize("name", ["points_2d", "points_3d", "weights"])
def test_gradients_flow_through_the_cost_at_the_samples(scenes, name):
    """Gradients equal finite differences of the same samples' evidence, with the adaptive kernel."""
    problem, T = scenes(1, points=5, noise=2.0)
    solution = solve(problem, T)
    drawn = sample_poses(problem, solution.T, solution.covariance, 64, 4, generator())

    def evidence(value):
        values = vars(problem) | {name: value}
        return (-pose_cost(PnPProblem(**values), drawn.T) - drawn.log_proposal).logsumexp(dim=1)

    value = getattr(problem, name).detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(evidence, value, eps=1e-7, atol=1e-4, rtol=1e-4)
    live = sample_poses(
        PnPProblem(**(vars(problem) | {name: value})), solution.T, solution.covariance, 64, 4, generator()
    )
    (flowing,) = torch.autograd.grad(live.log_evidence.sum(), value)
    (expected,) = torch.autograd.grad(evidence(value).sum(), value)
    torch.testing.assert_close(flowing, expected)
    assert not live.T.requires_grad
    assert not live.log_proposal.requires_grad


def test_sharper_weights_lower_the_evidence_as_they_should(scenes):
    """d log Z / d log scale of a Gaussian with 6 degrees is -2 (cost at the minimum) - 6."""
    problem, T = scenes(25, noise=0.2)
    scale = torch.zeros(25, 1, dtype=torch.float64, requires_grad=True)
    scaled = PnPProblem(
        problem.points_2d, problem.points_3d, problem.weights[..., 0] * scale.exp(), problem.K
    )
    solution = solve(scaled, T)
    samples = sample_poses(scaled, solution.T, solution.covariance, 2048, 4, generator())
    (gradient,) = torch.autograd.grad(samples.log_evidence.sum(), scale)
    excess = gradient[:, 0] + 2 * solution.cost + 6
    # The sample mean of chi-squared has standard deviation sqrt(12 / 950) = 0.11.
    assert excess.abs().max() < 0.5
    assert excess.mean().abs() < 0.1


def closer(samples_T, T_a, T_b):
    """Tell, [B, N] bool, which poses are nearer to T_a than to T_b in orientation."""
    angle = [rotation_log(samples_T[..., :3, :3] @ T[:, None, :3, :3].mT).norm(dim=-1) for T in (T_a, T_b)]
    return angle[0] < angle[1]


def test_two_modes_are_weighed_as_they_deserve(scenes):
    """The samples hold the truth of a small flat object under noise, where one Gaussian does not.

    Each problem has two minima. Mass of the truth's own mode: log score against a Gaussian at the better
    minimum, which is sure of itself, and against the masses by Laplace's approximation at each.
    """
    problem, T = scenes(120, points=40, noise=1.0, size=0.03, flat=0.0)
    near = solve(problem, T)
    far = solve(problem, necker_reversal(problem, near.T))
    two = rotation_log(near.T[:, :3, :3] @ far.T[:, :3, :3].mT).norm(dim=1) > 0.5
    assert two.sum() > 90
    T_modes, covariance = (
        torch.stack((getattr(near, k), getattr(far, k)), dim=1) for k in ("T", "covariance")
    )
    samples = sample_poses(problem, T_modes, covariance, 1024, 4, generator())
    own = closer(samples.T, near.T, far.T)
    mass = (samples.log_weights.softmax(dim=1) * own).sum(dim=1)[two]
    by_laplace = torch.sigmoid(laplace_evidence(near) - laplace_evidence(far))[two]
    assert (mass - by_laplace).abs().median() < 0.03  # measured: 0.01
    # Both modes are possible, and the masses are probabilities: the truth's is on average what they
    # themselves expect, mass^2 + (1 - mass)^2.
    assert ((mass > 0.05) & (mass < 0.95)).float().mean() > 0.5
    standard_error = (mass * (1 - mass) * (2 * mass - 1) ** 2).mean().sqrt() / math.sqrt(len(mass))
    assert (mass - mass**2 - (1 - mass) ** 2).mean().abs() < 3 * standard_error + 0.02
    # One Gaussian at the better minimum: wrong in some cases, and there sure of it.
    sure = torch.where((near.cost < far.cost)[two], 1.0, 0.0).double()
    assert 0.1 < 1 - sure.mean() < 0.5
    single = sure.clamp(1e-3, 1 - 1e-3).log().mean()
    assert mass.log().mean() > single + 0.5


def test_the_same_seed_gives_the_same_samples(scenes):
    problem, T = scenes(2, noise=1.0)
    solution = solve(problem, T)
    a, b, c = (sample_poses(problem, solution.T, solution.covariance, 64, 2, generator(s)) for s in (5, 5, 6))
    assert torch.equal(a.T, b.T)
    assert torch.equal(a.log_evidence, b.log_evidence)
    assert not torch.equal(a.T, c.T)


@pytest.mark.parametrize("keep", [0, 2])
def test_degenerate_problems_give_finite_samples_and_gradients(scenes, keep):
    problem, T = scenes(2)
    weights = problem.weights.clone()
    weights[:, keep:] = 0
    for dtype in (torch.float32, torch.float64):
        values = [
            v.to(dtype).clone().requires_grad_() for v in (problem.points_2d, problem.points_3d, weights)
        ]
        open_problem = PnPProblem(*values, problem.K.to(dtype))
        solution = solve(open_problem, T.to(dtype))
        samples = sample_poses(open_problem, solution.T, solution.covariance, 64, 4, generator())
        assert torch.isfinite(samples.log_evidence).all()
        samples.log_evidence.sum().backward()
        assert all(torch.isfinite(v.grad).all() for v in values)
