import cv2
import numpy as np
import pytest
import torch
from scipy import stats

from vpog_core.geometry.epro_pnp import (
    PnPProblem,
    gauss_newton_step,
    linearise,
    necker_reversal,
    pose_cost,
    solve,
)
from vpog_core.geometry.se3_torch import moved, rotation_log

NAMES = ("points_2d", "points_3d", "weights", "K")


def deviation(T, T_true):
    """Return [B, 6] of T from T_true, in the order of the covariance."""
    turn = rotation_log(T[:, :3, :3] @ T_true[:, :3, :3].mT)
    return torch.cat((T[:, :3, 3] - T_true[:, :3, 3], turn), dim=1)


def of(problem, **changes):
    return PnPProblem(*(changes.get(name, getattr(problem, name)) for name in NAMES), huber=problem.huber)


@pytest.mark.parametrize("flat", [1.0, 0.0])
def test_the_minimum_is_opencvs(scenes, disturbed, flat):
    """From the same start on clean data it equals cv2.solvePnPRefineLM's to 1 um and 1 urad."""
    problem, T = scenes(4, flat=flat)
    start = disturbed(T)
    solution = solve(problem, start)
    assert solution.converged.all()
    for b in range(4):
        X, u, K = (getattr(problem, n)[b].numpy() for n in ("points_3d", "points_2d", "K"))
        rvec, tvec = cv2.Rodrigues(start[b, :3, :3].numpy())[0], start[b, :3, 3:].numpy().copy()
        criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 100, 1e-12)
        rvec, tvec = cv2.solvePnPRefineLM(X, u, K, None, rvec, tvec, criteria)
        np.testing.assert_allclose(solution.T[b, :3, :3], cv2.Rodrigues(rvec)[0], atol=1e-6)
        np.testing.assert_allclose(solution.T[b, :3, 3], tvec[:, 0], atol=1e-6)


def test_under_noise_the_gradient_vanishes(scenes):
    """Without a robust kernel and with equal weights the pose is the least-squares one."""
    problem, T = scenes(6, points=200, noise=0.5)
    problem = PnPProblem(
        problem.points_2d, problem.points_3d, torch.ones(6, 200).double(), problem.K, huber=1e9
    )
    solution = solve(problem, T)
    step = torch.zeros(6, 6, dtype=torch.float64, requires_grad=True)
    pose_cost(problem, moved(solution.T, step)).sum().backward()
    sigma = solution.covariance.diagonal(dim1=1, dim2=2).sqrt()
    assert (step.grad * sigma).abs().max() < 1e-4  # against one sigma's unit change of the gradient


def test_a_tolerance_ends_the_search_within_it(scenes, disturbed):
    """The last step was below the tolerance, and steps become shorter: what is left is below it, too."""
    problem, T = scenes(6, points=200, noise=0.5)
    exact, loose = solve(problem, disturbed(T)), solve(problem, disturbed(T), tolerance=1e-2)
    d = deviation(loose.T, exact.T)
    squared = (d * torch.linalg.solve(exact.covariance, d[..., None])[..., 0]).sum(dim=1)
    assert (squared < 1e-2).all()
    assert (squared > 0).any()


def test_each_correspondence_may_have_its_own_threshold(scenes, disturbed):
    """Equal thresholds act as the common one; those of padding do not count."""
    problem, T = scenes(4, points=100, noise=2.0)
    problem.weights[:, :10] = 0.0
    parts = [getattr(problem, name) for name in NAMES]
    huber = torch.full((4, 100), 1.5, dtype=torch.float64)
    huber[:, :10] = torch.nan
    common, own = (solve(PnPProblem(*parts, kernel), disturbed(T)) for kernel in (1.5, huber))
    torch.testing.assert_close(own.T, common.T)
    torch.testing.assert_close(own.covariance, common.covariance)


def test_single_precision_finds_the_same_pose(scenes, disturbed):
    problem, T = scenes(20, noise=1.0)
    double = solve(problem, disturbed(T))
    single = solve(PnPProblem(*(getattr(problem, n).float() for n in NAMES)), disturbed(T).float())
    assert single.converged.all()
    sigma = double.covariance.diagonal(dim1=1, dim2=2).sqrt()
    # Residuals near 100 px are rounded to 1e-5 px: far below the pose's own uncertainty.
    assert (deviation(single.T.double(), double.T).abs() < 0.02 * sigma).all()
    torch.testing.assert_close(single.covariance.double(), double.covariance, rtol=1e-2, atol=1e-8)


