"""Test how a refiner's output becomes a pose: exact output gives the exact pose, empty output none."""

import numpy as np
import pytest
import torch

from vpog_core.geometry.se3 import random_rotation
from vpog_core.geometry.se3_torch import moved, rigid, rotation_log
from vpog_core.inference.comparison_solver import refined_pose
from vpog_core.models.refiner import Comparison

GRID, BATCH = 8, 5
K = torch.tensor([[400.0, 0, 63.5], [0, 400.0, 63.5], [0, 0, 1]], dtype=torch.float64)


class Case:
    """Holds poses, starts some degrees and centimetres away, and the comparison that explains them."""

    def __init__(self, batch: int = BATCH, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(seed)
        R = torch.from_numpy(np.stack([random_rotation(rng) for _ in range(batch)]))
        t = torch.tensor([0.01, -0.02, 0.6], dtype=torch.float64).expand(batch, 3)
        step = 0.1 * torch.randn(batch, 6, generator=generator, dtype=torch.float64)
        self.T_true = rigid(R, t)
        self.T_start = moved(self.T_true, step * torch.tensor([0.1, 0.1, 0.4, 1, 1, 1]))
        shape = batch, GRID, GRID, 3
        self.points = 0.1 * (torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5)
        self.pixels = self.project(self.T_start)
        self.mask = torch.ones(batch, GRID, GRID, dtype=torch.bool)
        self.K = K.expand(batch, 3, 3)
        flow = self.project(self.T_true) - self.pixels
        even = torch.zeros(batch, GRID, GRID, dtype=torch.float64)
        score = torch.zeros(batch, dtype=torch.float64)
        self.found = Comparison(flow.permute(0, 3, 1, 2).contiguous(), even.clone(), even + 4.0, score)

    def project(self, T: torch.Tensor) -> torch.Tensor:
        p = torch.einsum("bij,bhwj->bhwi", T[:, :3, :3], self.points) + T[:, None, None, :3, 3]
        p = p @ K.T
        return p[..., :2] / p[..., 2:]

    def solution(self):
        return refined_pose(self.found, self.pixels, self.points, self.mask, self.K, self.T_start)


def test_a_perfect_comparison_gives_the_true_pose():
    case = Case()
    solution = case.solution()
    assert solution.valid.all()
    assert solution.converged.all()
    assert (case.T_start - case.T_true).abs().max() > 0.05
    # In float64, to where the solver stops: a micrometre and a microradian.
    torch.testing.assert_close(solution.T, case.T_true, rtol=0, atol=1e-6)


@pytest.mark.parametrize("silence", ["visibility", "mask", "nan"])
def test_wrong_cells_that_do_not_count_change_nothing(silence):
    """Half of the cells point 30 pixels away: they are hidden, off the object, or not finite."""
    case = Case()
    wrong = torch.rand(BATCH, GRID, GRID, generator=torch.Generator().manual_seed(1)) < 0.5
    case.found.flow += 30.0 * wrong[:, None]
    off = (case.solution().T - case.T_true).abs().amax(dim=(1, 2))
    assert (off > 1e-3).all()
    if silence == "visibility":
        case.found.visibility[wrong] = -1.0  # a probability of 0.27
    elif silence == "mask":
        case.mask &= ~wrong
    else:
        case.found.flow[wrong[:, None].expand_as(case.found.flow)] = float("nan")
    torch.testing.assert_close(case.solution().T, case.T_true, rtol=0, atol=1e-6)


def test_cells_that_are_unsure_count_little():
    case = Case()
    wrong = torch.zeros(BATCH, GRID, GRID, dtype=torch.bool)
    wrong[:, ::2] = True
    case.found.flow += 6.0 * wrong[:, None]
    errors = []
    for log_scale in (0.0, 4.0):
        case.found.log_scale[wrong] = log_scale
        errors.append((case.solution().T - case.T_true).abs().amax())
    assert errors[1] < 0.01 * errors[0]


def test_errors_lie_within_the_covariance():
    """Under Laplace noise of the predicted scale, squared Mahalanobis distances average about six."""
    case = Case(batch=200)
    scale = 0.8
    noise = torch.from_numpy(np.random.default_rng(2).laplace(0, scale, case.found.flow.shape))
    case.found.flow += noise
    case.found.log_scale[:] = float(np.log(scale))
    case.found.visibility[:] = 20.0
    solution = case.solution()
    turn = rotation_log(solution.T[:, :3, :3] @ case.T_true[:, :3, :3].mT)
    error = torch.cat((solution.T[:, :3, 3] - case.T_true[:, :3, 3], turn), dim=1)[..., None]
    squared = (error.mT @ torch.linalg.solve(solution.covariance, error))[:, 0, 0]
    assert solution.valid.all()
    # Six degrees of freedom; 0.24 is a standard deviation of the mean of 200, and the robust kernel, which
    # does not count the far tails, makes errors smaller than least squares would.
    assert 3.5 < squared.mean() < 7.5


def test_a_start_that_is_no_pose_gives_no_pose_and_no_nan():
    case = Case()
    case.T_start[1, 0, 3] = float("nan")
    solution = case.solution()
    assert solution.valid.tolist() == [True, False, True, True, True]
    assert all(value.isfinite().all() for value in (solution.T, solution.covariance, solution.cost))


@pytest.mark.parametrize("cells", [0, 1, 2])
def test_too_few_cells_give_no_pose(cells):
    case = Case()
    kept = torch.zeros_like(case.mask)
    kept[:, 0, :cells] = True
    case.mask &= kept
    solution = case.solution()
    assert not solution.valid.any()
    assert solution.T.isfinite().all()


def test_cells_along_a_line_leave_the_turn_about_it_open():
    case = Case()
    case.points[..., 1:] = 0.0
    case.pixels = case.project(case.T_start)
    case.found.flow = (case.project(case.T_true) - case.pixels).permute(0, 3, 1, 2)
    assert not case.solution().valid.any()
