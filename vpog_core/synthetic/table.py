"""Draw a table top in perspective, with the soft shadows of the objects on it."""

from __future__ import annotations

import cv2
import numpy as np

from vpog_core.geometry import pinhole

Rng = np.random.Generator
TEXELS = 1024


class TableTop:
    """Draws the world's plane z = 0, textured, fading into a dim room behind its edge.

    Args:
        rng: chooses material and colours.
        half: half its side, metres.
    """

    def __init__(self, rng: Rng, half: float):
        self.half = half
        self.texture = rng.choice([wood_planks, cloth, stone])(rng)
        wall = rng.uniform(95, 165) * (1 + rng.uniform(-0.06, 0.06, 3))
        self.wall = np.clip(wall, 0, 255)

    def draw(
        self,
        K: np.ndarray,
        T_cam_world: np.ndarray,
        size: tuple[int, int],
        hulls: list[np.ndarray],
        towards_light: np.ndarray,
    ) -> np.ndarray:
        """Draw the [H, W, 3] uint8 background with shadows.

        Args:
            K: [3, 3]; T_cam_world: [4, 4].
            size: (H, W).
            hulls: for each object its hull's points [N, 3], world frame, metres.
            towards_light: [3], world frame.
        """
        H, W = size
        lit = self._with_shadows(hulls, towards_light)
        scale = 2 * self.half / TEXELS
        # Texel (x, y) lies at the world point ((x + 0.5) scale - half, half - (y + 0.5) scale, 0).
        world = np.array(
            [[scale, 0, scale / 2 - self.half], [0, -scale, self.half - scale / 2], [0, 0, 1]],
            dtype=np.float64,
        )
        plane = K @ np.column_stack([T_cam_world[:3, 0], T_cam_world[:3, 1], T_cam_world[:3, 3]])
        ramp = (np.linspace(1.08, 0.92, H)[:, None, None] * self.wall).clip(0, 255).astype(np.uint8)
        room = np.repeat(ramp, W, axis=1)
        top = cv2.warpPerspective(
            lit, plane @ world, (W, H), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        coverage = self._outline(K, T_cam_world, size)
        image = cv2.copyTo(top, coverage, room)
        rim = (coverage > 0) & (coverage < 255)
        part = coverage[rim, None] / 255.0
        image[rim] = np.round(top[rim] * part + room[rim] * (1 - part))
        return image

    def _outline(self, K: np.ndarray, T_cam_world: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Compute [H, W] uint8: how much of each pixel the table covers, with a smooth rim."""
        h = self.half
        corners = np.array([[-h, -h, 0], [h, -h, 0], [h, h, 0], [-h, h, 0.0]])
        corners = corners @ T_cam_world[:3, :3].T + T_cam_world[:3, 3]
        near = 0.02 * h
        kept = []
        for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if a[2] > near:
                kept.append(a)
            if (a[2] > near) != (b[2] > near):
                kept.append(a + (b - a) * (near - a[2]) / (b[2] - a[2]))
        coverage = np.zeros(size, dtype=np.uint8)
        if kept:
            pixels = np.round(pinhole.to_pixels(np.array(kept), K) * 16).astype(np.int32)
            cv2.fillConvexPoly(coverage, pixels, 255, cv2.LINE_AA, shift=4)
        return coverage

    def _with_shadows(self, hulls: list[np.ndarray], towards_light: np.ndarray) -> np.ndarray:
        """Darken the texture by a shadow cast along the light and a tighter contact shadow straight below."""
        small = TEXELS // 4
        light = np.asarray(towards_light, dtype=np.float64)
        slope = light[:2] / max(light[2], 0.35 * float(np.linalg.norm(light)))
        shade = np.ones((small, small), dtype=np.float32)
        for drift, strength, soft in ((slope, 0.38, 2.5), (0.15 * slope, 0.30, 5.0)):
            dark = np.zeros((small, small), dtype=np.uint8)
            for points in hulls:
                flat = points[:, :2] - points[:, 2:] * drift
                texel = (
                    np.column_stack([flat[:, 0] + self.half, self.half - flat[:, 1]])
                    / (2 * self.half)
                    * small
                )
                outline = cv2.convexHull(np.round(texel * 16).astype(np.int32))
                cv2.fillConvexPoly(dark, outline, 255, cv2.LINE_AA, shift=4)
            shade *= 1 - strength / 255 * cv2.GaussianBlur(dark, (0, 0), soft).astype(np.float32)
        shade = cv2.resize((shade * 255).astype(np.uint8), (TEXELS, TEXELS), interpolation=cv2.INTER_LINEAR)
        return cv2.multiply(self.texture, cv2.merge([shade] * 3), scale=1 / 255)


def _grain(rng: Rng, wide: float, high: float) -> np.ndarray:
    """Draw [TEXELS, TEXELS] float32 smooth noise about -1..1 with blots of wide x high texels."""
    small = rng.standard_normal((max(2, int(TEXELS / high)), max(2, int(TEXELS / wide)))).astype(np.float32)
    return cv2.resize(small, (TEXELS, TEXELS), interpolation=cv2.INTER_CUBIC) * 0.6


def _image(color: np.ndarray, shade: np.ndarray) -> np.ndarray:
    return np.clip(color * shade[..., None], 0, 255).astype(np.uint8)


def wood_planks(rng: Rng) -> np.ndarray:
    """Draw a texture of wooden planks, [TEXELS, TEXELS, 3] uint8."""
    color = rng.uniform(130, 200) * np.array([1.0, rng.uniform(0.74, 0.82), rng.uniform(0.5, 0.66)])
    fibre = _grain(rng, 220, 2) * 0.05 + _grain(rng, 400, 9) * 0.07 + _grain(rng, 300, 60) * 0.05
    plank = TEXELS // int(rng.integers(6, 12))
    row = np.arange(TEXELS) // plank
    tone = rng.uniform(0.9, 1.08, row.max() + 1)[row]
    gap = np.where(np.arange(TEXELS) % plank < 2, 0.6, 1.0)
    shifted = fibre.copy()
    for index in range(row.max() + 1):
        shifted[row == index] = np.roll(fibre[row == index], int(rng.integers(TEXELS)), axis=1)
    return _image(color, (1 + shifted) * (tone * gap)[:, None])


def cloth(rng: Rng) -> np.ndarray:
    """Draw a texture of cloth, [TEXELS, TEXELS, 3] uint8."""
    ground = rng.uniform(150, 225) * (1 + rng.uniform(-0.12, 0.12, 3))
    weave = 0.015 * np.sin(np.arange(TEXELS) * 1.3)[:, None] + 0.015 * np.sin(np.arange(TEXELS) * 1.3)[None]
    image = np.tile(ground, (TEXELS, TEXELS, 1)).astype(np.float32)
    if rng.random() < 0.7:
        stripe = ground * rng.uniform(0.55, 0.8, 3)
        period = int(rng.integers(60, 140))
        on = (np.arange(TEXELS) % period) < period * rng.uniform(0.2, 0.5)
        fraction = 0.5 * (on[:, None] * 1.0 + on[None] * 1.0)
        image = image + (stripe - image) * fraction[..., None].astype(np.float32)
    shade = 1 + weave + 0.03 * _grain(rng, 100, 100) + 0.03 * _grain(rng, 2, 2)
    return np.clip(image * shade[..., None], 0, 255).astype(np.uint8)


def stone(rng: Rng) -> np.ndarray:
    """Draw a texture of stone, [TEXELS, TEXELS, 3] uint8."""
    color = rng.uniform(110, 215) * (1 + rng.uniform(-0.05, 0.05, 3))
    shade = 1 + sum(_grain(rng, size, size) * 0.045 for size in (2, 6, 20, 90, 260))
    return _image(color, shade)
