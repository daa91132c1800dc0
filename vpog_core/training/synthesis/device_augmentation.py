"""Degrade a whole batch of images in torch, on the batch's device.

The same effects in the same order, from the same table and the same draws as `photometry.apply`: loaders
that feed a GPU leave them out and stay cheap.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vpog_core.synthetic.photometry import Photometry, PhotometryParams, draw

# ITU-T T.81 (JPEG), annex K: the quantisation tables that libjpeg scales by the quality.
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *[99] * 32,
)  # fmt: skip
_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def augment(
    images: Tensor, generator: torch.Generator | None = None, params: PhotometryParams | None = None
) -> Tensor:
    """Degrade images as cameras would.

    Args:
        images: [..., H, W, 3], square, uint8 or float in 0..255.
        generator: of any device; None takes torch's own.

    Returns:
        The same shape, type and device; float images come back in whole steps of 0..255.
    """
    flat = images.flatten(0, -4) if images.ndim > 4 else images.reshape(-1, *images.shape[-3:])
    home = generator.device if generator is not None else "cpu"
    seed = torch.randint(2**62, (1,), generator=generator, device=home).item()
    numbers = draw(np.random.default_rng(seed), len(flat), images.shape[-2], params)
    noise = torch.Generator(images.device).manual_seed(seed)
    return apply(flat, numbers, noise).to(images.dtype).reshape(images.shape)


def apply(images: Tensor, numbers: Photometry, generator: torch.Generator | None = None) -> Tensor:
    """Degrade [N, P, P, 3] images by their numbers: float32 in whole steps of 0..255.

    Args:
        generator: of the images' device, for the noise.
    """
    rgb = images.permute(0, 3, 1, 2).float() / 255.0
    out = torch.empty_like(rgb)
    size = rgb.shape[-1]
    for scale in np.unique(numbers.scale):
        chosen = np.flatnonzero(numbers.scale == scale)
        part = {
            f.name: torch.from_numpy(getattr(numbers, f.name)[chosen]).to(rgb.device) for f in fields(numbers)
        }
        index = torch.from_numpy(chosen).to(rgb.device)
        small = round(size * float(scale))
        image = rgb[index]
        if small != size:
            image = (_area(image, small) * 255).round() / 255
        image = _sensor(image, part, generator)
        if small != size:
            image = F.interpolate(image, (size, size), mode="bilinear", align_corners=False)
        out[index] = image
    return (out * 255).round().clamp(0, 255).permute(0, 2, 3, 1)


def _sensor(x: Tensor, p: dict[str, Tensor], generator: torch.Generator | None) -> Tensor:
    """Degrade [N, 3, h, w] in 0..1, at the resolution the sensor has."""
    x = _expose(x, p)
    x = _blur(x, p["kernel"])
    sigma = (_each(p["read"]) ** 2 + _each(p["shot"]) ** 2 * x.clamp_min(0)).sqrt()
    x = x + sigma * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    x = x + _each(p["sharpen"]) * (x - _soft(x))
    x = (x.clamp(0, 1) * 255).round() / 255
    coded = p["quality"] > 0
    return torch.where(_each(coded), jpeg(x, p["quality"].clamp_min(1)), x) if bool(coded.any()) else x


def _each(values: Tensor) -> Tensor:
    """Reshape [N] to [N, 1, 1, 1]."""
    return values[:, None, None, None]


def _expose(x: Tensor, p: dict[str, Tensor]) -> Tensor:
    x = x.clamp_min(0) ** _each(p["gamma"]) * p["gain"][:, :, None, None]
    axis = torch.linspace(0, 1, x.shape[-1], device=x.device) - 0.5
    across, down, depth = p["vignette"].T[..., None, None]
    along = (axis * across + axis[:, None] * down + 0.5).clamp(0, 1)
    x = x * (1 - depth * along**2)[:, None]
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * _each(p["saturation"])
    return (x - 0.5) * _each(p["contrast"]) + 0.5 + _each(p["offset"])


def _blur(x: Tensor, kernel: Tensor) -> Tensor:
    """Blur each image [N, 3, h, w] by its own kernel [N, k, k], unless that is the identity."""
    blurred = (kernel.amax(dim=(1, 2)) < 1).nonzero()[:, 0]
    if not len(blurred):
        return x
    n, reach = len(blurred), kernel.shape[-1] // 2
    padded = F.pad(x[blurred], (reach,) * 4, mode="replicate").reshape(
        1, 3 * n, *(s + 2 * reach for s in x.shape[2:])
    )
    weights = kernel[blurred].repeat_interleave(3, dim=0)[:, None]
    done = F.conv2d(padded, weights, groups=3 * n).reshape(n, 3, *x.shape[2:])
    return x.index_copy(0, blurred, done)


def _soft(x: Tensor) -> Tensor:
    """Blur by a Gaussian of 0.85 pixels over 3 x 3."""
    line = torch.exp(-torch.tensor([1.0, 0.0, 1.0], device=x.device) / (2 * 0.85**2))
    line = line / line.sum()
    kernel = (line[:, None] * line).expand(3, 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)


def _area(x: Tensor, small: int) -> Tensor:
    """Shrink [N, 3, h, w] to [N, 3, small, small]: each pixel is the mean of the area it covers."""
    size = x.shape[-1]
    edge = torch.arange(small + 1, device=x.device, dtype=x.dtype) * (size / small)
    pixel = torch.arange(size, device=x.device, dtype=x.dtype)
    cover = torch.minimum(edge[1:, None], pixel + 1) - torch.maximum(edge[:-1, None], pixel)
    weight = cover.clamp_min(0) * (small / size)
    return torch.einsum("ij,ncjk,lk->ncil", weight, x, weight)


def jpeg(x: Tensor, quality: Tensor) -> Tensor:
    """Compute what a JPEG of each quality [N] (1..100) leaves of images [N, 3, h, w] in 0..1.

    The transform and tables of ITU-T T.81 with libjpeg's scaling, chroma at half resolution; entropy coding
    loses nothing and is left out.
    """
    height, width = x.shape[-2:]
    padded = F.pad(x * 255, (0, -width % 16, 0, -height % 16), mode="replicate")
    matrix = torch.tensor(_YCC, device=x.device)
    ycc = torch.einsum("ij,njhw->nihw", matrix, padded)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    luma = _quantised(ycc[:, :1] - 128, _LUMA, scale) + 128
    chroma = _quantised(F.avg_pool2d(ycc[:, 1:], 2), _CHROMA, scale)
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    rgb = torch.einsum("ij,njhw->nihw", torch.linalg.inv(matrix), torch.cat((luma, chroma), dim=1))
    return rgb[..., :height, :width].round().clamp(0, 255) / 255


def _quantised(x: Tensor, table: tuple[int, ...], scale: Tensor) -> Tensor:
    """Quantise [N, C, h, w] in the 8 x 8 cosine transform by the scaled table, and transform back."""
    steps = torch.tensor(table, device=x.device, dtype=x.dtype).view(8, 8)
    steps = ((steps * scale[:, None, None] + 50) / 100).floor().clamp(1, 255)[:, None, None, None]
    k = torch.arange(8, device=x.device, dtype=x.dtype)
    dct = torch.cos((2 * k + 1) * k[:, None] * torch.pi / 16) / 2
    dct[0] /= 2**0.5
    blocks = x.unflatten(-2, (-1, 8)).unflatten(-1, (-1, 8)).transpose(-3, -2)  # [N, C, h/8, w/8, 8, 8]
    coefficients = dct @ blocks @ dct.T
    blocks = dct.T @ ((coefficients / steps).round() * steps) @ dct
    return blocks.transpose(-3, -2).flatten(-2).flatten(-3, -2)