@pytest.mark.parametrize("huber", [None, 3.0])
def test_outliers_are_borne(scenes, disturbed, huber):
    problem, T = scenes(20, points=100, noise=1.0)
    u = problem.points_2d.clone()
    wrong = torch.rand(20, 20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 112
    u[:, :20] = wrong
    weights = problem.weights
    error = {}
    for kernel in (huber, 1e9):
        found = solve(PnPProblem(u, problem.points_3d, weights, problem.K, kernel), disturbed(T))
        error[kernel] = deviation(found.T, T)[:, 3:].norm(dim=1).rad2deg().median()
    # 80 good points under 1 px know the orientation to 0.6 degrees; a fifth of the points pull 10 degrees.
    assert error[huber] < 2.5
    assert error[1e9] > 2.5 * error[huber]


def test_derivatives_are_those_of_the_cost(scenes, disturbed):
    problem, T = scenes(3, noise=3.0)
    T = disturbed(T)
    step = torch.zeros(3, 6, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(pose_cost(problem, moved(T, step)).sum(), step)
    r, J = linearise(problem, T)
    torch.testing.assert_close((J.mT @ r[..., None])[..., 0], expected)
    # The kernel is at work: some residuals lie beyond its threshold.
    assert (r.unflatten(1, (-1, 2)).norm(dim=2) > problem.threshold()).any()


def test_covariance_is_the_inverse_hessian(scenes):
    """At the minimum of clean data the Gauss-Newton matrix is the Hessian: order, frame and units too."""
    problem, T = scenes(1)
    hessian = torch.autograd.functional.hessian(
        lambda step: pose_cost(problem, moved(T, step[None])).sum(), torch.zeros(6, dtype=torch.float64)
    )
    torch.testing.assert_close(
        solve(problem, T).covariance[0] @ hessian, torch.eye(6).double(), atol=1e-6, rtol=0
    )


def test_covariance_is_calibrated(scenes):
    """With weights 1 / sigma, the squared Mahalanobis distance of the truth follows chi-squared, 6 degrees.

    n = 500 independent problems. Mean: 6 with standard error sqrt(12 / 500) = 0.155, three of them allowed.
    Kolmogorov-Smirnov: distance under 1.628 / sqrt(n) = 0.0728, alpha = 0.01. The seed fixes the data.
    """
    problem, T = scenes(500, noise=1.0)
    solution = solve(problem, T)
    assert solution.converged.all()
    d = deviation(solution.T, T)
    squared = (d * torch.linalg.solve(solution.covariance, d)).sum(dim=1).numpy()
    assert abs(squared.mean() - 6.0) < 3 * np.sqrt(12 / 500)
    assert stats.kstest(squared, stats.chi2(6).cdf).statistic < 1.628 / np.sqrt(500)
    # The same test finds a sigma that is ten per cent off.
    assert stats.kstest(squared * 1.1**2, stats.chi2(6).cdf).statistic > 1.628 / np.sqrt(500)


def test_the_last_step_stays_and_says_how_the_minimum_moves(scenes):
    problem, T = scenes(2, points=12)
    solution = solve(problem, T)
    generator = torch.Generator().manual_seed(3)
    for name in ("points_2d", "points_3d"):
        value = getattr(problem, name).clone().requires_grad_()
        stepped = gauss_newton_step(of(problem, **{name: value}), solution.T)
        torch.testing.assert_close(stepped, solution.T, atol=1e-9, rtol=0)
        probe = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64)
        (gradient,) = torch.autograd.grad((stepped * probe).sum(), value)
        change = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        size = 1e-4 if name == "points_2d" else 1e-7
        ends = [
            solve(of(problem, **{name: value.detach() + s * size * change}), solution.T).T for s in (1, -1)
        ]
        expected = ((ends[0] - ends[1]) * probe).sum() / (2 * size)
        # Damping of 1e-6 and, off clean data, the second derivatives that Gauss-Newton leaves out.
        assert (gradient * change).sum() == pytest.approx(expected.item(), rel=1e-3)


def test_what_is_not_there_changes_nothing(scenes, disturbed):
    """Zero weights are padding; values that are not finite, and weights below zero, count as padding."""
    problem, T = scenes(3, noise=1.0)
    expected = solve(problem, disturbed(T))
    extra = torch.zeros(3, 4, dtype=torch.float64)
    extra[:, 1], extra[:, 2] = -1.0, torch.nan
    u = torch.cat((problem.points_2d, torch.full((3, 4, 2), 50.0).double()), dim=1)
    X = torch.cat((problem.points_3d, torch.full((3, 4, 3), 0.3).double()), dim=1)
    X[:, -1], extra[:, 3] = torch.inf, 1.0
    weights = torch.cat((problem.weights, extra[..., None].expand(-1, -1, 2)), dim=1)
    found = solve(PnPProblem(u, X, weights, problem.K), disturbed(T))
    torch.testing.assert_close(found.T, expected.T, atol=1e-9, rtol=0)
    torch.testing.assert_close(found.covariance, expected.covariance)


def test_the_reversal_finds_the_second_minimum_of_a_flat_object(scenes):
    """For a flat, distant object the reversed start ends elsewhere, at nearly the same cost."""
    problem, T = scenes(30, points=40, size=0.02, flat=0.0)
    first = solve(problem, T)
    second = solve(problem, necker_reversal(problem, first.T))
    normals = [s.T[:, :3, 2] for s in (first, second)]
    apart = torch.acos((normals[0] * normals[1]).sum(dim=1).clamp(-1, 1)).rad2deg()
    tilt = torch.acos(normals[0][:, 2].abs()).rad2deg()
    tilted = (tilt > 25) & (tilt < 80)  # square to the ray there is but one
    assert tilted.sum() > 10
    assert second.converged[tilted].all()
    assert (apart[tilted] > 30).all()
    # One pixel of noise would cost a point 1; the whole misfit of 40 points is a small part of that.
    assert (second.cost[tilted] < 20).all()


def _degenerate(problem, T, kind):
    u, X, w, T = problem.points_2d.clone(), problem.points_3d.clone(), problem.weights.clone(), T.clone()
    if kind == "no points":
        w[:] = 0
    elif kind == "two points":
        w[:, 2:] = 0
    elif kind == "behind":
        T[:, 2, 3] = -0.8
    elif kind == "one point of the object":
        X[:] = 0.01
    elif kind == "one pixel":
        u[:] = 40.0
    elif kind == "a line":
        X[..., 1:] = 0
    elif kind == "nan":
        u[:] = torch.nan
    elif kind == "nan start":
        T[:] = torch.nan
    return PnPProblem(u, X, w, problem.K), T


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "kind",
    [
        "no points",
        "two points",
        "behind",
        "one point of the object",
        "one pixel",
        "a line",
        "nan",
        "nan start",
    ],
)
def test_degenerate_problems_are_flagged_and_finite(scenes, kind, dtype):
    problem, T = _degenerate(*scenes(2, noise=0.5), kind)
    problem = PnPProblem(*(getattr(problem, n).to(dtype).requires_grad_() for n in NAMES))
    solution = solve(problem, T.to(dtype))
    assert not solution.valid.any()
    assert not solution.converged.any()
    assert all(torch.isfinite(v).all() for v in vars(solution).values())
    (gauss_newton_step(problem, solution.T).sum() + pose_cost(problem, solution.T).sum()).backward()


