"""Cover the object of a training query so that a wanted fraction of it stays visible.

A cover (another object, a hand, a flat cut-out) is judged as a silhouette in a coarse image, and slid
over the object from one side until it hides as much as it should.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vpog_core.geometry.se3 import random_rotation, rotation_z, transform
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.scene_renderer import SceneObject, render_instance_map

MIN_VISIBLE = 0.3
"""Objects that leave a smaller fraction of the target visible are removed."""
HAND_SCALE = 1.7
"""Size of hand and forearm together over the object's."""
SLIDE_STEPS = 32
"""Number of positions that are tried when a cover is slid over the object."""


@dataclass(frozen=True)
class CoverParams:
    """Declares how often objects are covered on purpose, by what and how much.

    Attributes:
        covered: fraction of queries; visible: range of the fraction that is then left visible, even.
        kinds: relative frequencies of another object, a hand, a flat cut-out.
    """

    covered: float = 0.65
    visible: tuple[float, float] = (0.3, 0.9)
    kinds: tuple[float, float, float] = (0.4, 0.3, 0.3)


@dataclass
class CutOut:
    """Holds a flat image in front of everything.

    Attributes:
        sprite: a `Sprite`; to_plane: [3, 3] from its pixels to the plane z = 1 of the camera.
    """

    sprite: object
    to_plane: np.ndarray

    def turned(self, R: np.ndarray) -> CutOut:
        """Return the same in the frame of a camera turned by R_virt_cam [3, 3]."""
        return replace(self, to_plane=R @ self.to_plane)

    def placed(self, K: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rgb [size, size, 3] and alpha [size, size, 1] in 0..1 as a camera K [3, 3] sees it."""
        return self.sprite.placed(K @ self.to_plane, size)


def cover(
    rng: np.random.Generator,
    target: SceneObject,
    visible: np.ndarray,
    whole: int,
    K: np.ndarray,
    assets,
    params: CoverParams,
) -> SceneObject | CutOut | None:
    """Draw a cover for an object; None: it is left as it is.

    Args:
        visible: [h, w] bool, where the object is seen so far, in a coarse image of a camera K [3, 3].
        whole: pixels of it that are seen where nothing hides any.
        assets: gives `renderer(rng)`, `hand(rng)` and `sprite(rng)`.
    """
    if rng.random() >= params.covered or not visible.any():
        return None
    wanted = rng.uniform(*params.visible) * whole
    kind = rng.choice(3, p=np.array(params.kinds) / np.sum(params.kinds))
    if kind == 2:
        return _cut_out(rng, visible, K, assets.sprite(rng), wanted)
    renderer, size = (assets.renderer(rng), 1.0) if kind == 0 else (assets.hand(rng), HAND_SCALE)
    return _solid(rng, target, visible, K, renderer, size, wanted)


def _solid(
    rng: np.random.Generator,
    target: SceneObject,
    visible: np.ndarray,
    K: np.ndarray,
    renderer: Renderer,
    relative: float,
    wanted: float,
) -> SceneObject:
    """Place an object between camera and target, 0.6 to 1.6 times as large as it, times `relative`."""
    size = target.scale * target.renderer.mesh.diameter
    middle = target.T_cam_obj[:3, :3] @ (target.scale * target.renderer.mesh.center) + target.T_cam_obj[:3, 3]
    nearer = 1 - min(rng.uniform(0.5, 1.2) * size / middle[2], 0.6)
    relative *= np.exp(rng.uniform(np.log(0.6), np.log(1.6)))
    scale = nearer * relative * size / renderer.mesh.diameter
    R, depth = random_rotation(rng), nearer * middle[2]

    def at(pixel: np.ndarray) -> SceneObject:
        place = np.array([*(pixel - K[:2, 2]) / K[0, 0], 1.0]) * depth
        return SceneObject(renderer, transform(R, place - R @ (scale * renderer.mesh.center)), scale)

    rows, columns = np.nonzero(visible)
    centre = np.array([columns.mean(), rows.mean()])
    shape = render_instance_map([at(centre)], K, visible.shape) == 0
    return at(centre + _slide(rng, visible, shape, wanted))


def _cut_out(rng: np.random.Generator, visible: np.ndarray, K: np.ndarray, sprite, wanted: float) -> CutOut:
    """Place a flat image of something, at any turn."""
    rows, columns = np.nonzero(visible)
    centre = np.array([columns.mean(), rows.mean()])
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    A = extent * rng.uniform(0.4, 1.1) / len(sprite.rgb) * rotation_z(rng.uniform(-np.pi, np.pi))[:2, :2]
    matrix = np.eye(3)
    matrix[:2, :2] = A
    matrix[:2, 2] = centre - A @ ((np.array(sprite.alpha.shape[::-1]) - 1) / 2)
    shape = sprite.placed(matrix, len(visible))[1][..., 0] > 0.5
    matrix[:2, 2] += _slide(rng, visible, shape, wanted)
    return CutOut(sprite, np.linalg.inv(K) @ matrix)


def _slide(rng: np.random.Generator, visible: np.ndarray, shape: np.ndarray, wanted: float) -> np.ndarray:
    """Return the shift [2] (x, y) of a cover's silhouette [h, w] that leaves about `wanted` pixels visible.

    It comes in from a random side, up to where it hides enough; the place that comes nearest is taken.
    """
    angle = rng.uniform(-np.pi, np.pi)
    way = np.array([np.cos(angle), np.sin(angle)]) * len(visible)
    rows, columns = np.nonzero(visible)
    best, closest = way, np.inf
    for step in np.linspace(1, 0, SLIDE_STEPS):
        shift = np.round(step * way)
        x, y = columns - int(shift[0]), rows - int(shift[1])
        inside = (x >= 0) & (y >= 0) & (x < shape.shape[1]) & (y < shape.shape[0])
        left = len(rows) - shape[y[inside], x[inside]].sum()
        if abs(left - wanted) < closest:
            best, closest = shift, abs(left - wanted)
        if left <= wanted:
            break
    return best
