"""A rendered object becomes a query crop: background, clutter, occluder, detection box, camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vpog_core.geometry.camera import BOX_PADDING
from vpog_core.geometry.se3 import rotation_z

MIN_VISIBLE = 0.35
"""Occluders that leave a smaller share of the object visible are taken away."""


@dataclass
class Query:
    """A crop with its truth; P is its side.

    Attributes:
        rgb: [P, P, 3] uint8; depth: [P, P] float32, 0 where the object is not visible.
        K: [3, 3]; R_crop_render: [3, 3], from the render's camera to the crop's.
    """

    rgb: np.ndarray
    depth: np.ndarray
    K: np.ndarray
    R_crop_render: np.ndarray


@dataclass
class Sprite:
    """A cut-out picture: rgb [h, w, 3] uint8 and alpha [h, w] uint8 (0 or 255)."""

    rgb: np.ndarray
    alpha: np.ndarray

    def placed(self, matrix: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """rgb [size, size, 3] and alpha [size, size, 1] in 0..1 under a 2x3 similarity."""
        rgb = cv2.warpAffine(self.rgb, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpAffine(self.alpha, matrix, (size, size))
        return rgb, alpha[..., None].astype(np.float32) / 255.0


def similarity(scale: float, angle: float, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """2x3 matrix that scales, turns (x towards y) and takes the pixel `source` [2] to `target` [2]."""
    A = scale * rotation_z(angle)[:2, :2]
    return np.concatenate([A, (np.asarray(target) - A @ np.asarray(source))[:, None]], axis=1)


def compose(rng: np.random.Generator, render, K: np.ndarray, roll: float, size: int, stage) -> Query:
    """Put a rendered object into a scene and cut out what a detector would.

    Args:
        render: of the object alone (rgb, depth, mask), square, principal point in its middle.
        K: [3, 3] of the render; roll: radians the crop's content is turned by against the render.
        size: side of the crop; stage: gives `background(rng, size)` and `sprite(rng)`.
    """
    side = render.mask.shape[0]
    occluder = _occluder(rng, render.mask, stage) if rng.random() < 0.55 else None
    visible = render.mask
    if occluder is not None:
        sprite, place = occluder
        visible = visible & (cv2.warpAffine(sprite.alpha, place, (side, side)) < 128)
    boxed = visible if rng.random() < 0.5 else render.mask
    to_crop = _crop_matrix(rng, boxed, roll, size)
    canvas = stage.background(rng, size).astype(np.float32)
    for _ in range(rng.integers(0, 4)):
        _paste(canvas, stage.sprite(rng), _anywhere(rng, size), rng)
    rgb, alpha = Sprite(render.rgb, render.mask.astype(np.uint8) * 255).placed(to_crop, size)
    canvas += alpha * (rgb - canvas)
    if occluder is not None:
        full = np.vstack([to_crop, [0, 0, 1]]) @ np.vstack([place, [0, 0, 1]])
        _paste(canvas, sprite, full[:2], rng)
    depth = cv2.warpAffine(render.depth * visible, to_crop, (size, size), flags=cv2.INTER_NEAREST)
    return Query(canvas.clip(0, 255).astype(np.uint8), depth, *_camera(K, to_crop, roll))


def _camera(K: np.ndarray, to_crop: np.ndarray, roll: float) -> tuple[np.ndarray, np.ndarray]:
    """K of the crop and its rotation: a similarity of the picture is a roll, a zoom and a shift."""
    scale = np.linalg.norm(to_crop[:, 0])
    K_crop = K.copy()
    K_crop[0, 0] *= scale
    K_crop[1, 1] *= scale
    K_crop[:2, 2] = to_crop[:, :2] @ K[:2, 2] + to_crop[:, 2]
    return K_crop, rotation_z(roll)


def _crop_matrix(rng: np.random.Generator, mask: np.ndarray, roll: float, size: int) -> np.ndarray:
    """From the render to the crop around the mask's box at this roll, the box jittered as detectors err."""
    points = np.argwhere(mask)[:, ::-1] @ rotation_z(roll)[:2, :2].T
    low, high = points.min(axis=0) - 0.5, points.max(axis=0) + 0.5
    extent = high - low
    sloppy = 0.04 if rng.random() < 0.75 else 0.1
    low, high = low + rng.normal(0, sloppy, 2) * extent, high + rng.normal(0, sloppy, 2) * extent
    diagonal = max(np.linalg.norm(high - low), 8.0)
    centre = rotation_z(-roll)[:2, :2] @ ((low + high) / 2)
    return similarity(size / (BOX_PADDING * diagonal), roll, centre, np.full(2, (size - 1) / 2))


def _occluder(rng: np.random.Generator, mask: np.ndarray, stage) -> tuple[Sprite, np.ndarray] | None:
    """A sprite over part of the object, and its place in the render; None where it would hide too much."""
    points = np.argwhere(mask)[:, ::-1]
    extent = np.linalg.norm(points.max(axis=0) - points.min(axis=0) + 1)
    side = mask.shape[0]
    for _ in range(4):
        sprite = stage.sprite(rng)
        centre = points[rng.integers(len(points))] + rng.normal(0, 0.15 * extent, 2)
        scale = extent * rng.uniform(0.35, 1.1) / max(sprite.alpha.shape)
        middle = (np.array(sprite.alpha.shape[::-1]) - 1) / 2
        place = similarity(scale, rng.uniform(-np.pi, np.pi), middle, centre)
        hidden = (cv2.warpAffine(sprite.alpha, place, (side, side)) >= 128) & mask
        if hidden.sum() <= (1 - MIN_VISIBLE) * len(points):
            return sprite, place
    return None


def _anywhere(rng: np.random.Generator, size: int) -> np.ndarray:
    centre = rng.uniform(0, size, 2)
    return similarity(rng.uniform(0.4, 1.2), rng.uniform(-np.pi, np.pi), np.full(2, size / 2), centre)


def _paste(canvas: np.ndarray, sprite: Sprite, matrix: np.ndarray, rng: np.random.Generator) -> None:
    rgb, alpha = sprite.placed(matrix, canvas.shape[0])
    canvas += alpha * (rgb * rng.uniform(0.5, 1.3) - canvas)
