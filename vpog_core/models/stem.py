"""Define a small convolutional stem: stride-4 features for matching inside patches, and for tokens."""

from __future__ import annotations

from torch import Tensor, nn

STRIDE = 4
"""Pixels between neighbouring cells of the stem's features."""


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1), nn.GroupNorm(8, outputs), nn.GELU()
    )


class ConvStem(nn.Module):
    """Computes features [N, channels, H / 4, W / 4] of images [N, 3, H, W].

    Args:
        channels: output channels, a multiple of 8.
    """

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        self.channels = channels
        self.layers = nn.Sequential(_stage(3, 32, 2), _stage(32, channels, 2), _stage(channels, channels, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)
