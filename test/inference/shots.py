"""Make images of one object whose pose is known, and poses that are a little off."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vpog_core.evaluation.pose_error import add
from vpog_core.geometry.projection import project
from vpog_core.geometry.se3 import (
    rotation_angle,
    rotation_from_vector,
    rotation_x,
    transform,
    transform_points,
)
from vpog_core.inference.observation import Observation
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Light, Renderer
from vpog_core.types import Camera

K = np.array([[900.0, 0, 322.0], [0, 905.0, 236.0], [0, 0, 1]])
CAMERA = Camera(K, 640, 480)
OTHER_LIGHT = Light(direction=(0.7, -0.5, -0.4), ambient=0.3, diffuse=0.6, color=(1.0, 0.9, 0.75))


@dataclass
class Shot:
    """Holds an image of an object, and its true pose."""

    renderer: Renderer
    observation: Observation
    T_true: np.ndarray

    @property
    def mesh(self) -> Mesh:
        return self.renderer.mesh

    def error(self, T: np.ndarray) -> tuple[float, float, float]:
        """Return how far a pose is off: radians, fraction of the distance, ADD in diameters."""
        distances = [np.linalg.norm(transform_points(P, self.mesh.center)) for P in (T, self.T_true)]
        off = add(T, self.T_true, self.mesh.hull_points) / self.mesh.diameter
        return rotation_angle(T[:3, :3], self.T_true[:3, :3]), abs(distances[0] / distances[1] - 1), off


def background(seed: int = 0) -> np.ndarray:
    """Return a busy wall."""
    noise = np.random.default_rng(seed).normal(size=(480, 640, 3)).astype(np.float32)
    rough = cv2.GaussianBlur(noise, (0, 0), 2) * 60 + cv2.GaussianBlur(noise, (0, 0), 12) * 500
    return np.clip(rough + 120, 0, 255).astype(np.uint8)


def shot_of(mesh: Mesh, place=(0.02, -0.01, 0.55), camera: Camera = CAMERA) -> Shot:
    """Render the object in front of a busy wall, in another light than that of renders, with noise."""
    R = rotation_x(2.2)
    T = transform(R, np.asarray(place) - R @ mesh.center)
    renderer = Renderer(mesh)
    size = (camera.height, camera.width)
    image = renderer.render(T, camera.K, size, OTHER_LIGHT, background()[: size[0], : size[1]], 2).rgb
    noise = np.random.default_rng(1).normal(scale=3.0, size=image.shape)
    return Shot(renderer, Observation(np.clip(image + noise, 0, 255).astype(np.uint8), camera), T)


def perturbed(shot: Shot, degrees=3.0, farther=1.03, axis=(0.6, -0.5, 0.62)) -> np.ndarray:
    """Turn the true pose about the object's middle, and move it along the ray."""
    turn = rotation_from_vector(np.radians(degrees) * np.asarray(axis) / np.linalg.norm(axis))
    middle = transform_points(shot.T_true, shot.mesh.center)
    R = turn @ shot.T_true[:3, :3]
    return transform(R, farther * middle - R @ shot.mesh.center)


def covered(shot: Shot, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cover the left third of the object with a striped board; returns where it is, too, [H, W] bool."""
    pixels = project(shot.observation.camera, transform_points(shot.T_true, shot.mesh.hull_points))
    x0, x1 = pixels[:, 0].min(), pixels[:, 0].max()
    board = np.zeros(image.shape[:2], dtype=bool)
    board[:, int(x0) - 20 : int(x0 + (x1 - x0) / 3)] = True
    stripes = np.where(np.arange(image.shape[0]) // 9 % 2 == 0, 200, 60).astype(np.uint8)
    return np.where(board[..., None], stripes[:, None, None], image), board
