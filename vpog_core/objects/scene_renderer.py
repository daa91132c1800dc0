"""Render several posed meshes and the ground in one image, with shadows between them.

First hits of all meshes decide what is in front; only visible surfaces are shaded. Shadows of the key light
and ambient occlusion are traced on a coarser grid and smoothed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from vpog_core.geometry.pinhole import image_rays
from vpog_core.geometry.vectors import dot, length, unit
from vpog_core.objects.lighting import Illumination, Material, shade
from vpog_core.objects.renderer import Hits, Renderer

SHADOW_GRID = 75
"""Side, in cells of two pixels or more, of the coarse grid on which shadows and occlusion are traced."""
SHADOW_RAYS, OCCLUSION_RAYS = 2, 4
OCCLUSION_REACH = 0.3
"""Distance up to which surfaces block ambient light, in diameters of the first object."""
NO_OBJECT = -1
_UNITS = 1 << 16
MATTE = Material()
Fraction = np.ndarray | float
"""Fraction of light that arrives at each pixel [H, W]; 1.0 where it is not traced."""


@dataclass
class SceneObject:
    """Holds a mesh in a scene; `scale` enlarges it about its frame's origin before `T_cam_obj` is applied."""

    renderer: Renderer
    T_cam_obj: np.ndarray
    scale: float = 1.0
    material: Material = MATTE

    @property
    def T_unscaled(self) -> np.ndarray:
        """The pose [4, 4] at which the unscaled mesh looks the same; depths are `scale` times smaller."""
        T = self.T_cam_obj.copy()
        T[:3, 3] /= self.scale
        return T

    def blocked(self, points: np.ndarray, towards: np.ndarray, reach: float | None) -> np.ndarray:
        """Tell which rays [N] from points [N, 3] (camera frame, metres) along directions [N, 3] hit it."""
        reach = None if reach is None else reach / self.scale
        return self.renderer.blocked(self.T_unscaled, points / np.float32(self.scale), towards, reach)


@dataclass(frozen=True)
class Ground:
    """Defines the plane normal @ p = offset of points p (camera frame, metres); the camera is above it."""

    normal: np.ndarray
    offset: float

    def depth(self, rays: np.ndarray) -> np.ndarray:
        """Compute the depth [...] float32 where rays [..., 3] (z = 1) meet it; infinite where they do not."""
        along = rays @ self.normal.astype(np.float32)
        meets = along < -1e-6
        return np.where(meets, np.float32(self.offset) / np.where(meets, along, -1), np.inf).astype(
            np.float32
        )


@dataclass
class RenderedScene:
    """Holds what the camera sees.

    Attributes:
        rgb: [H, W, 3] float32, 0..255 and above.
        depth: [H, W] float32 metres along the optical axis, 0 where no object is.
        instance_map: [H, W] int8, number of the object in front, or NO_OBJECT.
    """

    rgb: np.ndarray
    depth: np.ndarray
    instance_map: np.ndarray


@dataclass
class _Seen:
    """Holds the visible part of an object: pixels [N], colours, normals, view [N, 3] (camera frame)."""

    pixel: np.ndarray
    albedo: np.ndarray
    normals: np.ndarray
    view: np.ndarray


