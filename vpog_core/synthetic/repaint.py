"""Change the appearance of a mesh: plain paint, a print, photographs, or decals on its own colours.

Textures are projected along the six sides of a frame onto the faces that look there, as packages are printed,
which works for any mesh, whatever its vertices and texture coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vpog_core.geometry.se3 import random_rotation
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.surface import MipTexture
from vpog_core.synthetic.prints import make_print, palette
from vpog_core.synthetic.textures import SIDES, facing_side, solid_texture

Rng = np.random.Generator
APPEARANCES = ("plain", "print", "photo", "decals")
TILE = 192
"""Texels along the longest side of a mesh, for prints and photographs."""
PATTERN = 64
"""Texels along the longest side for patterns that fill space, which are smooth."""
GREY_PAINT, SOLID, ALIKE, SKEW = 0.4, 0.35, 0.25, 0.3
"""Probabilities: plain paint is grey; a print is a pattern that fills space; a side looks like the one
opposite; the frame is turned against the mesh's."""


def repainted(rng: Rng, renderer: Renderer, appearance: str, photos: Sequence[np.ndarray] = ()) -> Renderer:
    """Return a renderer of the same shape in another appearance, drawn by `rng`.

    Args:
        appearance: one of `APPEARANCES`.
        photos: [h, w, 3] uint8 images; without any, `photo` prints.
    """
    surface, mesh = renderer.surface, renderer.mesh
    if appearance == "plain":
        return renderer.repainted(surface.painted(color=plain_color(rng)))
    mapping = _BoxMapping(rng, mesh)
    if appearance == "decals":
        return renderer.repainted(surface.painted(decals=mapping.texture(_decals(rng, mapping, photos))))
    if appearance == "photo" and len(photos):
        tiles = _photo_tiles(rng, photos)
    elif rng.random() < SOLID:
        tiles = _solid_tiles(rng, mapping)
    else:
        tiles = _print_tiles(rng, mapping, photos)
    return renderer.repainted(surface.painted(texture=mapping.texture(tiles)))


def plain_color(rng: Rng) -> np.ndarray:
    """Draw a paint's colour [3] uint8: greys as machine parts have them, or any colour."""
    if rng.random() < GREY_PAINT:
        return (rng.uniform(25, 235) + rng.normal(0, 4, 3)).clip(0, 255).astype(np.uint8)
    return palette(rng)[0]


class _BoxMapping:
    """Maps six tiles of one scale around a mesh to its faces."""

    def __init__(self, rng: Rng, mesh: Mesh) -> None:
        self.mesh = mesh
        frame = random_rotation(rng) if rng.random() < SKEW else np.eye(3)
        corners = mesh.vertices[mesh.faces] @ frame.T
        hull = mesh.hull_points @ frame.T
        self.low, self.extent = hull.min(axis=0), np.maximum(np.ptp(hull, axis=0), 1e-4)
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        side = facing_side(cross)
        # (u right, v up), seen from outside, in units of the longest side.
        across = (corners - self.low) / self.extent.max()
        right = np.array([s[2] for s in SIDES])[side]
        up = np.array([s[4] for s in SIDES])[side]
        flipped = np.array([s[3] for s in SIDES])[side] < 0
        index = np.arange(len(side))
        u, v = across[index, :, right], across[index, :, up]
        wide = (self.extent / self.extent.max())[right][:, None]
        u = np.where(flipped[:, None], wide - u, u)
        # Stay half a texel inside, so that a tile's edge does not take the next one's colour.
        inset = (np.stack([u, v], axis=2) * (TILE - 2) + 1) / TILE
        column, row = side % 3, side // 3
        place = np.stack([column, 1 - row], axis=1)[:, None]
        self.uv = ((place + inset) / (3, 2)).astype(np.float32)

    def shape(self, side: int) -> tuple[int, int]:
        """Return (height, width) of the used part of a tile, pixels; it lies in the lower left corner."""
        texels = np.ceil(self.extent * (TILE / self.extent.max())).astype(int).clip(8, TILE)
        return int(texels[SIDES[side][4]]), int(texels[SIDES[side][2]])

    def texture(self, tiles: Sequence[np.ndarray]) -> MipTexture:
        """Make the texture of six tiles [TILE, TILE, C] in the order of `SIDES`."""
        return MipTexture(self.mesh, self.uv, np.vstack([np.hstack(tiles[:3]), np.hstack(tiles[3:])]))

    def points(self, side: int, count: int) -> np.ndarray:
        """Return where the pixels of a tile lie on their side: [count * count, 3] metres, mapping's frame."""
        normal, sign, right, flip, up = SIDES[side]
        line = (np.arange(count) + 0.5) / count * self.extent.max()
        out = np.empty((count, count, 3))
        out[..., right] = self.extent[right] - line if flip < 0 else line
        out[..., up] = line[::-1, None]
        out[..., normal] = self.extent[normal] if sign > 0 else 0.0
        return out.reshape(-1, 3) + self.low


