"""Define the network that scores a pose: does the image show the object as the render does?

Visibility and flow are predicted cell by cell, and wrong poses of a plain object find many cells that agree.
The scorer looks at all cells of a comparison together, as the coarse model of MegaPose does (Labbé et al.
2022), but on features that the refiner has computed anyway.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vpog_core.models.refiner_config import RefinerConfig

OUTPUTS = 4
"""Channels of the comparison's outputs: flow (x, y), logarithm of its scale, visibility."""
DROPOUT = 0.3
"""Fraction of the pooled features that is dropped in training, as there are few objects to learn from."""


class PoseScorer(nn.Module):
    """Scores B comparisons by convolutions over their cells, then a pooled average and maximum."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        width = config.scorer_dim
        inputs = config.fine_hidden + 2 * config.fine_dim + OUTPUTS + 1
        self.inlet = nn.Conv2d(inputs, width, 1)
        self.inlet_norm = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.norm1 = nn.GroupNorm(8, width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.norm2 = nn.GroupNorm(8, width)
        self.dropout = nn.Dropout(DROPOUT)
        self.hidden = nn.Linear(3 * width, width)
        self.outlet = nn.Linear(width, 1)

    def forward(self, hidden: Tensor, render: Tensor, image: Tensor, outputs: Tensor, mask: Tensor) -> Tensor:
        """Compute the logits [B] that the poses are correct.

        Args:
            hidden: [B, fine_hidden, g, g] of the fine decoder; render, image: [B, fine_dim, g, g] features of
                each at the same cells; outputs: [B, 4, g, g] flow (cells), log scale, visibility.
            mask: [B, 1, g, g] cells of the render's object.
        """
        x = torch.cat((hidden, render, image, outputs, mask), dim=1)
        x = F.gelu(self.inlet_norm(self.inlet(x)))
        x = F.gelu(self.norm1(self.conv1(x)))
        x = F.gelu(self.norm2(self.conv2(x)))
        inside = F.adaptive_avg_pool2d(mask, x.shape[-1])
        on_object = (x * inside).sum(dim=(2, 3)) / inside.sum(dim=(2, 3)).clamp_min(1e-3)
        pooled = torch.cat((x.mean(dim=(2, 3)), x.amax(dim=(2, 3)), on_object), dim=1)
        return self.outlet(F.gelu(self.hidden(self.dropout(pooled))))[:, 0]
