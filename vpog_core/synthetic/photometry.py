"""Degrade images as lenses, sensors and files do: draw the numbers of all effects, and apply them.

`draw` makes the numbers of N images at once; `degrade` applies them in numpy and OpenCV, image by image
(in a data loader), training's `device_augmentation.augment` in torch, a batch at a time. Lengths are in
pixels of a crop of 112 and grow with the crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

REFERENCE_SIZE = 112
SOURCE_STEP = 14
"""Step of the sides of crops in the camera's image, pixels, so that a batch has few sizes."""


@dataclass(frozen=True)
class PhotometryParams:
    """Declares ranges (low, high), standard deviations, and the fraction of images of each effect.

    Attributes:
        gamma, gain: of the exposure; contrast: about middle grey; offset: std, of the black level.
        white_balance: std of each channel's gain; saturation: 1 = as rendered; grey: fraction without colour.
        vignette, vignette_depth: fraction, and the light lost in a corner of the image, far from most crops.
        defocus, defocus_radius: fraction, and std of the blur or radius of the disc.
        source: side of the crop in the camera's image, pixels, even in the logarithm: about that of the box
            around the object. Smaller ones are blown up, bilinearly as the estimator's crops are.
        small_blur: how often these are blurred as well, relative to the others.
        motion, motion_length: fraction, and length of the smear.
        noise: fraction; shot: std at full white, falling with the root; read: std everywhere; of 1 = white.
        sharpen, sharpen_amount: fraction, and what cameras add of the difference to a blur.
        jpeg, jpeg_quality: fraction, and its quality.
    """

    gamma: tuple[float, float] = (0.7, 1.5)
    gain: tuple[float, float] = (0.65, 1.25)
    contrast: tuple[float, float] = (0.8, 1.35)
    offset: float = 0.03
    white_balance: float = 0.06
    saturation: tuple[float, float] = (0.6, 1.5)
    grey: float = 0.03
    vignette: float = 0.2
    vignette_depth: tuple[float, float] = (0.1, 0.5)
    defocus: float = 0.28
    defocus_radius: tuple[float, float] = (0.3, 1.4)
    source: tuple[float, float] = (40.0, 400.0)
    small_blur: float = 0.35
    motion: float = 0.1
    motion_length: tuple[float, float] = (2.0, 6.0)
    noise: float = 0.8
    shot: tuple[float, float] = (0.0, 0.035)
    read: tuple[float, float] = (0.0, 0.02)
    sharpen: float = 0.3
    sharpen_amount: tuple[float, float] = (0.3, 1.5)
    jpeg: float = 0.35
    jpeg_quality: tuple[float, float] = (35.0, 92.0)


@dataclass
class Photometry:
    """Holds the parameters of the effects on N images, all [N] float32 unless stated otherwise.

    Attributes:
        gain: [N, 3]; vignette: [N, 3] direction (x, y) across the crop and depth; 0 = none.
        scale: resolution over the crop's; kernel: [N, k, k] blur, the identity where there is none.
        quality: of the JPEG, 0 = none.
    """

    gamma: np.ndarray
    gain: np.ndarray
    contrast: np.ndarray
    offset: np.ndarray
    saturation: np.ndarray
    vignette: np.ndarray
    scale: np.ndarray
    kernel: np.ndarray
    shot: np.ndarray
    read: np.ndarray
    sharpen: np.ndarray
    quality: np.ndarray


def draw(
    rng: np.random.Generator, count: int, size: int = REFERENCE_SIZE, params: PhotometryParams | None = None
) -> Photometry:
    """Draw the numbers for `count` images of `size` pixels along each side."""
    s = PhotometryParams() if params is None else params

    def within(limits: tuple[float, float]) -> np.ndarray:
        return rng.uniform(*limits, count)

    def some(fraction: float, values: np.ndarray) -> np.ndarray:
        return np.where(rng.random(count) < fraction, values, 0.0)

    # Draw which images have which effects.
    angle = rng.uniform(-np.pi, np.pi, count)
    depth = some(s.vignette, within(s.vignette_depth))
    noisy = rng.random(count) < s.noise
    kind = rng.random(count)
    side = SOURCE_STEP * np.maximum(1, np.round(np.exp(within(np.log(s.source))) / SOURCE_STEP))
    # Blur small objects less often, as it leaves nothing of them.
    kind = np.where(side < size, kind / s.small_blur, kind)
    kernel = _kernels(rng, count, size / REFERENCE_SIZE, s, kind < s.defocus,
                      (kind >= s.defocus) & (kind < s.defocus + s.motion))  # fmt: skip
    # Draw how strong the effects are.
    numbers = Photometry(
        gamma=within(s.gamma),
        gain=within(s.gain)[:, None] * (1 + rng.normal(0, s.white_balance, (count, 3))),
        contrast=within(s.contrast),
        offset=rng.normal(0, s.offset, count),
        saturation=np.where(rng.random(count) < s.grey, 0.0, within(s.saturation)),
        vignette=np.stack([np.cos(angle), np.sin(angle), depth], axis=1),
        scale=np.minimum(side / size, 1.0),
        kernel=kernel,
        shot=np.where(noisy, within(s.shot), 0.0),
        read=np.where(noisy, within(s.read), 0.0),
        sharpen=some(s.sharpen, within(s.sharpen_amount)),
        quality=some(s.jpeg, np.round(within(s.jpeg_quality))),
    )
    return Photometry(**{name: value.astype(np.float32) for name, value in vars(numbers).items()})


