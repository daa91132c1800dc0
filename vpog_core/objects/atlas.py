"""Pack several textures into one: shelves of tiles, each with its shifted uv."""

from __future__ import annotations

import cv2
import numpy as np

MAX_SIDE = 8192
MAX_TILE = 4096
"""Side (pixels) up to which a texture that repeats is written out in its full resolution."""
MAX_REPEATS = 64
GUTTER = 8
"""Pixels each tile is grown by on every side, so that coarse mip levels do not mix neighbours."""


def pack_tiles(tiles: list[tuple[np.ndarray, np.ndarray]]) -> tuple[list[np.ndarray], np.ndarray]:
    """Pack textures into an atlas.

    Args:
        tiles: (uv [F, 3, 2], texture [h, w, 3] uint8), v up.

    Returns:
        uv [F, 3, 2] float64 of each tile in the atlas, atlas [H, W, 3] uint8.
    """
    unrolled = _within_limit([_unroll(uv, texture) for uv, texture in tiles])
    textures = [_pad(texture) for _, texture in unrolled]
    places, width, height = _shelves([texture.shape[:2] for texture in textures])
    atlas = np.zeros((height, width, 3), dtype=np.uint8)
    out = []
    for (uv, texture), padded, (x, y) in zip(unrolled, textures, places, strict=True):
        atlas[y : y + padded.shape[0], x : x + padded.shape[1]] = padded
        h, w = texture.shape[:2]
        u = (x + GUTTER + uv[..., 0] * w) / width
        v = 1.0 - (y + GUTTER + (1.0 - uv[..., 1]) * h) / height
        out.append(np.stack([u, v], axis=-1))
    return out, _limit(atlas)


def _within_limit(tiles: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return tiles whose textures fit into the largest atlas, all scaled by one factor if necessary."""
    pixels = sum(texture.shape[0] * texture.shape[1] for _, texture in tiles)
    scale = MAX_SIDE / np.sqrt(pixels)
    if scale >= 1:
        return tiles
    return [(uv, _resized(texture, scale)) for uv, texture in tiles]


def _resized(texture: np.ndarray, scale: float) -> np.ndarray:
    """Scale a texture down; 8 pixels of each side remain."""
    height, width = (max(min(side, 8), round(side * scale)) for side in texture.shape[:2])
    return cv2.resize(texture, (width, height), interpolation=cv2.INTER_AREA)


def _limit(atlas: np.ndarray) -> np.ndarray:
    scale = MAX_SIDE / max(atlas.shape[:2])
    return atlas if scale >= 1 else cv2.resize(atlas, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _pad(texture: np.ndarray) -> np.ndarray:
    return cv2.copyMakeBorder(texture, GUTTER, GUTTER, GUTTER, GUTTER, cv2.BORDER_REPLICATE)


def _unroll(uv: np.ndarray, texture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tile a repeating texture, so that every face's uv lies within 0..1."""
    uv = uv - np.floor(uv.min(axis=1, keepdims=True) + 1e-6)
    repeat = np.clip(np.ceil(uv.max(axis=(0, 1), initial=1.0) - 1e-6), 1, MAX_REPEATS).astype(int)
    side = max(texture.shape[1] * repeat[0], texture.shape[0] * repeat[1])
    most = MAX_SIDE if max(repeat) <= 4 else MAX_TILE
    if side > most:
        texture = _resized(texture, most / side)
    texture = np.tile(texture, (repeat[1], repeat[0], 1))
    # v counts from the bottom row, where the tiling starts as well.
    return np.clip(uv / repeat, 0.0, 1.0), texture


def _shelves(sizes: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], int, int]:
    """Place the (h, w) on shelves: the corner (x, y) of each, then width and height of the whole."""
    width = max(max(w for _, w in sizes), int(np.ceil(np.sqrt(sum(h * w for h, w in sizes)))))
    places: list[tuple[int, int]] = [(0, 0)] * len(sizes)
    x = y = shelf = 0
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i][0]):
        h, w = sizes[index]
        if x + w > width:
            x, y, shelf = 0, y + shelf, 0
        places[index] = (x, y)
        x, shelf = x + w, max(shelf, h)
    return places, width, y + shelf
