import numpy as np
import pytest
import torch

from vpog_core.geometry.epro_pnp import PnPProblem
from vpog_core.geometry.se3 import random_rotation
from vpog_core.geometry.se3_torch import moved, rigid

K = torch.tensor([[470.0, 0, 55.5], [0, 470.0, 55.5], [0, 0, 1]], dtype=torch.float64)


@pytest.fixture
def scenes():
    """Return make(batch, ...), which makes problems 0.8 m away, weights 1 / sigma, and the true poses T.

    The points fill a box of half sides (1, 0.9, flat) * size around `centre`.
    """

    def make(batch, points=60, noise=0.0, size=0.07, flat=1.0, centre=(0.0, 0.0, 0.0), seed=0):
        generator = torch.Generator().manual_seed(seed)
        rng = np.random.default_rng(seed)

        def normal(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        R = torch.from_numpy(np.stack([random_rotation(rng) for _ in range(batch)]))
        t = torch.tensor([0.01, -0.008, 0.8], dtype=torch.float64).expand(batch, 3)
        shape = torch.tensor([1.0, 0.9, flat], dtype=torch.float64)
        X = (torch.rand(batch, points, 3, generator=generator, dtype=torch.float64) * 2 - 1) * shape * size
        X = X + torch.tensor(centre, dtype=torch.float64)
        t = t - (R @ X.mean(dim=1)[..., None])[..., 0]
        p = (X @ R.mT + t[:, None]) @ K.T
        sigma = (noise or 1.0) * (0.3 * normal(batch, points)).exp()
        u = p[..., :2] / p[..., 2:] + bool(noise) * sigma[..., None] * normal(batch, points, 2)
        return PnPProblem(u, X, 1 / sigma, K.expand(batch, 3, 3)), rigid(R, t)

    return make


@pytest.fixture
def disturbed():
    """Return disturbed(T), which moves poses by about 10 degrees, 2 cm across and 5 cm along the ray."""

    def disturb(T, seed=1):
        sigma = torch.tensor([0.01, 0.01, 0.05, 0.1, 0.1, 0.1], dtype=torch.float64)
        step = torch.randn(len(T), 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return moved(T, (step * sigma).to(T))

    return disturb