def render_scene(
    rng: np.random.Generator,
    objects: Sequence[SceneObject],
    K: np.ndarray,
    size: tuple[int, int],
    background: np.ndarray,
    illumination: Illumination,
    ground: Ground | None = None,
) -> RenderedScene:
    """Render objects under a light.

    Args:
        rng: spreads the rays of soft shadows.
        K: [3, 3] of a pinhole camera; size: (H, W).
        background: [H, W, 3] uint8, the ground included; shadows of the objects fall on it.
    """
    # Find what is in front at each pixel, and its colours and normals.
    rays = image_rays(K, size).astype(np.float32)
    depth, instance_map, hits = _front(objects, K, size)
    seen = [_seen(obj, found, rays) for obj, found in zip(objects, hits, strict=True)]
    # Collect the visible points of objects and ground, with normals.
    normals = np.zeros((rays.shape[0] * rays.shape[1], 3), np.float32)
    surface = np.where(instance_map >= 0, depth, 0)
    if ground is not None:
        below = ground.depth(rays).ravel()
        free = (instance_map < 0) & np.isfinite(below)
        surface[free], normals[free] = below[free], ground.normal
    for part in seen:
        normals[part.pixel] = part.normals
    points = rays * surface.reshape(*size, 1)
    # Trace how much light arrives there.
    key, open_sky = _visibility(rng, objects, points, normals.reshape(*size, 3), illumination)
    # Draw the shadows onto the background, and the objects over it.
    rgb = background.astype(np.float32).reshape(-1, 3)
    if ground is not None:
        rgb = _darkened(rgb, free, ground.normal, illumination, key, open_sky)
    for obj, part in zip(objects, seen, strict=True):
        rgb[part.pixel] = shade(
            part.albedo, part.normals, part.view, illumination, obj.material,
            _at(key, part.pixel), _at(open_sky, part.pixel),
        )  # fmt: skip
    depth = np.where(instance_map >= 0, depth, 0).astype(np.float32)
    return RenderedScene(rgb.reshape(*size, 3), depth.reshape(size), instance_map.reshape(size))


