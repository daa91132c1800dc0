"""Define the refiner network: it compares a render with the image, and predicts where the surface is.

Render and image are seen by the same camera, which looks at the object where the present pose puts it. For
every cell of the render the network predicts how far the image shows that surface point from there (flow,
with its Laplace scale) and whether it shows it at all (visibility), and of the whole comparison whether the
pose is correct (score). The shape follows GoTrack (Nguyen et al.
2025) and Co-op (Moon et al. 2025): shared features, attention over both images, correlation at two levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vpog_core.models.checks import check_comparison
from vpog_core.models.layers import Attention, Block
from vpog_core.models.pos_embed import RoPE2D, grid_positions, rotations
from vpog_core.models.pose_scorer import PoseScorer
from vpog_core.models.refiner_config import COARSE_STRIDE, FINE_STRIDE, RefinerConfig

RENDER_CHANNELS = 7
"""Channels of a render: colour, surface normal in the camera frame, mask."""
LOG_SCALE = (-2.5, 4.0)
"""Bounds of the logarithm of the flow's Laplace scale, pixels."""
FIRST_LOG_SCALE = 1.5
"""Logarithm of the flow's scale that an untrained network predicts, as large as its errors."""
OUTSIDE = -8192.0
"""Logit of a correlation with a cell outside the image; bfloat16 holds it exactly."""
IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class Comparison:
    """Holds the network's output for B pairs; g cells along a side, cell (i, j) is at pixel (4j + 2, 4i + 2).

    Attributes:
        flow: [B, 2, g, g] (x, y) pixels, from a render's cell to where the image shows it.
        log_scale: [B, g, g] logarithm of the flow's Laplace scale (pixels), the same for both axes.
        visibility: [B, g, g] logit that the image shows this surface point.
        score: [B] logit that the pose which the flow leads to is correct.
    """

    flow: Tensor
    log_scale: Tensor
    visibility: Tensor
    score: Tensor


@dataclass
class Correlation:
    """Holds a level's correlation of N render cells with K image cells around the expected place of each.

    Attributes:
        logits: [B, N, K]; centre: [B or 1, N, 2] (x, y) cells from a render cell to the window's middle.
    """

    logits: Tensor
    centre: Tensor


@dataclass
class Trace:
    """Holds a comparison with its intermediate results, which training supervises.

    Attributes:
        coarse, fine: correlations of both levels; coarse_flow: [B, 2, g / 2, g / 2] pixels.
    """

    comparison: Comparison
    coarse: Correlation
    fine: Correlation
    coarse_flow: Tensor


class ResidualBlock(nn.Module):
    """Applies two 3x3 convolutions with a shortcut; the first one has the stride."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.norm1 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.norm1(self.conv1(x)))
        return F.gelu(self.shortcut(x) + self.norm2(self.conv2(y)))


class Trunk(nn.Module):
    """Computes features at stride 4 and 8; image and render have a stem each and share the rest."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        stem, fine, coarse = config.stem_dim, config.fine_dim, config.coarse_dim
        self.image_stem = nn.Conv2d(3, stem, 5, stride=2, padding=2)
        self.render_stem = nn.Conv2d(RENDER_CHANNELS, stem, 5, stride=2, padding=2)
        self.stem_norm = nn.GroupNorm(8, stem)
        self.fine = ResidualBlock(stem, fine, stride=2)
        self.coarse = nn.Sequential(ResidualBlock(fine, coarse, stride=2), ResidualBlock(coarse, coarse))

    def forward(self, image: Tensor, render: Tensor) -> tuple[Tensor, Tensor]:
        """Compute [2 B, fine, P / 4, P / 4] and [2 B, coarse, P / 8, P / 8], renders first."""
        stem = torch.cat((self.render_stem(render), self.image_stem(image)))
        fine = self.fine(F.gelu(self.stem_norm(stem)))
        return fine, self.coarse(fine)


