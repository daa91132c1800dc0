"""Model light and materials: directional lamps, environment maps, and how surfaces reflect both.

Colours multiply in display space, as the images they are compared with are stored; environment maps are
linear and are brought there by a gamma of 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from vpog_core.geometry.vectors import dot, length, unit

GAMMA = 2.2
MAX_RADIANCE = 40.0
"""Largest radiance, relative to the map's mean: the sun would make the nine coefficients ring."""

# Real spherical harmonics up to order 2, and the cosine lobe's factor of each (Ramamoorthi and Hanrahan,
# "An Efficient Representation for Irradiance Environment Maps", SIGGRAPH 2001, eq. 3 and 8).
_SH = np.array([0.282095, *[0.488603] * 3, *[1.092548] * 3, 0.315392, 0.546274], dtype=np.float32)
_LOBE = np.array([np.pi, *[2 * np.pi / 3] * 3, *[np.pi / 4] * 5], dtype=np.float32)


@dataclass(frozen=True)
class Light:
    """Holds a directional light, with its ambient light. Colours multiply in display space.

    Attributes:
        ambient: fraction of the surface colour that shows without direct light; adds up over lights.
        direction: camera frame, towards the light; any length.
        diffuse: strength of the direct light (Lambert).
        color: [3] RGB of this light, 1 = white; colours its ambient part, too.
        specular: strength of the highlight (Blinn-Phong), in the light's colour.
        shininess: exponent of the highlight; the higher, the smaller it is.
    """

    ambient: float = 0.45
    direction: tuple[float, float, float] = (0.3, -0.5, -1.0)
    diffuse: float = 0.6
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    specular: float = 0.0
    shininess: float = 20.0


@dataclass(frozen=True)
class Material:
    """Sets how a surface reflects light, beside its colour.

    Attributes:
        specular: strength of the lamps' highlights; shininess: their Blinn-Phong exponent.
        gloss: fraction of the mirrored environment seen at grazing angles (Schlick), 0 = dull.
        metal: fraction of the colour that is mirror instead of paint, 0..1.
    """

    specular: float = 0.0
    shininess: float = 20.0
    gloss: float = 0.0
    metal: float = 0.0


class Environment:
    """Lights from all around by an equirectangular map: x right, y up, z ahead at the map's middle.

    Args:
        radiance: [H, W, 3] RGB, linear, any scale: the mean irradiance is made 1.
    """

    SPECULAR_SIZE = (64, 32)

    def __init__(self, radiance: np.ndarray) -> None:
        small = cv2.resize(np.asarray(radiance, np.float32), self.SPECULAR_SIZE, interpolation=cv2.INTER_AREA)
        small = np.minimum(np.nan_to_num(small), MAX_RADIANCE * max(float(small.mean()), 1e-9))
        directions, area = _map_directions(*self.SPECULAR_SIZE)
        basis = _sh_basis(directions.reshape(-1, 3))
        coefficients = np.einsum("nk,nc->kc", basis * area.reshape(-1, 1), small.reshape(-1, 3))
        mean = max(float(np.pi * coefficients[0].mean() * _SH[0]), 1e-9)
        self._irradiance = (coefficients * _LOBE[:, None] / mean).astype(np.float32)
        # Mean irradiance 1 is mean radiance 1 / pi: a white mirror then shows, on average, a white wall.
        mirrored = cv2.GaussianBlur(np.tile(small * (np.pi / mean), (1, 3, 1)), (0, 0), 1.2)
        self._mirror = np.maximum(mirrored[:, small.shape[1] : 2 * small.shape[1]], 0) ** (1 / GAMMA)

    def diffuse(self, directions: np.ndarray) -> np.ndarray:
        """Compute display-space light [N, 3] on surfaces with unit normals [N, 3] (map frame)."""
        return np.maximum(_sh_basis(directions) @ self._irradiance, 0.02) ** np.float32(1 / GAMMA)

    def mirrored(self, directions: np.ndarray) -> np.ndarray:
        """Compute display-space light [N, 3] from unit directions [N, 3] (map frame), slightly blurred."""
        width, height = self.SPECULAR_SIZE
        x, y, z = directions.T
        column = ((np.arctan2(x, z) / (2 * np.pi) + 0.5) * width).astype(np.int32) % width
        row = np.minimum((np.arccos(np.clip(y, -1, 1)) / np.pi * height).astype(np.int32), height - 1)
        return self._mirror[row, column]