def render_instance_map(objects: Sequence[SceneObject], K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Find which object is in front of each pixel, [H, W] int8, or NO_OBJECT; nothing is shaded."""
    return _front(objects, K, size)[1].reshape(size)


def _front(
    objects: Sequence[SceneObject], K: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, list[Hits]]:
    """Return depth [H*W] (infinite where nothing is), instance map [H*W], and each object's hits in front."""
    depth = np.full(size[0] * size[1], np.inf, np.float32)
    instance_map = np.full(depth.shape, NO_OBJECT, np.int8)
    found = []
    for number, obj in enumerate(objects):
        hits = obj.renderer.cast(obj.T_unscaled, K, size)
        z = hits.z * np.float32(obj.scale * obj.renderer.mesh.diameter)
        wins = z < depth[hits.pixel]
        depth[hits.pixel[wins]] = z[wins]
        instance_map[hits.pixel[wins]] = number
        found.append(hits)
    return depth, instance_map, [_select_hits(h, instance_map[h.pixel] == n) for n, h in enumerate(found)]


def _select_hits(hits: Hits, keep: np.ndarray) -> Hits:
    if keep.all():
        return hits
    return Hits(*(getattr(hits, name)[keep] for name in ("pixel", "face", "weights", "z", "rays")))


def _seen(obj: SceneObject, hits: Hits, rays: np.ndarray) -> _Seen:
    R = obj.T_cam_obj[:3, :3].astype(np.float32)
    renderer = obj.renderer
    focal = 1.0 / (rays[0, 1, 0] - rays[0, 0, 0])
    footprint = hits.z * np.float32(renderer.mesh.diameter / focal)
    albedo = renderer.surface.color(hits.face, hits.weights, footprint)
    normals = renderer.surface.normal(hits.face, hits.weights) @ R.T
    towards = rays.reshape(-1, 3)[hits.pixel]
    away = dot(normals, towards) > 0
    normals[away] = -normals[away]
    view = -towards / length(towards)
    return _Seen(hits.pixel, albedo, normals, view)


def _visibility(
    rng: np.random.Generator,
    objects: Sequence[SceneObject],
    points: np.ndarray,
    normals: np.ndarray,
    illumination: Illumination,
) -> tuple[Fraction, Fraction]:
    """Compute the fractions of key light and ambient light that arrive at points [H, W, 3]."""
    if not illumination.shadow and illumination.occlusion <= 0:
        return 1.0, 1.0
    # Choose the points of a coarse grid that have a surface, and lift them a little off it.
    size = points.shape[:2]
    step = max(2, round(max(size) / SHADOW_GRID))
    shape = points[::step, ::step].shape[:2]
    p, n = (np.ascontiguousarray(v[::step, ::step]).reshape(-1, 3) for v in (points, normals))
    there = np.flatnonzero((n != 0).any(axis=1))
    first = objects[0]
    diameter = first.scale * first.renderer.mesh.diameter
    p, n = p[there] + n[there] * np.float32(2e-3 * diameter), n[there]
    key, open_sky = 1.0, 1.0
    # Trace rays to the key light from those that face it.
    if illumination.shadow:
        towards = np.repeat(unit(illumination.lights[0].direction)[None], len(p), axis=0)
        lit = np.ones(len(p), np.float32)
        facing = np.flatnonzero(n @ towards[0] > 0) if len(n) else there
        lit[facing] = _unblocked(
            rng, objects, p[facing], towards[facing], illumination.softness, SHADOW_RAYS, None
        )
        key = _smooth(lit, there, shape, size)
    # Trace rays into the hemisphere.
    if illumination.occlusion > 0:
        free = _unblocked(rng, objects, p, n, 1.0, OCCLUSION_RAYS, OCCLUSION_REACH * diameter)
        open_sky = 1 - np.float32(illumination.occlusion) * (1 - _smooth(free, there, shape, size))
    return key, open_sky


def _unblocked(
    rng: np.random.Generator,
    objects: Sequence[SceneObject],
    points: np.ndarray,
    towards: np.ndarray,
    softness: float,
    rays: int,
    reach: float | None,
) -> np.ndarray:
    """Compute the fraction [N] of `rays` rays around unit directions [N, 3] that get away.

    A direction plus `softness` times a unit vector: at softness 1 that is the cosine-weighted hemisphere.
    """
    free = np.zeros(len(points), np.float32)
    for _ in range(rays):
        first = rng.integers(_UNITS - len(points)) if len(points) < _UNITS else 0
        spread = np.resize(_units()[first : first + len(points)], (len(points), 3))
        ray = towards + np.float32(softness) * spread
        ray /= length(ray)
        left = np.arange(len(points))
        for obj in objects:
            left = left[~obj.blocked(points[left], ray[left], reach)] if len(left) else left
        free[left] += 1
    return free / rays


@lru_cache(maxsize=1)
def _units() -> np.ndarray:
    """Return random unit vectors [_UNITS, 3], made once: to draw new ones costs as much as to trace them."""
    v = np.random.default_rng(0).standard_normal((_UNITS, 3), dtype=np.float32)
    return v / length(v)


def _smooth(
    values: np.ndarray, there: np.ndarray, shape: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Interpolate fractions [N] at coarse pixels `there` to an image [H, W]; 1 where nothing is known."""
    coarse = np.zeros((2, shape[0] * shape[1]), np.float32)
    coarse[0, there], coarse[1, there] = values, 1.0
    total, weight = (cv2.blur(c.reshape(shape), (3, 3)) for c in coarse)
    smooth = np.where(weight > 0, total / np.maximum(weight, 1e-6), 1.0)
    return cv2.resize(smooth, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def _darkened(
    rgb: np.ndarray,
    free: np.ndarray,
    normal: np.ndarray,
    illumination: Illumination,
    key: Fraction,
    open_sky: Fraction,
) -> np.ndarray:
    """Return colours [H*W, 3] with the ground's pixels `free` [H*W], which are fully lit, in shadow."""
    n = np.asarray(normal, np.float32)[None]
    ambient, direct = illumination.ambient(n), illumination.diffuse(n)
    key_part = direct - illumination.diffuse(n, np.zeros(1, np.float32))
    left = np.ones_like(rgb)
    for fraction, part in ((open_sky, ambient), (key, key_part)):
        if not np.isscalar(fraction):
            lost = np.where(free, 1 - fraction.reshape(-1), 0)[:, None]
            left -= lost * (part / np.maximum(ambient + direct, 1e-6))
    return rgb * left


def _at(fraction: Fraction, pixels: np.ndarray) -> Fraction:
    """Look up an image's values [N] at flat pixels; a plain number is returned as it is."""
    return fraction if np.isscalar(fraction) else fraction.reshape(-1)[pixels]
