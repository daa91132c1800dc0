"""Lay out a training query: ground, neighbours, occluders, detection box and image border.

Boxes and borders live in the plane z = 1 of a camera that is upright in the image and sees the object.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from vpog_core.geometry.boxes import box_around, jitter_box_normal
from vpog_core.geometry.camera import BOX_PADDING, fit_square, rotation_towards
from vpog_core.geometry.pinhole import image_rays
from vpog_core.geometry.se3 import random_rotation, rotation_x, rotation_z, transform
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.scene_renderer import NO_OBJECT, Ground, SceneObject, render_instance_map
from vpog_core.training.synthesis.occlusion import MIN_VISIBLE, CoverParams, CutOut, cover

COARSE_SIZE = 48
"""Side of the coarse image that visibility is measured in, pixels."""


@dataclass(frozen=True)
class LayoutParams:
    """Declares probabilities and ranges of what a query contains.

    Attributes:
        ground: the object stands on a plane; neighbours: probabilities of 0, 1, 2, ... other objects on it;
            twin: fraction of them that are the same object again.
        cover: what covers the object on purpose; no ground is needed.
        visible_box: the box is of the visible part, else of the whole object.
        box_noise, box_noise_probabilities: std of a box's sides over its extent, and the probability of each.
        border, border_place: fraction of crops that reach over the image's border, and where it runs, in
            extents of the box inward from its side; below zero the object itself is whole.
    """

    ground: float = 0.55
    neighbours: tuple[float, ...] = (0.3, 0.3, 0.25, 0.15)
    twin: float = 0.1
    cover: CoverParams = field(default_factory=CoverParams)
    visible_box: float = 0.75
    box_noise: tuple[float, ...] = (0.04, 0.1, 0.2)
    box_noise_probabilities: tuple[float, ...] = (0.7, 0.24, 0.06)
    border: float = 0.25
    border_place: tuple[float, float] = (-0.4, 0.4)


@dataclass
class Layout:
    """Holds a query's geometry, in one camera frame.

    Attributes:
        objects: the object itself first; ground: or None.
        up: [3] unit, against gravity.
        box: [2, 2] low and high corner (x, y) in the plane z = 1, as a detector gives it.
        border: [3] or None: rays r with r @ border > 0 leave the image.
        cut_out: a flat image before all, or None.
        whole: [2, 2] the box of the whole object; visible: fraction of it that is seen.
    """

    objects: list[SceneObject]
    ground: Ground | None
    up: np.ndarray
    box: np.ndarray
    border: np.ndarray | None
    cut_out: CutOut | None
    whole: np.ndarray
    visible: float

    def in_crop(self, size: int) -> tuple[Layout, np.ndarray]:
        """Return the layout in the camera of the look-at crop around the box, and its K [3, 3]."""
        low, high = self.box
        R = rotation_towards(np.array([*(low + high) / 2, 1.0]))
        corners = np.array([[x, y, 1.0] for x in self.box[:, 0] for y in self.box[:, 1]])
        return self.turned(R), fit_square(corners @ R.T, size, BOX_PADDING)

    def turned(self, R: np.ndarray) -> Layout:
        """Return the layout in the frame of a camera turned by R_virt_cam [3, 3]; the box stays as it is."""
        objects = [
            SceneObject(a.renderer, transform(R, np.zeros(3)) @ a.T_cam_obj, a.scale, a.material)
            for a in self.objects
        ]
        ground = None if self.ground is None else Ground(R @ self.ground.normal, self.ground.offset)
        border = None if self.border is None else R @ self.border
        cut_out = None if self.cut_out is None else self.cut_out.turned(R)
        return replace(self, objects=objects, ground=ground, up=R @ self.up, border=border, cut_out=cut_out)


def lay_out(
    rng: np.random.Generator, renderer: Renderer, T: np.ndarray, assets, params: LayoutParams
) -> Layout:
    """Draw a layout around one object at T [4, 4]; `assets.renderer(rng)` gives other objects."""
    target = SceneObject(renderer, T)
    tilt = rotation_z(rng.normal(0, 0.1)) @ rotation_x(rng.uniform(0.15, 1.45))
    up = tilt @ np.array([0.0, -1.0, 0.0])
    # Place the ground under the object, and neighbours on it.
    objects, ground = [target], None
    if rng.random() < params.ground:
        ground = Ground(up, float((_hull(target) @ up).min()))
        for _ in range(rng.choice(len(params.neighbours), p=params.neighbours)):
            other = renderer if rng.random() < params.twin else assets.renderer(rng)
            objects.append(_neighbour(rng, target, ground, other))
    objects = [a for a in objects if a is target or _in_front(a)]
    # Measure in a coarse image what is visible, and remove what hides too much.
    whole = _box(_hull(target))
    K = _fit(whole)
    alone = render_instance_map([target], K, (COARSE_SIZE, COARSE_SIZE)) == 0
    objects, visible = _keep_visible(objects, alone, K)
    # Cover the object on purpose.
    added = cover(rng, target, visible, int(alone.sum()), K, assets, params.cover)
    cut_out = added if isinstance(added, CutOut) else None
    if cut_out is not None:
        seen = visible & (cut_out.placed(K, COARSE_SIZE)[1][..., 0] < 0.5)
        cut_out, visible = (cut_out, seen) if _visible_enough(seen, alone) else (None, visible)
    elif added is not None and _in_front(added):
        objects, visible = _keep_visible([*objects, added], alone, K)
    # Draw the image's border, beyond which nothing is visible.
    modal = rng.random() < params.visible_box
    border = None
    if rng.random() < params.border:
        cut, place = _cut_by_border(rng, _mask_box(visible, K) if modal else whole, params)
        seen = visible & (image_rays(K, visible.shape).astype(np.float32) @ place.astype(np.float32) <= 0)
        if _visible_enough(seen, alone):
            border, visible = place, seen
    # Draw the detection's box.
    box = _mask_box(visible, K) if modal else whole if border is None else cut
    fraction = float(visible.sum() / max(alone.sum(), 1))
    box = detected_box(rng, box, params)
    return Layout(objects, ground, up, box, border, cut_out, whole, fraction)


def detected_box(rng: np.random.Generator, box: np.ndarray, params: LayoutParams) -> np.ndarray:
    """Add a detector's errors to a box [2, 2] (low, high corner): mostly small ones, at times large ones."""
    noise = rng.choice(params.box_noise, p=params.box_noise_probabilities)
    least = 0.1 * (box[1] - box[0]).max()
    return jitter_box_normal(rng, box.ravel(), noise, least).reshape(2, 2)


