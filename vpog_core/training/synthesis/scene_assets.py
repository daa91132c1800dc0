"""Provide the surroundings of a training query: photographs, random surfaces, other objects, light."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from vpog_core.io.image_file import read_radiance
from vpog_core.objects.lighting import Environment
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.synthetic.hands import make_hand
from vpog_core.training.synthesis.query_composer import Sprite
from vpog_core.types import VPOGError

HANDS = 24
SPRITE_SIZE = 112
"""Side of a flat image of clutter, pixels."""


class SceneAssets:
    """Provides backgrounds, clutter and light.

    Args:
        photos: [h, w, 3] uint8 images.
        objects: with a `renderer` each: clutter and occluders.
        environments: light from all around.
    """

    def __init__(
        self, photos: Sequence[np.ndarray], objects: Sequence, environments: Sequence[Environment] = ()
    ) -> None:
        self.photos, self.objects, self.environments = photos, objects, environments

    def background(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draw [size, size, 3] uint8: part of a photograph, or a plain or cloudy surface."""
        if len(self.photos) and rng.random() < 0.75:
            photo = self.photos[rng.integers(len(self.photos))]
            side = int(min(photo.shape[:2]) * rng.uniform(0.3, 1.0))
            y, x = (rng.integers(0, n - side + 1) for n in photo.shape[:2])
            return cv2.resize(photo[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
        return random_surface(rng, size)

    def sprite(self, rng: np.random.Generator) -> Sprite:
        """Render a flat image of a random object from a random direction."""
        renderer = self.renderer(rng)
        K, T = template_camera(renderer.mesh, rng.normal(size=3), SPRITE_SIZE)
        render = renderer.render(T, K, (SPRITE_SIZE, SPRITE_SIZE))
        return Sprite(render.rgb, render.mask.astype(np.uint8) * 255)

    def renderer(self, rng: np.random.Generator) -> Renderer:
        """Draw the renderer of an object."""
        return self.objects[rng.integers(len(self.objects))].renderer

    def hand(self, rng: np.random.Generator) -> Renderer:
        """Draw the renderer of a hand with its forearm, one of `HANDS`."""
        return _hand(int(rng.integers(HANDS)))

    def environment(self, rng: np.random.Generator) -> Environment | None:
        """Draw an environment map; None where none are known."""
        return self.environments[rng.integers(len(self.environments))] if len(self.environments) else None


@lru_cache(maxsize=HANDS)
def _hand(seed: int) -> Renderer:
    return Renderer(make_hand(seed))


def random_surface(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw [size, size, 3] uint8: a plain or cloudy colour, some in tiles of two, some with a grain."""
    color = rng.uniform(0, 255) + rng.uniform(-1, 1, 3) * rng.uniform(0, 90)
    cells = int(rng.integers(2, 24))
    noise = rng.normal(0, rng.uniform(0, 40), (cells, cells, 1)) + rng.normal(0, 8, (cells, cells, 3))
    surface = cv2.resize(noise.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.25:
        edge = int(size / rng.uniform(2, 12))
        step = np.arange(size) // max(edge, 2) % 2
        tiles = step[:, None] ^ step if rng.random() < 0.6 else np.broadcast_to(step, (size, size))
        surface += (
            tiles[..., None] * np.float32(rng.normal(0, 80)) * (1 + rng.normal(0, 0.2, 3)).astype(np.float32)
        )
    if rng.random() < 0.5:
        grain = rng.standard_normal((size, size, 1), dtype=np.float32)
        fineness = rng.uniform(0.4, 1.5)
        surface += (cv2.GaussianBlur(grain, (0, 0), fineness) * (fineness * rng.uniform(5, 60)))[..., None]
    return (color + surface).clip(0, 255).astype(np.uint8)


def read_environments(folder: str) -> list[Environment]:
    """Read the environment maps (.hdr, .exr) of a folder, by name; none for an empty name.

    Raises:
        VPOGError: no such folder, or a map that cannot be read.
    """
    if not folder:
        return []
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise VPOGError(f"There is no folder '{folder}': set data.hdri to one that is there.")
    found = []
    for file in sorted(p for p in path.iterdir() if p.suffix.lower() in (".hdr", ".exr")):
        found.append(Environment(read_radiance(file)))
    return found
