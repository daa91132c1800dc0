"""Render the images of the held-out benchmark: an object on a table, at one of four levels of difficulty."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vpog_core.geometry import pinhole
from vpog_core.geometry.se3 import invert, random_rotation, rotation_z, transform, transform_points
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Light, Renderer
from vpog_core.objects.viewpoints import upright_rotation
from vpog_core.synthetic.table import TableTop
from vpog_core.types import Camera

LEVELS = {1: "clean", 2: "light", 3: "clutter", 4: "occluded"}
OTHERS = 12
"""Number of other objects in a cluttered image."""
SIZE = (480, 640)
FOCAL = 600.0
VISIBLE = (0.3, 0.6)
"""Fraction of the object that stays visible at the level `occluded`."""


@dataclass
class _Thing:
    renderer: Renderer
    T_world_obj: np.ndarray


def heldout_camera() -> Camera:
    """Return the camera that takes the images: without distortion, looking at the image's middle."""
    K = np.array([[FOCAL, 0, (SIZE[1] - 1) / 2], [0, FOCAL, (SIZE[0] - 1) / 2], [0, 0, 1]])
    return Camera(K=K, width=SIZE[1], height=SIZE[0])


class HeldOutScene:
    """Generates one image: a table, a camera above it, and an object in any orientation on it."""

    def __init__(self, rng: np.random.Generator, K: np.ndarray) -> None:
        self.rng, self.K = rng, K

    def render(self, level: int, renderer: Renderer, other):
        """Render image [H, W, 3], depth [H, W], visible mask [H, W], visible fraction, T_cam_obj."""
        # Place the object, the camera, the lamps and what is around the object.
        rng, mesh = self.rng, renderer.mesh
        thing = _Thing(renderer, _resting(rng, mesh, np.zeros(2)))
        T_world_cam = self._camera_pose(mesh, thing.T_world_obj)
        table, lamps = TableTop(rng, 6 * mesh.diameter), lights(rng, even=level == 1)
        others = self._clutter(mesh.diameter, other) if LEVELS[level] == "clutter" else []
        T_cam_world = invert(T_world_cam)
        if LEVELS[level] == "occluded":
            others = self._occluder(thing, T_cam_world, other)
        things = [thing, *others]
        # Draw the table with their shadows.
        hulls = [transform_points(t.T_world_obj, t.renderer.mesh.hull_points) for t in things]
        towards = T_world_cam[:3, :3] @ np.asarray(lamps[0].direction)
        image = table.draw(self.K, T_cam_world, SIZE, hulls, towards)
        depth = _table_depth(self.K, T_cam_world, table.half)
        # Render the objects over it; the nearest is seen.
        instance_map = np.full(SIZE, -1)
        for index, each in enumerate(things):
            part = each.renderer.render(T_cam_world @ each.T_world_obj, self.K, SIZE, lamps)
            front = part.mask & ((part.depth < depth) | (depth == 0))
            image[front], depth[front], instance_map[front] = part.rgb[front], part.depth[front], index
            if index == 0:
                alone = np.count_nonzero(part.mask)
        # Apply lens and sensor, except at the cleanest level.
        mask = instance_map == 0
        finished = image if level == 1 else _lens_and_sensor(rng, image)
        return finished, depth, mask, float(mask.sum() / max(alone, 1)), T_cam_world @ thing.T_world_obj

    def _camera_pose(self, mesh: Mesh, T_world_obj: np.ndarray) -> np.ndarray:
        """Draw T_world_cam so that the diameter covers a fifth to a half of the image's height."""
        rng = self.rng
        azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(20, 75))
        c = np.cos(elevation)
        direction = np.array([c * np.cos(azimuth), c * np.sin(azimuth), np.sin(elevation)])
        distance = mesh.diameter * FOCAL / (rng.uniform(0.2, 0.5) * SIZE[0])
        R_cam_world = rotation_z(np.radians(rng.uniform(-25, 25))) @ upright_rotation(direction)
        # The object's middle lies off the axis by up to a sixth of the image.
        off = rng.uniform(-1, 1, 2) * np.array([SIZE[1], SIZE[0]]) / 6 / FOCAL * distance
        centre = transform_points(T_world_obj, mesh.center)
        return transform(R_cam_world.T, centre - R_cam_world.T @ np.array([*off, distance]))

    def _clutter(self, diameter: float, other) -> list[_Thing]:
        """Place eight other objects around it, from as near as possible to three diameters away."""
        rng, found = self.rng, []
        for index in rng.permutation(OTHERS)[:8]:
            renderer = other(int(index))
            radius = rng.uniform(0.45, 0.6) * (diameter + renderer.mesh.diameter) + rng.exponential(
                0.5 * diameter
            )
            angle = rng.uniform(0, 2 * np.pi)
            place = radius * np.array([np.cos(angle), np.sin(angle)])
            found.append(_Thing(renderer, _resting(rng, renderer.mesh, place)))
        return found

    def _occluder(self, thing: _Thing, T_cam_world: np.ndarray, other) -> list[_Thing]:
        """Place one other object in front, so that the visible fraction is within VISIBLE."""
        rng = self.rng
        T_cam_obj = T_cam_world @ thing.T_world_obj
        mask = thing.renderer.render(T_cam_obj, self.K, SIZE).mask
        centre = transform_points(T_cam_obj, thing.renderer.mesh.center)
        best, best_miss = [], np.inf
        for _ in range(40):
            renderer = other(int(rng.integers(OTHERS)))
            depth_fraction = rng.uniform(0.55, 0.8)
            side = rng.normal(size=2)
            side *= rng.uniform(0.2, 0.7) * thing.renderer.mesh.diameter / np.linalg.norm(side)
            at = (centre + np.array([*side, 0])) * depth_fraction
            R = random_rotation(rng)
            T = transform(R, at - R @ renderer.mesh.center)
            left = np.count_nonzero(mask & ~renderer.render(T, self.K, SIZE).mask) / max(mask.sum(), 1)
            miss = max(VISIBLE[0] - left, left - VISIBLE[1], 0.0)
            if miss < best_miss:
                best, best_miss = [_Thing(renderer, invert(T_cam_world) @ T)], miss
            if miss == 0:
                break
        return best