def _kernels(rng, count: int, unit: float, s: PhotometryParams, defocused, moved) -> np.ndarray:
    """Make [count, k, k] blurs: Gaussians and discs if defocused, lines if moved, else the identity."""
    reach = int(np.ceil((s.motion_length[1] / 2 + 0.5) * unit))
    axis = np.arange(-reach, reach + 1, dtype=np.float64)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    radius, half, angle, disc = (
        v[:, None, None]
        for v in (
            unit * rng.uniform(*s.defocus_radius, count),
            unit * rng.uniform(*s.motion_length, count) / 2,
            rng.uniform(0, np.pi, count),
            rng.random(count) < 0.5,
        )
    )
    r2 = x * x + y * y
    round_ = np.where(disc, np.clip(1.6 * radius + 0.5 - np.sqrt(r2), 0, 1), np.exp(-r2 / (2 * radius**2)))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    line = np.clip(1 - np.abs(across), 0, 1) * np.clip(half + 0.5 - np.abs(along), 0, 1)
    none = np.broadcast_to((r2 == 0).astype(np.float64), round_.shape)
    kernel = np.where(defocused[:, None, None], round_, np.where(moved[:, None, None], line, none))
    return kernel / kernel.sum(axis=(1, 2), keepdims=True)


def degrade(rng: np.random.Generator, rgb: np.ndarray, params: PhotometryParams | None = None) -> np.ndarray:
    """Degrade a crop [P, P, 3] uint8 as some camera would: the same shape and type."""
    return apply(rng, rgb, draw(rng, 1, rgb.shape[0], params), 0)


def photograph(rng: np.random.Generator, rgb: np.ndarray, side: int) -> np.ndarray:
    """Degrade a whole image [H, W, 3] uint8 as some camera would, whose objects are `side` pixels large."""
    return apply(rng, rgb, draw(rng, 1, side), 0)


def apply(rng: np.random.Generator, rgb: np.ndarray, numbers: Photometry, index: int) -> np.ndarray:
    """Degrade an image [H, W, 3] uint8 by the numbers of one index; `rng` makes the noise."""
    p = {name: value[index] for name, value in vars(numbers).items()}
    size = rgb.shape[1::-1]
    # Take the image at the resolution of the camera, which may be lower.
    small = tuple(round(side * float(p["scale"])) for side in size)
    if small != size:
        rgb = cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)
    # Expose it; then blur it as lens and motion do, add the sensor's noise, and sharpen as cameras do.
    image = expose(rgb, p)
    if p["kernel"].max() < 1:
        image = cv2.filter2D(image, -1, p["kernel"], borderType=cv2.BORDER_REPLICATE)
    if p["shot"] > 0 or p["read"] > 0:
        sigma = np.sqrt(p["read"] ** 2 + p["shot"] ** 2 * np.maximum(image, 0))
        image += sigma * _normals(rng, image.shape)
    if p["sharpen"] > 0:
        soft = cv2.GaussianBlur(image, (3, 3), 0.85, borderType=cv2.BORDER_REPLICATE)
        image += p["sharpen"] * (image - soft)
    # Store it with eight bits, compressed, and enlarge it to its size again.
    image = (image.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    if p["quality"] > 0:
        image = _jpeg(image, int(p["quality"]))
    if small != size:
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return image


def expose(rgb: np.ndarray, p: dict[str, np.ndarray]) -> np.ndarray:
    """Apply gamma, gain, vignette, saturation, contrast and black level: [h, w, 3] float32, about 0..1."""
    table = (np.arange(256, dtype=np.float32) / 255.0)[:, None] ** p["gamma"] * p["gain"]
    image = cv2.LUT(rgb, np.ascontiguousarray(table[None], dtype=np.float32))
    if p["vignette"][2] > 0:
        y, x = (np.linspace(-0.5, 0.5, side, dtype=np.float32) for side in rgb.shape[:2])
        along = x * p["vignette"][0] + y[:, None] * p["vignette"][1] + 0.5
        image *= 1 - p["vignette"][2] * along.clip(0, 1)[..., None] ** 2
    if p["saturation"] != 1:
        mix = (1 - p["saturation"]) / 3 + p["saturation"] * np.eye(3, dtype=np.float32)
        image = cv2.transform(image, mix)
    image *= p["contrast"]
    image += 0.5 * (1 - p["contrast"]) + p["offset"]
    return image


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Encode and decode; channels are swapped both times, so that luma and chroma are correct."""
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


@lru_cache(maxsize=1)
def _normal_table() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(1 << 20, dtype=np.float32)


def _normals(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return standard normals from a fixed million, starting at random: new ones would cost the most."""
    count = int(np.prod(shape))
    table = _normal_table()
    if count >= len(table):
        return rng.standard_normal(shape, dtype=np.float32)
    start = int(rng.integers(len(table) - count))
    return table[start : start + count].reshape(shape)