class JointAttention(nn.Module):
    """Applies transformer blocks to the cells of render and image together."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        dim = config.coarse_dim
        self.rope = RoPE2D(dim // config.attention_heads, config.rope_base)
        self.kind = nn.Parameter(torch.zeros(2, 1, dim))
        self.blocks = nn.ModuleList(
            Block(dim, Attention(dim, config.attention_heads, self.rope), mlp_ratio=2)
            for _ in range(config.attention_layers)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        """Attend: [2 B, C, h, w] -> same shape; renders first."""
        height, width = features.shape[-2:]
        positions = grid_positions(height, width, device=features.device).repeat(2, 1)
        rotation = rotations(self.rope.phases(positions)[None, None])
        render, image = features.flatten(2).transpose(1, 2).chunk(2)
        x = torch.cat((render + self.kind[0], image + self.kind[1]), dim=1)
        for block in self.blocks:
            x = block(x, rotation)
        x = torch.cat(self.norm(x).chunk(2, dim=1))
        return x.transpose(1, 2).unflatten(2, (height, width))


class Decoder(nn.Module):
    """Decodes correlation and features of a level to hidden features and its outputs."""

    def __init__(self, inputs: int, hidden: int, outputs: int, blocks: int) -> None:
        super().__init__()
        self.inlet = nn.Conv2d(inputs, hidden, 1)
        self.blocks = nn.Sequential(*(ResidualBlock(hidden, hidden) for _ in range(blocks)))
        self.outlet = nn.Conv2d(hidden, outputs, 1)
        nn.init.zeros_(self.outlet.weight)
        nn.init.zeros_(self.outlet.bias)

    def forward(self, *parts: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.blocks(F.gelu(self.inlet(torch.cat(parts, dim=1))))
        return hidden, self.outlet(hidden)


class RefinerNet(nn.Module):
    """Compares renders with images.

    Args:
        config: sizes.
    """

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        fine, coarse = config.fine_dim, config.coarse_dim
        self.trunk = Trunk(config)
        self.attention = JointAttention(config)
        self.fine_lateral = nn.Conv2d(fine, fine, 1)
        self.fine_top_down = nn.Conv2d(coarse, fine, 1)
        self.coarse_decoder = Decoder(window_size(config.coarse_reach) + 2 + coarse, coarse, 2, blocks=2)
        self.fine_decoder = Decoder(
            window_size(config.fine_reach) + 4 + 2 * fine, config.fine_hidden, 4, blocks=1
        )
        nn.init.constant_(self.fine_decoder.outlet.bias[2:3], FIRST_LOG_SCALE)
        self.fine_context = nn.Conv2d(coarse, fine, 1)
        self.scorer = PoseScorer(config)
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGE_STD).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor, render: Tensor, normals: Tensor, mask: Tensor) -> Comparison:
        """Compare B renders with their images; P is `config.image_size`.

        Args:
            image, render: [B, 3, P, P] uint8 RGB.
            normals: [B, 3, P, P] unit, camera frame, zero in the background; mask: [B, P, P] bool, where the
                render shows the object.

        Raises:
            VPOGError: other shapes, types or devices than these.
        """
        return self.trace(image, render, normals, mask).comparison

    def trace(self, image: Tensor, render: Tensor, normals: Tensor, mask: Tensor) -> Trace:
        """Compare, and return the intermediate results that training supervises; arguments as `forward`."""
        check_comparison(image, render, normals, mask, self.config.image_size, self.mean)
        # Compute features of both images at two levels.
        drawn = torch.cat((self._normalised(render), normals, mask[:, None].to(normals.dtype)), dim=1)
        fine, coarse = self.trunk(self._normalised(image), drawn)
        coarse = self.attention(coarse)
        top_down = F.interpolate(self.fine_top_down(coarse), scale_factor=2, mode="bilinear")
        fine = self.fine_lateral(fine) + top_down
        # Coarse level: correlate over displacements of up to `coarse_reach` cells.
        seen_coarse = correlate(*coarse.chunk(2), self.config.coarse_reach)
        render_coarse = coarse.chunk(2)[0]
        hidden, coarse_flow = self._coarse_flow(seen_coarse, render_coarse)
        # Fine level: correlate around the coarse flow.
        guess = F.interpolate(coarse_flow.detach(), scale_factor=2, mode="bilinear") / FINE_STRIDE
        seen_fine = correlate(*fine.chunk(2), self.config.fine_reach, guess.round())
        context = F.interpolate(self.fine_context(hidden), scale_factor=2, mode="bilinear")
        hidden, output = self._fine_output(seen_fine, guess, fine.chunk(2)[0], context)
        # Score the pose by all cells together.
        score = self.scorer(hidden, *fine.chunk(2), output, in_cells(mask).to(fine.dtype))
        comparison = Comparison(FINE_STRIDE * output[:, :2], output[:, 2], output[:, 3], score)
        return Trace(comparison, seen_coarse, seen_fine, coarse_flow)

    def _coarse_flow(self, seen: Correlation, render: Tensor) -> tuple[Tensor, Tensor]:
        """Compute hidden features and flow [B, 2, h, w], pixels, of the coarse level."""
        shape = render.shape[-2:]
        expected = as_grid(expected_shift(seen, self.config.coarse_reach), shape)
        hidden, residual = self.coarse_decoder(decoder_view(seen, shape), expected, render)
        return hidden, COARSE_STRIDE * (expected + residual)

    def _fine_output(
        self, seen: Correlation, guess: Tensor, render: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute hidden features and the output [B, 4, h, w]: flow (cells), log scale, visibility."""
        shape = render.shape[-2:]
        expected = as_grid(expected_shift(seen, self.config.fine_reach), shape)
        centre = as_grid(seen.centre, shape)
        hidden, output = self.fine_decoder(
            decoder_view(seen, shape), expected, guess - centre, render, context
        )
        flow = centre + expected + output[:, :2]
        return hidden, torch.cat((flow, output[:, 2:3].clamp(*LOG_SCALE), output[:, 3:]), dim=1)

    def _normalised(self, rgb: Tensor) -> Tensor:
        return (rgb.to(self.mean.dtype) / 255.0 - self.mean) / self.std