def _resting(rng: np.random.Generator, mesh: Mesh, place: np.ndarray) -> np.ndarray:
    """Draw T_world_obj: any orientation, the lowest point on the table (z = 0), the middle at `place` [2]."""
    R = random_rotation(rng)
    bottom = ((mesh.hull_points - mesh.center) @ R.T)[:, 2].min()
    return transform(R, np.array([*place, -bottom]) - R @ mesh.center)


def lights(rng: np.random.Generator, even: bool) -> list[Light]:
    """Draw even light from above, or hard or dim coloured light from anywhere above, with highlights."""
    if even:
        return [Light(ambient=0.5, direction=(0.3, -1.0, -0.6), diffuse=0.5)]
    tint = 1 + 0.18 * rng.uniform(-1, 1) * np.array([1, 0.1, -1]) + rng.uniform(-0.05, 0.05, 3)
    power = rng.uniform(0.55, 1.25)
    direction = (rng.uniform(-1.2, 1.2), rng.uniform(-1.2, -0.1), -rng.uniform(0.1, 0.9))
    return [
        Light(
            ambient=power * rng.uniform(0.15, 0.45),
            direction=direction,
            diffuse=power * rng.uniform(0.5, 0.9),
            color=tuple(tint),
            specular=rng.uniform(0, 0.35),
            shininess=rng.uniform(8, 50),
        )
    ]


def _lens_and_sensor(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Apply blur, noise that grows with brightness, and JPEG compression to an image."""
    soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4)).astype(np.float32)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noisy = soft + noise * (rng.uniform(1, 6) + 0.02 * soft)
    rounded = np.clip(noisy, 0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))]
    return cv2.imdecode(cv2.imencode(".jpg", rounded, quality)[1], cv2.IMREAD_COLOR)


def _table_depth(K: np.ndarray, T_cam_world: np.ndarray, half: float) -> np.ndarray:
    """Compute the depth [H, W] float32 of the table's top, 0 beside it."""
    rays = pinhole.image_rays(K, SIZE)
    normal, T_world_cam = T_cam_world[:3, 2], invert(T_cam_world)
    down = rays @ normal
    z = (T_cam_world[:3, 3] @ normal) / np.where(down < -1e-6, down, -1e-6)
    world = transform_points(T_world_cam, rays * z[..., None])
    on = (down < -1e-6) & (z > 0) & (np.abs(world[..., :2]) < half).all(axis=-1)
    return np.where(on, z, 0).astype(np.float32)