def _print_tiles(rng: Rng, mapping: _BoxMapping, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
    colors, tiles = palette(rng, 6), []
    photo = photos[rng.integers(len(photos))] if len(photos) and rng.random() < 0.4 else None
    for side in range(6):
        if side % 2 and rng.random() < ALIKE:
            tiles.append(tiles[-1])
            continue
        height, width = mapping.shape(side)
        ground = colors if rng.random() < 0.7 else colors[rng.permutation(6)]
        tile = np.empty((TILE, TILE, 3), np.uint8)
        tile[:] = ground[0]
        tile[-height:, :width] = make_print(rng, height, width, ground, photo, rng.choice([0.3, 1.0, 1.6]))
        tiles.append(tile)
    return tiles


def _solid_tiles(rng: Rng, mapping: _BoxMapping) -> list[np.ndarray]:
    points = np.concatenate([mapping.points(side, PATTERN) for side in range(6)])
    colors = solid_texture(rng, points, palette(rng, 6), strong=rng.random() < 0.8)
    small = colors.clip(0, 255).astype(np.uint8).reshape(6, PATTERN, PATTERN, 3)
    return [cv2.resize(tile, (TILE, TILE), interpolation=cv2.INTER_CUBIC) for tile in small]


def _photo_tiles(rng: Rng, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Cut tiles out of one photograph, at times out of several."""
    photo, tiles = photos[rng.integers(len(photos))], []
    for side in range(6):
        if side % 2 and rng.random() < ALIKE:
            tiles.append(tiles[-1])
            continue
        if rng.random() < 0.25:
            photo = photos[rng.integers(len(photos))]
        tiles.append(_part(rng, photo, TILE, TILE))
    return tiles


def _part(rng: Rng, photo: np.ndarray, height: int, width: int) -> np.ndarray:
    scale = rng.uniform(0.35, 1.0) * min(photo.shape[0] / height, photo.shape[1] / width)
    h, w = max(2, int(scale * height)), max(2, int(scale * width))
    y, x = rng.integers(photo.shape[0] - h + 1), rng.integers(photo.shape[1] - w + 1)
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    return cv2.resize(photo[y : y + h, x : x + w], (width, height), interpolation=method)


def _decals(rng: Rng, mapping: _BoxMapping, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Make tiles [TILE, TILE, 4], empty but for labels and stickers; colours are multiplied by alpha."""
    tiles = [np.zeros((TILE, TILE, 4), np.uint8) for _ in range(6)]
    for _ in range(rng.integers(2, 7)):
        side = int(rng.integers(6))
        high, wide = mapping.shape(side)
        h, w = (max(8, int(rng.uniform(0.2, 0.7) * n)) for n in (high, wide))
        if len(photos) and rng.random() < 0.3:
            sticker = _part(rng, photos[rng.integers(len(photos))], h, w)
        else:
            sticker = make_print(rng, h, w, palette(rng, 6), None, 1.0)
        alpha = np.full((h, w), 255, np.uint8)
        if rng.random() < 0.3:
            alpha[:] = 0
            cv2.ellipse(alpha, (w // 2, h // 2), (w // 2, h // 2), 0, 0, 360, 255, -1)
        angle = rng.choice([0.0, 90.0, 180.0, 270.0]) + rng.normal(0, 6)
        matrix = cv2.getRotationMatrix2D((w / 2, h / 2), float(angle), 1.0)
        matrix[:, 2] += (rng.uniform(0, wide) - w / 2, TILE - rng.uniform(0, high) - h / 2)
        rgba = np.dstack([sticker * (alpha[..., None] > 0), alpha])
        laid = cv2.warpAffine(rgba, matrix, (TILE, TILE))
        keep = 1 - laid[..., 3:].astype(np.float32) / 255
        tiles[side] = (tiles[side] * keep + laid).clip(0, 255).astype(np.uint8)
    return tiles
