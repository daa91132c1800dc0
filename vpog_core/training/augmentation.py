"""What lamps and cameras do to a picture."""

from __future__ import annotations

import cv2
import numpy as np

from vpog_core.objects.renderer import Light


def random_lights(rng: np.random.Generator) -> list[Light]:
    """One to three directional lights with ambient light, mostly white."""
    count = rng.integers(1, 4)
    ambient = rng.uniform(0.25, 0.75)
    strength = rng.uniform(0.3, 1.0) * rng.dirichlet(np.ones(count))
    return [
        Light(
            ambient=ambient / count,
            direction=tuple(rng.normal(0, 1, 3) + np.array([0, -0.4, -0.8])),
            diffuse=float(strength[i]),
            color=tuple(1 + rng.normal(0, 0.08, 3)),
            specular=float(rng.uniform(0, 0.5)) if rng.random() < 0.4 else 0.0,
            shininess=float(np.exp(rng.uniform(np.log(5), np.log(80)))),
        )
        for i in range(count)
    ]


def degrade(rng: np.random.Generator, rgb: np.ndarray) -> np.ndarray:
    """Exposure, white balance, saturation, contrast, blur, noise, JPEG: [P, P, 3] uint8 -> the same."""
    image = rgb.astype(np.float32) / 255.0
    image = image ** rng.uniform(0.7, 1.4) * rng.uniform(0.7, 1.25) * (1 + rng.normal(0, 0.06, 3))
    gray = image.mean(axis=-1, keepdims=True)
    image = gray + (image - gray) * rng.uniform(0.5, 1.3)
    image = (image - 0.5) * rng.uniform(0.75, 1.2) + 0.5 + rng.normal(0, 0.03)
    image = _soften(rng, image.astype(np.float32))
    image = image + rng.normal(0, rng.uniform(0, 0.03), image.shape)
    image = (image.clip(0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.3:
        quality = int(rng.integers(35, 90))
        image = cv2.imdecode(
            cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR
        )
    return image


def _soften(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Defocus, low resolution or motion blur, or none of them."""
    kind = rng.random()
    size = image.shape[:2][::-1]
    if kind < 0.3:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.3))
    if kind < 0.45:
        small = cv2.resize(image, None, fx=(f := rng.uniform(0.4, 0.9)), fy=f, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
    if kind < 0.55:
        length, angle = rng.integers(3, 7), rng.uniform(0, np.pi)
        kernel = np.zeros((7, 7), np.float32)
        reach = length / 2 * np.array([np.cos(angle), np.sin(angle)])
        ends = np.round([3 - reach, 3 + reach]).astype(int)
        cv2.line(kernel, tuple(map(int, ends[0])), tuple(map(int, ends[1])), 1.0)
        return cv2.filter2D(image, -1, kernel / kernel.sum())
    return image
