"""Render a moving table-top scene with known poses, for the demo, the tests and the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vpog_core.geometry.boxes import outer_box, projected_box
from vpog_core.geometry.se3 import invert, rotation_x, rotation_y, rotation_z, transform, transform_points
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Light, Renderer
from vpog_core.objects.viewpoints import upright_rotation
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.seeds import DISTRACTORS
from vpog_core.synthetic.table import TableTop
from vpog_core.types import Camera, VPOGError

HEIGHT_FRACTION = 0.25
"""Approximate fraction of the image's height that an object's diameter covers."""


CLOSENESS = 0.8
"""How near two objects may stand: the distance of their middles over their mean diameter."""

NOISE_ROOM = 128
"""Pixels by which the stored noise is larger than an image, so that its window can move."""


@dataclass
class SceneFrame:
    """Holds one image of the scene and the true poses of its N objects, in the given order.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        T_cam_obj: N poses [4, 4] float64.
        masks: [N, H, W] bool, visible pixels.
        boxes_visible: [N, 4] float64 (x0, y0, x1, y1) of the visible pixels, zeros where nothing is visible.
        boxes_amodal: [N, 4] float64, of the whole object, beyond the image's rim as well.
        visible_fraction: [N] float64, visible pixels over all the object would have alone in this image.
    """

    image: np.ndarray
    T_cam_obj: list[np.ndarray]
    masks: np.ndarray
    boxes_visible: np.ndarray
    boxes_amodal: np.ndarray
    visible_fraction: np.ndarray


@dataclass
class _SceneObject:
    """Holds an object on the table: place, rotation and floating (metres, radians, per second)."""

    renderer: Renderer
    place: np.ndarray
    rest: np.ndarray
    yaw: float
    spin: float
    lift: float
    phase: float

    def pose(self, t: float) -> np.ndarray:
        """Return T_world_obj [4, 4]; the world's z = 0 is the table."""
        R = rotation_z(self.yaw + self.spin * t) @ self.rest
        mesh = self.renderer.mesh
        height = self.lift * (1 + 0.4 * np.sin(0.9 * t + self.phase))
        bottom = ((mesh.hull_points - mesh.center) @ R.T)[:, 2].min()
        return transform(R, np.array([*self.place, height - bottom]) - R @ mesh.center)


def make_scene(
    seed: int,
    meshes: Sequence[Mesh],
    size: tuple[int, int] = (480, 640),
    distractors: int = 2,
    noise: float = 2.0,
    lights: Sequence[Light] | None = None,
) -> DemoScene:
    """Make a scene by seed: meshes stand, lie and float over a table while the camera swings around it.

    Args:
        meshes: the N objects whose poses are given; at most about 8 fit on the table.
        size: (H, W) of the images, pixels.
        distractors: objects of other shapes that occlude, and whose poses are not given.
        noise: standard deviation of the sensor noise, grey levels.
        lights: camera frame, the first throws the shadows; None draws soft ones.

    Raises:
        VPOGError: no meshes.
    """
    return DemoScene(seed, meshes, size, distractors, noise, lights)


