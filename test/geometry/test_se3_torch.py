import numpy as np
import torch

from vpog_core.geometry.se3 import quaternion_xyzw, random_rotation, rotation_from_vector
from vpog_core.geometry.se3_torch import (
    moved,
    quaternion_of_rotation,
    rigid,
    rotation_exp,
    rotation_log,
    rotation_of_quaternion,
)


def vectors(count=50):
    """Return rotation vectors from nothing to a little under half a turn."""
    v = torch.randn(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return v / v.norm(dim=1, keepdim=True) * torch.linspace(0, 3.1, count, dtype=torch.float64)[:, None]


def test_the_exponential_is_rodrigues_formula():
    expected = np.stack([rotation_from_vector(v) for v in vectors().numpy()])
    np.testing.assert_allclose(rotation_exp(vectors()), expected, atol=1e-12)


def test_the_logarithm_takes_it_back():
    torch.testing.assert_close(rotation_log(rotation_exp(vectors())), vectors(), atol=1e-9, rtol=0)


def test_quaternions_are_those_of_numpy_and_go_back():
    rng = np.random.default_rng(0)
    R = np.stack([random_rotation(rng) for _ in range(20)])
    q = quaternion_of_rotation(torch.from_numpy(R))
    q = torch.where(q[:, 3:] < 0, -q, q)
    np.testing.assert_allclose(q, [quaternion_xyzw(r) for r in R], atol=1e-12)
    np.testing.assert_allclose(rotation_of_quaternion(q), R, atol=1e-12)


def test_the_exponential_has_the_right_gradient_everywhere_zero_included():
    v = vectors(5).requires_grad_()
    assert v[0].norm() == 0
    assert torch.autograd.gradcheck(rotation_exp, v)


def test_a_step_moves_the_origin_and_turns_about_the_cameras_axes():
    T = rigid(rotation_exp(vectors(2)[1:]), torch.tensor([[0.1, 0.2, 0.9]], dtype=torch.float64))
    step = torch.tensor([[0.01, 0.02, 0.03, 0.0, 0.0, 0.5]], dtype=torch.float64)
    new = moved(T, step)
    torch.testing.assert_close(new[:, :3, 3], T[:, :3, 3] + step[:, :3])
    torch.testing.assert_close(new[:, :3, :3], rotation_exp(step[:, 3:]) @ T[:, :3, :3])
    assert new[0, 3].tolist() == [0, 0, 0, 1]