def test_points_behind_the_camera_are_flagged(scenes):
    """The camera is inside of the object; the points in front alone would determine the pose."""
    problem, T = scenes(2)
    T = T.clone()
    T[:, 2, 3] = 0.03
    assert not solve(problem, T, iterations=0).valid.any()
    ahead = (problem.points_3d @ T[:, 2, :3, None])[..., 0] + 0.03 > 0.01
    seen = PnPProblem(problem.points_2d, problem.points_3d, problem.weights[..., 0] * ahead, problem.K)
    assert solve(seen, T, iterations=0).valid.all()


def test_an_orientation_known_to_sixty_degrees_at_best_is_flagged(scenes):
    problem, T = scenes(1)
    sigma = solve(problem, T).covariance[0, 3:, 3:].logdet().exp() ** (1 / 6)
    for degrees, valid in ((30.0, True), (120.0, False)):
        weights = problem.weights * sigma / np.deg2rad(degrees)
        assert solve(PnPProblem(problem.points_2d, problem.points_3d, weights, problem.K), T).valid == valid


def test_no_step_goes_up(scenes):
    """From starts 60 degrees and more off, the cost falls or stays with every iteration."""
    problem, T = scenes(30, noise=1.0)
    generator = torch.Generator().manual_seed(0)
    step = torch.randn(30, 6, generator=generator, dtype=torch.float64)
    start = moved(T, step * torch.tensor([0.02, 0.02, 0.2, 1.0, 1.0, 1.0], dtype=torch.float64))
    costs = torch.stack([solve(problem, start, iterations=n).cost for n in range(8)])
    assert (costs.diff(dim=0) <= 0).all()
    assert (costs[-1] < 0.9 * costs[0]).all()


def test_good_problems_beside_degenerate_ones_are_not_touched(scenes, disturbed):
    problem, T = scenes(4, noise=1.0)
    alone = solve(problem, disturbed(T))
    w = problem.weights.clone()
    w[1] = 0
    mixed = solve(PnPProblem(problem.points_2d, problem.points_3d, w, problem.K), disturbed(T))
    assert mixed.valid.tolist() == [True, False, True, True]
    torch.testing.assert_close(mixed.T[[0, 2, 3]], alone.T[[0, 2, 3]], atol=1e-9, rtol=0)


def test_shapes_that_do_not_fit_are_a_programming_error(scenes):
    problem, _ = scenes(2)
    with pytest.raises(ValueError, match=r"\(2, 59\)"):
        PnPProblem(problem.points_2d, problem.points_3d, torch.ones(2, 59), problem.K)