def _map_directions(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return unit directions [H, W, 3] of a map's pixels and the solid angle [H, W] of each."""
    polar = (np.arange(height) + 0.5) * np.pi / height
    azimuth = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    s, c = np.sin(polar)[:, None], np.cos(polar)[:, None]
    directions = np.stack([s * np.sin(azimuth), c + 0 * azimuth, s * np.cos(azimuth)], axis=-1)
    area = np.broadcast_to(s * (np.pi / height) * (2 * np.pi / width), (height, width))
    return directions.astype(np.float32), area.astype(np.float32)


def _sh_basis(n: np.ndarray) -> np.ndarray:
    """Compute real spherical harmonics [N, 9] of unit vectors [N, 3]."""
    x, y, z = np.asarray(n, np.float32).T
    terms = (np.ones_like(x), y, z, x, x * y, y * z, x * z, 3 * z * z - 1, x * x - y * y)
    return np.stack(terms, axis=1) * _SH


@dataclass
class Illumination:
    """Holds all light of a scene.

    Attributes:
        lights: lamps; the first is the key light, the only one that casts shadows.
        environment: light from all around in place of an even ambient, or None.
        R_env_cam: [3, 3] camera frame to the environment map's.
        shadow: whether the key light casts shadows; softness: radians its direction is spread by.
        occlusion: 0..1, how much ambient light is lost in corners; 0 = none of it is computed.
    """

    lights: Sequence[Light]
    environment: Environment | None = None
    R_env_cam: np.ndarray = field(default_factory=lambda: np.eye(3))
    shadow: bool = False
    softness: float = 0.05
    occlusion: float = 0.0

    def ambient(self, normals: np.ndarray) -> np.ndarray:
        """Compute ambient light [N, 3] on unit normals [N, 3] (camera frame)."""
        even = sum(
            (np.asarray(li.color, np.float32) * np.float32(li.ambient) for li in self.lights),
            np.zeros(3, np.float32),
        )
        if self.environment is None:
            return np.broadcast_to(even, normals.shape)
        return self.environment.diffuse(normals @ self.R_env_cam.T.astype(np.float32)) * even

    def diffuse(self, normals: np.ndarray, key: np.ndarray | float = 1.0) -> np.ndarray:
        """Compute the lamps' light [N, 3] on unit normals [N, 3]; `key` [N]: fraction of key light there."""
        total = np.zeros(normals.shape, np.float32)
        for number, light in enumerate(self.lights):
            facing = np.maximum(normals @ unit(light.direction), 0.0) * np.float32(light.diffuse)
            facing = facing * key if number == 0 else facing
            total += facing[:, None] * np.asarray(light.color, np.float32)
        return total


def shade(
    albedo: np.ndarray,
    normals: np.ndarray,
    view: np.ndarray,
    illumination: Illumination,
    material: Material,
    key: np.ndarray | float = 1.0,
    open_sky: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Compute colours [N, 3] float32, 0..255 and above, of surface points.

    Args:
        albedo: [N, 3] 0..255; normals, view: [N, 3] unit, camera frame, view towards the camera.
        key: [N] fraction of the key light that arrives; open_sky: [N] fraction of the ambient light.
    """
    ambient = illumination.ambient(normals) * np.reshape(open_sky, (-1, 1))
    color = albedo * (ambient + illumination.diffuse(normals, key))
    if illumination.environment is not None and (material.gloss > 0 or material.metal > 0):
        color = _mirror(color, albedo, normals, view, illumination, material, open_sky)
    if material.specular > 0:
        for number, light in enumerate(illumination.lights):
            towards = unit(light.direction)
            half = view + towards
            half /= length(half)
            gloss = np.maximum(dot(normals, half), 0.0) ** np.float32(material.shininess)
            gloss = gloss * (normals @ towards > 0) * np.float32(255.0 * material.specular)
            gloss = gloss * key if number == 0 else gloss
            color += gloss[:, None] * np.asarray(light.color, np.float32)
    return color


def _mirror(color, albedo, normals, view, illumination, material, open_sky) -> np.ndarray:
    """Compute the mirrored environment: in the surface's colour if metal, at grazing angles if glossy."""
    cosine = np.maximum(dot(normals, view), 0.0)[:, None]
    reflected = 2 * cosine * normals - view
    seen = illumination.environment.mirrored(reflected @ illumination.R_env_cam.T.astype(np.float32))
    seen = seen * np.reshape(open_sky, (-1, 1))
    fresnel = np.float32(material.gloss) * (0.04 + 0.96 * (1 - cosine) ** 5)
    painted = color * (1 - np.float32(material.metal)) + albedo * seen * np.float32(material.metal)
    return painted + fresnel * (255.0 * seen)