def in_cells(mask: Tensor) -> Tensor:
    """Return the pixels of a mask [B, P, P] in the middle of the fine level's cells, [B, 1, g, g]."""
    middle = FINE_STRIDE // 2
    return mask[:, None, middle::FINE_STRIDE, middle::FINE_STRIDE]


def window_size(reach: int) -> int:
    """Return the number of cells in a window that reaches so far to each side."""
    return (2 * reach + 1) ** 2


def window_offsets(reach: int, device: torch.device | None = None) -> Tensor:
    """Return offsets [K, 2] (x, y) in cells from a window's middle, row-major."""
    side = torch.arange(-reach, reach + 1, device=device)
    y, x = torch.meshgrid(side, side, indexing="ij")
    return torch.stack((x, y), dim=-1).reshape(-1, 2)


def correlate(render: Tensor, image: Tensor, reach: int, guess: Tensor | None = None) -> Correlation:
    """Correlate each render cell with the image cells around its place.

    One matrix product of all cells with all and a gather: slicing in a loop costs tenfold in the backward
    pass.

    Args:
        render, image: [B, C, h, w] features; reach: cells to each side.
        guess: [B, 2, h, w] whole cells (x, y) from a render cell to the middle of its window; None: zero.
    """
    height, width = render.shape[-2:]
    products = render.flatten(2).transpose(1, 2) @ image.flatten(2)
    place = grid_positions(height, width, device=render.device).flip(-1)  # (x, y)
    centre = torch.zeros_like(place)[None] if guess is None else guess.flatten(2).transpose(1, 2).long()
    # Columns and rows of the windows, [B or 1, N, 2 reach + 1] each: all their pairs are the cells.
    side = torch.arange(-reach, reach + 1, device=render.device)
    x, y = ((place + centre)[..., axis, None] + side for axis in (0, 1))
    in_row, in_column = (x >= 0) & (x < width), (y >= 0) & (y < height)
    inside = (in_column[..., None] & in_row[..., None, :]).flatten(-2)
    index = (y.clamp(0, height - 1)[..., None] * width + x.clamp(0, width - 1)[..., None, :]).flatten(-2)
    found = products.gather(2, index.expand(len(products), -1, -1)) / render.shape[1] ** 0.5
    return Correlation(torch.where(inside, found, OUTSIDE), centre)


def expected_shift(seen: Correlation, reach: int) -> Tensor:
    """Compute the mean (x, y) [B, N, 2], cells from the window's middle, under the correlation's softmax."""
    offsets = window_offsets(reach, seen.logits.device).to(seen.logits.dtype)
    return seen.logits.softmax(dim=-1) @ offsets


def decoder_view(seen: Correlation, shape: tuple[int, int]) -> Tensor:
    """Return the correlation [B, K, h, w] as a decoder's input: logits, and zero outside of the image."""
    return as_grid(torch.where(seen.logits > OUTSIDE, seen.logits, 0.0), shape)


def as_grid(values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Reshape to a grid: [B, N, C] -> [B, C, h, w]."""
    return values.transpose(1, 2).unflatten(2, shape)