class DemoScene:
    """Renders the scene of `make_scene`: `camera` is a pinhole camera, `render(t)` the frame at t seconds."""

    def __init__(
        self,
        seed: int,
        meshes: Sequence[Mesh],
        size: tuple[int, int],
        distractors: int,
        noise: float,
        lights: Sequence[Light] | None,
    ):
        if not meshes:
            raise VPOGError("A scene needs at least one mesh: give it some.")
        rng = np.random.default_rng([int(seed), 3])
        H, W = size
        focal = 1.25 * H
        K = np.array([[focal, 0, (W - 1) / 2], [0, focal, (H - 1) / 2], [0, 0, 1]])
        self.camera = Camera(K=K, width=W, height=H)
        self._count = len(meshes)
        self._unit = float(np.median([mesh.diameter for mesh in meshes]))
        others = [
            _scaled(make_object(DISTRACTORS[rng.integers(len(DISTRACTORS))], vertices=8000), self._unit * 0.8)
            for _ in range(distractors)
        ]
        self._objects = self._arrange(rng, list(meshes) + others)
        largest = max(mesh.diameter for mesh in meshes)
        self._distance = (0.6 * self._unit + 0.4 * largest) * focal / (HEIGHT_FRACTION * H)
        self._swing = rng.uniform(0, 2 * np.pi, 3)
        soft = _soft_lights(rng)
        self._lights = soft if lights is None else lights
        self._table = TableTop(rng, 6 * self._unit)
        self._noise = _noise_image(rng, size, noise)
        self._seed = int(seed)

    def _arrange(self, rng: np.random.Generator, meshes: list[Mesh]) -> list[_SceneObject]:
        """Place objects on rings around the middle, about a diameter apart; every third one floats."""
        objects: list[_SceneObject] = []
        order = rng.permutation(len(meshes))
        places = _spread(rng, [meshes[i].diameter for i in order], self._unit)
        at = {int(index): place for index, place in zip(order, places, strict=True)}
        for index, mesh in enumerate(meshes):
            given = index < self._count
            floats = given and (index + int(rng.integers(3))) % 3 == 0
            rest = _resting_rotation(rng, mesh, floats)
            objects.append(
                _SceneObject(
                    renderer=Renderer(mesh),
                    place=at[index],
                    rest=rest,
                    yaw=rng.uniform(0, 2 * np.pi),
                    spin=rng.choice([-1, 1]) * rng.uniform(0.15, 0.5) if given else 0.0,
                    lift=rng.uniform(0.15, 0.5) * self._unit if floats else 0.0,
                    phase=rng.uniform(0, 2 * np.pi),
                )
            )
        return objects

    def camera_pose(self, t: float) -> np.ndarray:
        """Return T_world_cam [4, 4] at t seconds."""
        a, b, c = self._swing
        azimuth = a + 0.5 * np.sin(0.25 * t + b)
        elevation = np.radians(32 + 7 * np.sin(0.31 * t + c))
        direction = np.array(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        )
        target = np.array([0, 0, 0.25 * self._unit])
        distance = self._distance * (1 + 0.06 * np.sin(0.4 * t + a))
        return transform(upright_rotation(direction).T, target + distance * direction)

    def render(self, t: float) -> SceneFrame:
        """Render the frame at t seconds; the same t gives the same frame."""
        # Compute the poses of camera and objects.
        T_world_cam = self.camera_pose(t)
        T_cam_world = invert(T_world_cam)
        poses = [obj.pose(t) for obj in self._objects]
        towards = T_world_cam[:3, :3] @ np.asarray(self._lights[0].direction)
        hulls = [
            transform_points(T, obj.renderer.mesh.hull_points)
            for T, obj in zip(poses, self._objects, strict=True)
        ]
        # Draw the table with shadows, then the objects.
        shape = (self.camera.height, self.camera.width)
        image = self._table.draw(self.camera.K, T_cam_world, shape, hulls, towards)
        in_camera = [T_cam_world @ T for T in poses]
        masks, alone = self._composite(image, in_camera)
        # Add blur and noise, and compute the boxes.
        return SceneFrame(
            image=self._finish(image, t),
            T_cam_obj=in_camera[: self._count],
            masks=masks,
            boxes_visible=np.array([_visible_box(mask) for mask in masks]),
            boxes_amodal=np.array(
                [
                    projected_box(T, obj.renderer.mesh.hull_points, self.camera.K)
                    for T, obj in zip(in_camera[: self._count], self._objects, strict=False)
                ]
            ),
            visible_fraction=masks.sum(axis=(1, 2)) / np.maximum(alone, 1),
        )

    def _composite(self, image: np.ndarray, poses: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Draw every object over the image where it is nearest; visible masks [N, H, W], pixels alone [N]."""
        H, W = image.shape[:2]
        nearest = np.full((H, W), np.inf, dtype=np.float32)
        instance_map = np.full((H, W), -1, dtype=np.int16)
        alone = np.zeros(self._count)
        for index, (obj, T) in enumerate(zip(self._objects, poses, strict=True)):
            x0, y0, x1, y1 = obj.renderer.window(T, self.camera.K, (H, W))
            if x1 <= x0 or y1 <= y0:
                continue
            K = self.camera.K.copy()
            K[:2, 2] -= (x0, y0)
            part = obj.renderer.render(T, K, (y1 - y0, x1 - x0), self._lights)
            if index < self._count:
                alone[index] = part.mask.sum()
            view = np.s_[y0:y1, x0:x1]
            front = part.mask & (part.depth < nearest[view])
            nearest[view][front] = part.depth[front]
            instance_map[view][front] = index
            image[view][front] = part.rgb[front]
        return instance_map[None] == np.arange(self._count)[:, None, None], alone

    def _finish(self, image: np.ndarray, t: float) -> np.ndarray:
        """Add the lens' softness and the sensor's noise, which differ from frame to frame."""
        image = cv2.GaussianBlur(image, (0, 0), 0.5)
        step = np.random.default_rng([self._seed, int(abs(t) * 1000)]).integers(0, NOISE_ROOM, 2)
        H, W = image.shape[:2]
        grain = self._noise[step[0] : step[0] + H, step[1] : step[1] + W]
        return cv2.add(image, grain, dtype=cv2.CV_8U)


def _scaled(mesh: Mesh, diameter: float) -> Mesh:
    fraction = diameter / mesh.diameter
    return Mesh(mesh.vertices * fraction, mesh.faces, vertex_colors=mesh.vertex_colors)


def _spread(rng: np.random.Generator, diameters: list[float], unit: float) -> list[np.ndarray]:
    """Draw a place [2] for each object, near the middle and clear of those before it where there is room."""
    places: list[np.ndarray] = []
    for own in diameters:
        best, best_cost = np.zeros(2), np.inf
        for _ in range(200):
            radius, angle = unit * rng.uniform(0, 1.65), rng.uniform(0, 2 * np.pi)
            place = radius * np.array([np.cos(angle), np.sin(angle)])
            gaps = [
                np.linalg.norm(place - other) / (0.5 * (own + diameters[i])) for i, other in enumerate(places)
            ]
            cost = radius / unit * 0.15 + max(0.0, CLOSENESS - min(gaps, default=2.0)) * 4
            if cost < best_cost:
                best, best_cost = place, cost
        places.append(best)
    return places


def _resting_rotation(rng: np.random.Generator, mesh: Mesh, floats: bool) -> np.ndarray:
    """Draw a rotation: standing most of the time, else lying on a side; what floats is tilted."""
    if floats:
        return rotation_x(rng.uniform(-0.7, 0.7)) @ rotation_y(rng.uniform(-0.7, 0.7))
    extent = np.ptp(mesh.bounds, axis=0)
    lying = rng.random() < (0.6 if extent[2] > 3 * extent[:2].min() else 0.2)
    if not lying:
        return np.eye(3)
    return rotation_y(np.pi / 2) if extent[0] < extent[1] else rotation_x(np.pi / 2)


def _soft_lights(rng: np.random.Generator) -> list[Light]:
    """Draw a warm key light from above and a cool fill from the other side; camera frame."""
    side = rng.choice([-1.0, 1.0])
    key = (side * rng.uniform(0.3, 0.8), -1.0, -rng.uniform(0.4, 0.8))
    warm = 1.0 + 0.06 * rng.uniform(-1, 1) * np.array([1, 0.2, -1])
    return [
        Light(ambient=0.42, direction=key, diffuse=0.55, color=tuple(warm), specular=0.12, shininess=25),
        Light(ambient=0.04, direction=(-key[0], -0.2, -0.9), diffuse=0.18, color=(0.92, 0.97, 1.06)),
    ]


def _noise_image(rng: np.random.Generator, size: tuple[int, int], sigma: float) -> np.ndarray:
    """Draw noise [H + 128, W + 128, 3] int16; each frame takes a window of it."""
    grain = rng.standard_normal((size[0] + NOISE_ROOM, size[1] + NOISE_ROOM, 3), dtype=np.float32)
    return np.rint(grain * sigma).astype(np.int16)


def _visible_box(mask: np.ndarray) -> np.ndarray:
    """Return the box [4] of a mask; zeros where it is empty."""
    box = outer_box(mask)
    return np.zeros(4) if box is None else box
