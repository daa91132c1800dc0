"""Render by casting rays on the CPU: first hits by Embree, shading in numpy; no OpenGL, no window."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from embreex import rtcore, rtcore_scene
from embreex.mesh_construction import TriangleMesh

from vpog_core.geometry import pinhole
from vpog_core.geometry.boxes import box_around, clip_box
from vpog_core.geometry.camera import scale_intrinsics
from vpog_core.geometry.vectors import dot, length
from vpog_core.objects.lighting import Light
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.surface import Surface

DEFAULT_LIGHT = Light()
"""The one light of all templates: networks are trained on it, so it does not change."""


@dataclass
class Render:
    """Holds one rendered image of one object.

    Attributes:
        rgb: [H, W, 3] uint8.
        depth: [H, W] float32, metres along the optical axis, 0 where there is background.
        coords: [H, W, 3] float32, metres, object frame, 0 in the background.
        mask: [H, W] bool.
        normals: [H, W, 3] float32 unit, object frame, towards the camera, 0 in the background.
    """

    rgb: np.ndarray
    depth: np.ndarray
    coords: np.ndarray
    mask: np.ndarray
    normals: np.ndarray


@dataclass
class Hits:
    """Holds the first hits of N rays.

    Attributes:
        pixel: [N] flat index; face: [N]; weights: [N, 3] barycentric; z: [N] diameters.
        rays: [N, 3] object frame, one long along the optical axis.
    """

    pixel: np.ndarray
    face: np.ndarray
    weights: np.ndarray
    z: np.ndarray
    rays: np.ndarray


@lru_cache(maxsize=1)
def _device(process: int) -> rtcore.EmbreeDevice:
    """Return the Embree device of this process.

    Scenes share it: Embree crashes at about a thousand devices. A forked process needs its own, since the
    threads of its parent's are gone.
    """
    return rtcore.EmbreeDevice()


class Renderer:
    """Renders one mesh from any pose; to make one takes some 10 ms, a render a few.

    Inside, the mesh is centred and one diameter large, so that float32 is exact enough for any unit.
    """

    def __init__(self, mesh: Mesh):
        self.mesh = mesh
        self._scale = 1.0 / mesh.diameter
        self._center = mesh.center
        self._hull = mesh.hull_points
        vertices = ((mesh.vertices - self._center) * self._scale).astype(np.float32)
        self._scene = rtcore_scene.EmbreeScene(device=_device(os.getpid()), robust=True)
        TriangleMesh(scene=self._scene, vertices=vertices, indices=np.ascontiguousarray(mesh.faces, np.int32))
        self.surface = Surface(mesh)

    def repainted(self, surface: Surface) -> Renderer:
        """Return a renderer of the same shape with another surface; the rays' scene is shared."""
        new = copy(self)
        new.surface = surface
        return new

    def render(
        self,
        T_cam_obj: np.ndarray,
        K: np.ndarray,
        size: tuple[int, int],
        lights: Light | Sequence[Light] | None = None,
        background: tuple[int, int, int] | np.ndarray = (0, 0, 0),
        supersample: int = 1,
    ) -> Render:
        """Render what a pinhole camera sees of the mesh.

        Args:
            T_cam_obj: [4, 4], object to camera (OpenCV optical).
            K: [3, 3] intrinsics without skew, pixel centres at integer coordinates.
            size: (H, W), pixels.
            lights: one or several; None is the one fixed light of all templates.
            background: a colour, or a uint8 image [H, W, 3].
            supersample: colours are the mean over this many rays squared per pixel, blended with the
                background at the rim; everything else is always at the pixel's centre.
        """
        lights = (DEFAULT_LIGHT,) if lights is None else (lights,) if isinstance(lights, Light) else lights
        T = np.asarray(T_cam_obj, dtype=np.float64)
        K = np.asarray(K, dtype=np.float64)
        # Find what each pixel sees, and its depth, normal and coordinates.
        hits = self.cast(T, K, size)
        out = self._geometry(T, hits, size)
        # Shade it over the background.
        out.rgb = np.empty((*size, 3), dtype=np.uint8)
        out.rgb[...] = background
        if supersample > 1:
            self._shade_fine(out.rgb, T, K, lights, supersample)
        elif len(hits.pixel):
            normals = out.normals.reshape(-1, 3).take(hits.pixel, axis=0)
            out.rgb.reshape(-1, 3)[hits.pixel] = self._shade(T, K, hits, normals, lights)
        return out

    def render_rgb(self, T_cam_obj: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Render the colours [H, W, 3] uint8 alone, on black in the templates' light: as `render` does."""
        rgb = np.zeros((*size, 3), dtype=np.uint8)
        hits = self.cast(T_cam_obj, K, size)
        if len(hits.pixel):
            colors = self._shade(T_cam_obj, K, hits, self._normals(hits), (DEFAULT_LIGHT,))
            rgb.reshape(-1, 3)[hits.pixel] = colors
        return rgb

    def window(self, T: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return (x0, y0, x1, y1): pixels x0 <= x < x1 that the mesh can cover; empty when out of view."""
        points = self._hull @ T[:3, :3].T + T[:3, 3]
        H, W = size
        if points[:, 2].max() <= 0:
            return 0, 0, 0, 0
        if points[:, 2].min() < 1e-6:
            return 0, 0, W, H
        # Pixel x0 lies at or before the leftmost point, pixel x1 - 1 at or behind the rightmost.
        box = box_around(pinhole.to_pixels(points, K)) + np.array([0, 0, 2, 2])
        x0, y0, x1, y1 = clip_box(np.floor(box), W, H).astype(int)
        return int(x0), int(y0), int(x1), int(y1)

    def cast(self, T: np.ndarray, K: np.ndarray, size: tuple[int, int]) -> Hits:
        """Find first hits of the rays through all pixels of a camera K [3, 3] with the mesh at T [4, 4]."""
        # Make the rays of the pixels around the object, in the object frame.
        x0, y0, x1, y1 = self.window(T, K, size)
        R = T[:3, :3].astype(np.float32)
        along_x = ((np.arange(x0, x1) - K[0, 2]) / K[0, 0]).astype(np.float32)[:, None] * R[0]
        along_y = ((np.arange(y0, y1) - K[1, 2]) / K[1, 1]).astype(np.float32)[:, None] * R[1] + R[2]
        rays = (along_y[:, None] + along_x[None]).reshape(-1, 3)
        origin = (-T[:3, 3] @ T[:3, :3] - self._center) * self._scale
        if not len(rays):
            none = np.zeros(0, np.int32)
            return Hits(none, none, np.zeros((0, 3), np.float32), np.zeros(0, np.float32), rays)
        # Cast them, and convert the hits to pixels of the image.
        origins = np.empty_like(rays)
        origins[:] = origin
        found = self._scene.run(origins, rays, output=1)
        hit = np.flatnonzero(found["primID"] >= 0)
        row, column = np.divmod(hit, x1 - x0)
        u, v, face, z = (found[name].take(hit) for name in ("u", "v", "primID", "tfar"))
        weights = np.stack([1.0 - u - v, u, v], axis=1)
        pixel = (row + y0) * size[1] + column + x0
        return Hits(pixel, face, weights, z, rays.take(hit, axis=0))

    def blocked(
        self, T: np.ndarray, points: np.ndarray, towards: np.ndarray, reach: float | None = None
    ) -> np.ndarray:
        """Tell which rays [N] bool meet the mesh at T [4, 4].

        Args:
            points: [N, 3] metres, towards: [N, 3] unit, camera frame; reach: metres, None = any.
        """
        R = T[:3, :3].astype(np.float32)
        origins = (points @ R + (-T[:3, 3] @ T[:3, :3] - self._center).astype(np.float32)) * np.float32(
            self._scale
        )
        dists = None if reach is None else np.full(len(points), reach * self._scale, np.float32)
        rays = np.ascontiguousarray(towards @ R, dtype=np.float32)
        origins = np.ascontiguousarray(origins, dtype=np.float32)
        return self._scene.run(origins, rays, dists=dists, query="OCCLUDED") >= 0

    def colors_at(
        self, points: np.ndarray, normals: np.ndarray, reach: float, footprint: float
    ) -> np.ndarray:
        """Return the colours [N, 3] float32, without light, of the surface near some places.

        Args:
            points: [N, 3] metres, normals: [N, 3] unit: the surface is looked at from there, object frame.
            reach: metres, beyond which there is none: NaN; footprint: side of what counts as a pixel, metres.
        """
        above = ((points + reach * normals - self._center) * self._scale).astype(np.float32)
        found = self._scene.run(above, np.ascontiguousarray(-normals, dtype=np.float32), output=1)
        hit = np.flatnonzero((found["primID"] >= 0) & (found["tfar"] <= 2 * reach * self._scale))
        u, v = found["u"][hit], found["v"][hit]
        out = np.full((len(points), 3), np.nan, dtype=np.float32)
        weights = np.stack([1.0 - u - v, u, v], axis=1)
        out[hit] = self.surface.color(found["primID"][hit], weights, np.full(len(hit), footprint, np.float32))
        return out

    def _geometry(self, T: np.ndarray, hits: Hits, size: tuple[int, int]) -> Render:
        H, W = size
        depth = np.zeros(H * W, dtype=np.float32)
        coords, normals = np.zeros((2, H * W, 3), dtype=np.float32)
        mask = np.zeros(H * W, dtype=bool)
        if len(hits.pixel):
            z = hits.z / np.float32(self._scale)
            camera_obj = (-T[:3, 3] @ T[:3, :3]).astype(np.float32)
            depth[hits.pixel] = z
            coords[hits.pixel] = camera_obj + z[:, None] * hits.rays
            mask[hits.pixel] = True
            normals[hits.pixel] = self._normals(hits)
        shape = (H, W, 3)
        return Render(
            None, depth.reshape(H, W), coords.reshape(shape), mask.reshape(H, W), normals.reshape(shape)
        )

    def _normals(self, hits: Hits) -> np.ndarray:
        """Compute unit normals [N, 3] of hits, object frame, towards the camera."""
        normals = self.surface.normal(hits.face, hits.weights)
        away = dot(normals, hits.rays) > 0
        normals[away] = -normals[away]
        return normals

    def _shade(
        self, T: np.ndarray, K: np.ndarray, hits: Hits, normals: np.ndarray, lights: Sequence[Light]
    ) -> np.ndarray:
        """Shade hits with normals [N, 3] (object frame, towards the camera): colours [N, 3] uint8."""
        # Look up the colours.
        footprint = hits.z * np.float32(1.0 / (self._scale * K[0, 0]))
        color = self.surface.color(hits.face, hits.weights, footprint)
        R = T[:3, :3].astype(np.float32)
        view = None
        light_sum = np.zeros(3, dtype=np.float32)
        highlight = None
        # Sum diffuse light and highlights of all lights.
        for light in lights:
            tint = np.asarray(light.color, dtype=np.float32)
            towards = np.asarray(light.direction, dtype=np.float32) @ R
            towards /= np.linalg.norm(towards)
            facing = np.maximum(normals @ towards, 0.0)
            light_sum = light_sum + (light.ambient + light.diffuse * facing)[:, None] * tint
            if light.specular > 0:
                if view is None:
                    view = -hits.rays / length(hits.rays)
                half = view + towards
                half /= length(half)
                gloss = np.maximum(dot(normals, half), 0.0) ** light.shininess * (facing > 0)
                gloss = (255.0 * light.specular * gloss)[:, None] * tint
                highlight = gloss if highlight is None else highlight + gloss
        # Multiply colours and light.
        shaded = color * light_sum
        if highlight is not None:
            shaded += highlight
        return np.clip(shaded + 0.5, 0, 255).astype(np.uint8)

    def _shade_fine(
        self, rgb: np.ndarray, T: np.ndarray, K: np.ndarray, lights: Sequence[Light], factor: int
    ) -> None:
        """Draw over `rgb` in place, `factor` x `factor` rays for each pixel of the mesh's window."""
        x0, y0, x1, y1 = self.window(T, K, rgb.shape[:2])
        if x1 <= x0 or y1 <= y0:
            return
        local = K.copy()
        local[:2, 2] -= (x0, y0)
        fine = scale_intrinsics(local, factor)
        h, w = (y1 - y0) * factor, (x1 - x0) * factor
        hits = self.cast(T, fine, (h, w))
        canvas = rgb[y0:y1, x0:x1].repeat(factor, axis=0).repeat(factor, axis=1)
        if len(hits.pixel):
            canvas.reshape(-1, 3)[hits.pixel] = self._shade(T, fine, hits, self._normals(hits), lights)
        rgb[y0:y1, x0:x1] = cv2.resize(canvas, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
