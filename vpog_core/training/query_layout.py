"""Where things are in a training query: ground, neighbours, occluders, detection box and image border.

Boxes and borders live in the plane z = 1 of a camera that is upright in the image and sees the object.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from vpog_core.geometry.camera import BOX_PADDING, fit_square, rotation_towards
from vpog_core.geometry.se3 import random_rotation, rotation_x, rotation_z, transform
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.scene_renderer import NOBODY, Actor, Ground, owners, pixel_rays
from vpog_core.training.occlusion import MIN_VISIBLE, CoverParams, CutOut, cover

COARSE = 48
"""Side of the picture that visibility is judged in, pixels."""


@dataclass(frozen=True)
class LayoutOdds:
    """How often queries have what.

    Attributes:
        ground: the object stands on a plane; neighbours: odds of 0, 1, 2, ... other objects on it;
            twin: share of them that are the same object again.
        cover: what covers the object on purpose; no ground is needed.
        visible_box: the box is of the visible part, else of the whole object.
        sloppiness, sloppy_odds: std of a box's sides over its extent, and the odds of each.
        border, border_place: share of crops that reach over the image's border, and where it runs, in
            extents of the box inward from its side; below zero the object itself is whole.
    """

    ground: float = 0.55
    neighbours: tuple[float, ...] = (0.3, 0.3, 0.25, 0.15)
    twin: float = 0.1
    cover: CoverParams = field(default_factory=CoverParams)
    visible_box: float = 0.75
    sloppiness: tuple[float, ...] = (0.04, 0.1, 0.2)
    sloppy_odds: tuple[float, ...] = (0.7, 0.24, 0.06)
    border: float = 0.25
    border_place: tuple[float, float] = (-0.4, 0.4)


@dataclass
class Layout:
    """A query's geometry, in one camera frame.

    Attributes:
        actors: the object itself first; ground: or None.
        up: [3] unit, against gravity.
        box: [2, 2] low and high corner (x, y) in the plane z = 1, as a detector gives it.
        border: [3] or None: rays r with r @ border > 0 leave the image.
        cut_out: a flat image before all, or None.
        whole: [2, 2] the box of the whole object; visible: fraction of it that is seen.
    """

    actors: list[Actor]
    ground: Ground | None
    up: np.ndarray
    box: np.ndarray
    border: np.ndarray | None
    cut_out: CutOut | None
    whole: np.ndarray
    visible: float

    def in_crop(self, size: int) -> tuple[Layout, np.ndarray]:
        """The same in the camera of the look-at crop around the box, and its K [3, 3]."""
        low, high = self.box
        R = rotation_towards(np.array([*(low + high) / 2, 1.0]))
        corners = np.array([[x, y, 1.0] for x in self.box[:, 0] for y in self.box[:, 1]])
        return self.turned(R), fit_square(corners @ R.T, size, BOX_PADDING)

    def turned(self, R: np.ndarray) -> Layout:
        """The same in the frame of a camera turned by R_virt_cam [3, 3]; the box stays as it is."""
        actors = [
            Actor(a.renderer, transform(R, np.zeros(3)) @ a.T_cam_obj, a.scale, a.material)
            for a in self.actors
        ]
        ground = None if self.ground is None else Ground(R @ self.ground.normal, self.ground.offset)
        border = None if self.border is None else R @ self.border
        cut_out = None if self.cut_out is None else self.cut_out.turned(R)
        return replace(self, actors=actors, ground=ground, up=R @ self.up, border=border, cut_out=cut_out)


def lay_out(rng: np.random.Generator, renderer: Renderer, T: np.ndarray, stage, odds: LayoutOdds) -> Layout:
    """A layout around one object at T [4, 4]; `stage.renderer(rng)` gives other things."""
    target = Actor(renderer, T)
    tilt = rotation_z(rng.normal(0, 0.1)) @ rotation_x(rng.uniform(0.15, 1.45))
    up = tilt @ np.array([0.0, -1.0, 0.0])
    actors, ground = [target], None
    if rng.random() < odds.ground:
        ground = Ground(up, float((_hull(target) @ up).min()))
        for _ in range(rng.choice(len(odds.neighbours), p=odds.neighbours)):
            other = renderer if rng.random() < odds.twin else stage.renderer(rng)
            actors.append(_neighbour(rng, target, ground, other))
    actors = [a for a in actors if a is target or _in_front(a)]
    whole = _box(_hull(target))
    K = _fit(whole)
    alone = owners([target], K, (COARSE, COARSE)) == 0
    actors, visible = _keep_visible(actors, alone, K)
    added = cover(rng, target, visible, int(alone.sum()), K, stage, odds.cover)
    cut_out = added if isinstance(added, CutOut) else None
    if cut_out is not None:
        seen = visible & (cut_out.placed(K, COARSE)[1][..., 0] < 0.5)
        cut_out, visible = (cut_out, seen) if _enough(seen, alone) else (None, visible)
    elif added is not None and _in_front(added):
        actors, visible = _keep_visible([*actors, added], alone, K)
    modal = rng.random() < odds.visible_box
    border = None
    if rng.random() < odds.border:
        cut, place = _cut_by_border(rng, _mask_box(visible, K) if modal else whole, odds)
        seen = visible & (pixel_rays(K, visible.shape) @ place.astype(np.float32) <= 0)
        if _enough(seen, alone):
            border, visible = place, seen
    box = _mask_box(visible, K) if modal else whole if border is None else cut
    fraction = float(visible.sum() / max(alone.sum(), 1))
    box = jitter_box(rng, box, odds)
    return Layout(actors, ground, up, box, border, cut_out, whole, fraction)


def jitter_box(rng: np.random.Generator, box: np.ndarray, odds: LayoutOdds) -> np.ndarray:
    """A box [2, 2] (low, high corner) as detectors err: mostly little, now and then a lot."""
    sloppy = rng.choice(odds.sloppiness, p=odds.sloppy_odds)
    low, high = np.sort(box + rng.normal(0, sloppy, (2, 2)) * (box[1] - box[0]), axis=0)
    least = 0.1 * (box[1] - box[0]).max()
    return np.stack([low, np.maximum(high, low + least)])


def _hull(actor: Actor) -> np.ndarray:
    """Hull points [N, 3] in the camera frame."""
    points = actor.renderer.mesh.hull_points * actor.scale
    return points @ actor.T_cam_obj[:3, :3].T + actor.T_cam_obj[:3, 3]


def _diameter(actor: Actor) -> float:
    return actor.scale * actor.renderer.mesh.diameter


def _middle(actor: Actor) -> np.ndarray:
    return actor.T_cam_obj[:3, :3] @ (actor.scale * actor.renderer.mesh.center) + actor.T_cam_obj[:3, 3]


def _placed(renderer: Renderer, R: np.ndarray, scale: float, middle: np.ndarray) -> Actor:
    return Actor(renderer, transform(R, middle - R @ (scale * renderer.mesh.center)), scale)


def _neighbour(rng: np.random.Generator, target: Actor, ground: Ground, renderer: Renderer) -> Actor:
    """Another object of like size beside the target, at rest on the ground in any pose."""
    size = _diameter(target)
    scale = size * np.exp(rng.uniform(np.log(0.5), np.log(1.5))) / renderer.mesh.diameter
    along = np.cross(ground.normal, rng.normal(size=3))
    reach = rng.uniform(0.35, 0.6) * (size + scale * renderer.mesh.diameter)
    middle = _middle(target) + along / np.linalg.norm(along) * reach
    actor = _placed(renderer, random_rotation(rng), scale, middle)
    lift = ground.offset - (_hull(actor) @ ground.normal).min()
    return _placed(renderer, actor.T_cam_obj[:3, :3], scale, middle + lift * ground.normal)


def _in_front(actor: Actor) -> bool:
    """Whether all of it is well before the camera: what reaches to the camera would hide everything."""
    return bool(_hull(actor)[:, 2].min() > 0.1 * _diameter(actor))


def _box(points: np.ndarray) -> np.ndarray:
    plane = points[:, :2] / points[:, 2:]
    return np.stack([plane.min(axis=0), plane.max(axis=0)])


def _fit(box: np.ndarray) -> np.ndarray:
    """K of the coarse picture that holds a box."""
    focal = 0.9 * COARSE / (box[1] - box[0]).max()
    centre = (COARSE - 1) / 2 - focal * box.mean(axis=0)
    return np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])


def _enough(visible: np.ndarray, alone: np.ndarray) -> bool:
    """Tell whether enough of an object is seen, of what were seen of it alone."""
    return bool(visible.sum() >= MIN_VISIBLE * alone.sum())


def _keep_visible(actors: list[Actor], alone: np.ndarray, K: np.ndarray) -> tuple[list[Actor], np.ndarray]:
    """Take away what hides most until enough of the first actor is seen; the rest, and its coarse mask."""
    while len(actors) > 1:
        owner = owners(actors, K, alone.shape)
        if _enough(owner == 0, alone):
            return actors, owner == 0
        hides = np.bincount(owner[alone & (owner != NOBODY)], minlength=len(actors))
        worst = 1 + int(np.argmax(hides[1:]))
        actors = [a for n, a in enumerate(actors) if n != worst]
    return actors, alone


def _mask_box(mask: np.ndarray, K: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    if not len(rows):
        rows, columns = np.array([0, COARSE - 1]), np.array([0, COARSE - 1])
    low = np.array([columns.min(), rows.min()]) - 0.5
    high = np.array([columns.max(), rows.max()]) + 0.5
    return (np.stack([low, high]) - K[:2, 2]) / K[0, 0]


def _cut_by_border(rng, box: np.ndarray, odds: LayoutOdds) -> tuple[np.ndarray, np.ndarray]:
    """The box inside the image and the plane beyond which there is no image."""
    axis, high = rng.integers(2), rng.integers(2)
    inward = rng.uniform(*odds.border_place) * (box[1] - box[0])[axis]
    place = box[high, axis] + (-inward if high else inward)
    clipped = box.copy()
    clipped[high, axis] = min(place, box[1, axis]) if high else max(place, box[0, axis])
    normal = np.zeros(3)
    normal[axis], normal[2] = (1.0, -place) if high else (-1.0, place)
    # Cameras off the axis see the border a little askew, turned about where it meets the box's middle.
    pivot = np.array([*clipped.mean(axis=0), 1.0])
    pivot[axis] = place
    turned = rotation_z(rng.normal(0, 0.03)) @ [normal[0], normal[1], 0.0]
    return clipped, np.array([turned[0], turned[1], -turned[:2] @ pivot[:2]])