def _hull(obj: SceneObject) -> np.ndarray:
    """Return hull points [N, 3] in the camera frame."""
    points = obj.renderer.mesh.hull_points * obj.scale
    return points @ obj.T_cam_obj[:3, :3].T + obj.T_cam_obj[:3, 3]


def _diameter(obj: SceneObject) -> float:
    return obj.scale * obj.renderer.mesh.diameter


def _middle(obj: SceneObject) -> np.ndarray:
    return obj.T_cam_obj[:3, :3] @ (obj.scale * obj.renderer.mesh.center) + obj.T_cam_obj[:3, 3]


def _placed(renderer: Renderer, R: np.ndarray, scale: float, middle: np.ndarray) -> SceneObject:
    return SceneObject(renderer, transform(R, middle - R @ (scale * renderer.mesh.center)), scale)


def _neighbour(
    rng: np.random.Generator, target: SceneObject, ground: Ground, renderer: Renderer
) -> SceneObject:
    """Place another object of similar size beside the target, at rest on the ground in any pose."""
    size = _diameter(target)
    scale = size * np.exp(rng.uniform(np.log(0.5), np.log(1.5))) / renderer.mesh.diameter
    along = np.cross(ground.normal, rng.normal(size=3))
    reach = rng.uniform(0.35, 0.6) * (size + scale * renderer.mesh.diameter)
    middle = _middle(target) + along / np.linalg.norm(along) * reach
    obj = _placed(renderer, random_rotation(rng), scale, middle)
    lift = ground.offset - (_hull(obj) @ ground.normal).min()
    return _placed(renderer, obj.T_cam_obj[:3, :3], scale, middle + lift * ground.normal)


def _in_front(obj: SceneObject) -> bool:
    """Tell whether all of an object is well in front of the camera, so that it does not hide everything."""
    return bool(_hull(obj)[:, 2].min() > 0.1 * _diameter(obj))


def _box(points: np.ndarray) -> np.ndarray:
    return box_around(points[:, :2] / points[:, 2:]).reshape(2, 2)


def _fit(box: np.ndarray) -> np.ndarray:
    """Return K of the coarse image that holds a box."""
    focal = 0.9 * COARSE_SIZE / (box[1] - box[0]).max()
    centre = (COARSE_SIZE - 1) / 2 - focal * box.mean(axis=0)
    return np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])


def _visible_enough(visible: np.ndarray, alone: np.ndarray) -> bool:
    """Tell whether a large enough fraction of an object is visible, of what is visible of it alone."""
    return bool(visible.sum() >= MIN_VISIBLE * alone.sum())


def _keep_visible(
    objects: list[SceneObject], alone: np.ndarray, K: np.ndarray
) -> tuple[list[SceneObject], np.ndarray]:
    """Remove the largest occluders until enough of the first object is seen; return the rest and its mask."""
    while len(objects) > 1:
        instance_map = render_instance_map(objects, K, alone.shape)
        if _visible_enough(instance_map == 0, alone):
            return objects, instance_map == 0
        hides = np.bincount(instance_map[alone & (instance_map != NO_OBJECT)], minlength=len(objects))
        worst = 1 + int(np.argmax(hides[1:]))
        objects = [a for n, a in enumerate(objects) if n != worst]
    return objects, alone


def _mask_box(mask: np.ndarray, K: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    if not len(rows):
        rows, columns = np.array([0, COARSE_SIZE - 1]), np.array([0, COARSE_SIZE - 1])
    low = np.array([columns.min(), rows.min()]) - 0.5
    high = np.array([columns.max(), rows.max()]) + 0.5
    return (np.stack([low, high]) - K[:2, 2]) / K[0, 0]


def _cut_by_border(rng, box: np.ndarray, params: LayoutParams) -> tuple[np.ndarray, np.ndarray]:
    """Draw the image's border: the box inside the image, and the plane beyond which there is no image."""
    axis, high = rng.integers(2), rng.integers(2)
    inward = rng.uniform(*params.border_place) * (box[1] - box[0])[axis]
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
