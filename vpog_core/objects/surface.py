"""Look up colour and normal of a mesh by face and barycentrics, before light is applied."""

from __future__ import annotations

from copy import copy

import cv2
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from vpog_core.geometry.vectors import length
from vpog_core.objects.mesh import Mesh

CREASE_ANGLE = 30.0
"""Angle between faces, degrees, above which an edge is shaded as sharp, below as part of a curve."""
CREASE_COSINE = np.cos(np.radians(CREASE_ANGLE))


class Surface:
    """Holds colours and normals of a mesh, for lookups of many points at once.

    Attributes:
        texture, colors, base_color: the first of them that is there gives the colour.
        decals: a texture with alpha over that, or None.
    """

    def __init__(self, mesh: Mesh):
        self.normals = mesh.corner_normals
        if self.normals is None:
            self.normals = corner_normals(mesh.vertices, mesh.faces)
        self.texture = None
        self.decals = None
        self.colors = None
        self.base_color = np.asarray(mesh.base_color, dtype=np.float32)
        if mesh.texture is not None and mesh.uv is not None:
            uv = np.asarray(mesh.uv, dtype=np.float32)
            self.texture = MipTexture(mesh, uv, _fill_gutters(mesh.texture, uv))
        elif mesh.vertex_colors is not None:
            colors = np.asarray(mesh.vertex_colors, dtype=np.float32)
            self.colors = np.ascontiguousarray(colors[mesh.faces])

    def painted(
        self,
        color: np.ndarray | None = None,
        texture: MipTexture | None = None,
        decals: MipTexture | None = None,
    ) -> Surface:
        """Return the same surface in one colour [3], in another texture, or with decals on what it has.

        Args:
            decals: [h, w, 4], the colours multiplied by alpha.
        """
        new = copy(self)
        if color is not None or texture is not None:
            new.colors, new.texture, new.decals = None, texture, None
        if color is not None:
            new.base_color = np.asarray(color, dtype=np.float32)
        new.decals = decals
        return new

    def normal(self, face: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Look up unit normals [N, 3] float32 at faces [N] with barycentric weights [N, 3]."""
        normal = _blend(self.normals, face, weights)
        return normal / length(normal)

    def color(self, face: np.ndarray, weights: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """Look up colours [N, 3] float32 0..255; `footprint` [N] is the side of a pixel on the object (m)."""
        color = self._own_color(face, weights, footprint)
        if self.decals is None:
            return color
        over = self.decals.lookup(face, weights, footprint)
        return color * (1 - over[:, 3:] / 255) + over[:, :3]

    def _own_color(self, face: np.ndarray, weights: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        if self.texture is not None:
            return self.texture.lookup(face, weights, footprint)
        if self.colors is not None:
            return _blend(self.colors, face, weights)
        return np.broadcast_to(self.base_color, (len(face), 3))


def _blend(corners: np.ndarray, face: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Interpolate values [F, 3, C] of faces' corners at faces [N], by weights [N, 3], to [N, C]."""
    # `take` is several times faster than indexing with an array.
    return np.einsum("nkc,nk->nc", corners.take(face, axis=0), weights)


def corner_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Compute unit normals [F, 3, 3] float32 of each face's corners, smooth up to the crease angle.

    Faces that meet in an edge at less than CREASE_ANGLE are shaded as one surface there: around a vertex,
    all corners that are linked by such edges share the mean normal of their faces, weighted by the angle of
    the corner. Vertices at one place count as one, so that seams of a texture do not show.
    """
    # Compute the normal of each face, and the angle at each of its corners.
    corners = vertices[faces]
    edge = np.roll(corners, -1, axis=1) - corners
    normal = np.cross(edge[:, 0], -edge[:, 2])
    flat = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    unit = edge / np.maximum(np.linalg.norm(edge, axis=2, keepdims=True), 1e-30)
    angle = np.arccos(np.clip(-(unit * np.roll(unit, 1, axis=1)).sum(axis=2), -1.0, 1.0))
    # Average the normals of the corners that are shaded as one surface.
    fan = _smooth_fans(_merge_places(vertices)[faces], flat)
    weighted = (angle[..., None] * flat[:, None]).reshape(-1, 3)
    summed = np.stack([np.bincount(fan, weighted[:, k]) for k in range(3)], axis=1)
    length = np.linalg.norm(summed, axis=1, keepdims=True)
    mean = np.where(length > 1e-12, summed / np.maximum(length, 1e-30), 0.0)[fan].reshape(-1, 3, 3)
    # Where they cancel out, take the face's.
    known = (mean != 0).any(axis=2, keepdims=True)
    return np.where(known, mean, flat[:, None]).astype(np.float32)


def _smooth_fans(place: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Number the corners [3 F], the same number where corners share one normal.

    Args:
        place: [F, 3] number of the place each corner is at; flat: [F, 3] unit normals of the faces.
    """
    count = place.size
    first, second = np.arange(count), np.roll(np.arange(count).reshape(-1, 3), -1, axis=1).ravel()
    ends = np.stack([place.ravel()[first], place.ravel()[second]], axis=1)
    swapped = ends[:, 0] > ends[:, 1]
    # Represent each edge of a face as (corner at the lower place, corner at the higher place), sorted.
    low, high = np.where(swapped, second, first), np.where(swapped, first, second)
    ends.sort(axis=1)
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    one, other = order[:-1], order[1:]
    smooth = (ends[one] == ends[other]).all(axis=1)
    smooth &= (flat[one // 3] * flat[other // 3]).sum(axis=1) > CREASE_COSINE
    one, other = one[smooth], other[smooth]
    links = np.concatenate([low[one], high[one]]), np.concatenate([low[other], high[other]])
    graph = coo_matrix((np.ones(len(links[0]), dtype=bool), links), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _merge_places(vertices: np.ndarray) -> np.ndarray:
    """Number vertices [V], the same number at the same place (to a millionth of the extent)."""
    low = vertices.min(axis=0)
    extent = max(float(np.ptp(vertices, axis=0).max()), 1e-12)
    grid = np.round((vertices - low) / extent * 1e6).astype(np.int64)
    key = (grid[:, 0] << 42) | (grid[:, 1] << 21) | grid[:, 2]
    return np.unique(key, return_inverse=True)[1].reshape(-1)


class MipTexture:
    """Holds a texture as a pyramid; lookups read the level whose texel is about as large as a pixel.

    Args:
        mesh: gives sizes alone; uv: [F, 3, 2] float32 of its faces' corners, v up; texture: [h, w, C] uint8.
    """

    def __init__(self, mesh: Mesh, uv: np.ndarray, texture: np.ndarray):
        levels = _pyramid(texture)
        self.texels = np.concatenate([level.reshape(-1, level.shape[2]) for level in levels])
        self.heights = np.array([level.shape[0] for level in levels], dtype=np.int32)
        self.widths = np.array([level.shape[1] for level in levels], dtype=np.int32)
        sizes = self.heights.astype(np.int64) * self.widths
        self.offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self.repeats = bool(uv.min() < -1e-3 or uv.max() > 1.001)
        self.uv = uv
        self.density = self._texels_per_metre(mesh, uv)

    @property
    def finest(self) -> np.ndarray:
        """The texture itself [h, w, C] uint8."""
        h, w = int(self.heights[0]), int(self.widths[0])
        return self.texels[: h * w].reshape(h, w, -1)

    def _texels_per_metre(self, mesh: Mesh, uv: np.ndarray) -> np.ndarray:
        """Compute texels per metre [F] float32 of the finest level."""
        corners = mesh.vertices[mesh.faces]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        a, b = (uv[:, 1] - uv[:, 0]).T, (uv[:, 2] - uv[:, 0]).T
        texels = np.abs(a[0] * b[1] - a[1] * b[0]) * float(self.heights[0]) * float(self.widths[0])
        return np.sqrt(texels / np.maximum(area, 1e-18)).astype(np.float32)

    def lookup(self, face: np.ndarray, weights: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """Look up values [N, C] float32 0..255, bilinear in the nearest level."""
        uv = _blend(self.uv, face, weights)
        coarse = np.maximum(self.density.take(face) * footprint, 1.0)
        level = np.minimum((np.log2(coarse) + 0.5).astype(np.int32), len(self.heights) - 1)
        width, height, offset = (v.take(level) for v in (self.widths, self.heights, self.offsets))
        x0, x1, fx = self._neighbours(uv[:, 0] * width - 0.5, width)
        y0, y1, fy = self._neighbours((1.0 - uv[:, 1]) * height - 0.5, height)
        row0, row1 = offset + y0 * width, offset + y1 * width
        above, below = ((row0 + x0, row0 + x1), (row1 + x0, row1 + x1))
        top, bottom = (_mix(*(self.texels.take(t, axis=0) for t in pair), fx) for pair in (above, below))
        return top + (bottom - top) * fy

    def _neighbours(self, x: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        low = np.floor(x)
        fraction = (x - low).astype(np.float32)[:, None]
        low = low.astype(np.int32)
        if self.repeats:
            return low % size, (low + 1) % size, fraction
        return np.clip(low, 0, size - 1), np.clip(low + 1, 0, size - 1), fraction


def _mix(a: np.ndarray, b: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    a = a.astype(np.float32)
    return a + (b.astype(np.float32) - a) * fraction


def _pyramid(texture: np.ndarray, most: int = 6) -> list[np.ndarray]:
    levels = [texture]
    while len(levels) < most and min(levels[-1].shape[:2]) >= 8:
        h, w = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (w // 2, h // 2), interpolation=cv2.INTER_AREA))
    return levels


def _fill_gutters(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Fill texels that no face uses from their surroundings, so that coarse levels do not darken.

    Push-pull: average down with coverage as weight, then fill holes from the coarser level.
    """
    if uv.min() < -1e-3 or uv.max() > 1.001:
        return texture
    # Mark the texels that faces use.
    h, w = texture.shape[:2]
    used = np.zeros((h, w), dtype=np.uint8)
    corners = np.stack([uv[..., 0] * w - 0.5, (1.0 - uv[..., 1]) * h - 0.5], axis=-1)
    # Use 4 fractional bits; outlines are drawn as well, so that thin faces count.
    for polygon in np.round(corners * 16).astype(np.int32):
        cv2.fillConvexPoly(used, polygon, 1, lineType=cv2.LINE_8, shift=4)
    # Include the texels beside a face: bilinear lookups at its edge read them.
    used = cv2.dilate(used, np.ones((3, 3), dtype=np.uint8))
    if used.all():
        return texture
    # Average down to one texel.
    stack = [(texture.astype(np.float32) * used[..., None], used.astype(np.float32))]
    while min(stack[-1][1].shape) > 1:
        color, weight = stack[-1]
        size = (max(1, weight.shape[1] // 2), max(1, weight.shape[0] // 2))
        stack.append(tuple(cv2.resize(item, size, interpolation=cv2.INTER_AREA) for item in (color, weight)))
    # Fill the holes of each level from the one below.
    filled = None
    for color, weight in reversed(stack):
        known = color / np.maximum(weight, 1e-6)[..., None]
        if filled is not None:
            size = (weight.shape[1], weight.shape[0])
            blank = cv2.resize(filled, size, interpolation=cv2.INTER_LINEAR).reshape(known.shape)
            known = np.where(weight[..., None] > 1e-3, known, blank)
        filled = known
    return np.clip(np.round(filled), 0, 255).astype(np.uint8)
