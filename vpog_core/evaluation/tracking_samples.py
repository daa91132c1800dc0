"""Make tracking samples from images with known poses: wrong prior poses, and occluders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpog_core.geometry.boxes import clip_box
from vpog_core.geometry.se3 import rotation_from_vector, transform, transform_points
from vpog_core.objects.mesh import Mesh
from vpog_core.types import Camera

COVERED = 0.4
"""Fraction of the images with an occluder in front of the object."""
MAX_COVERED = 1.1
"""Largest fraction of the object's box that an occluder covers; above 1, the object is hidden."""


@dataclass(frozen=True)
class Motion:
    """Sets how far a pose is off: largest angle (degrees), relative error of the distance, shift (diameters).

    Distance and shift are standard deviations.
    """

    rotation: float
    distance: float
    shift: float


MOTIONS = (Motion(6, 0.02, 0.05), Motion(6, 0.02, 0.05), Motion(30, 0.06, 0.15), Motion(180, 0.1, 0.35))
"""Half of the poses are of the frame before, a quarter of a fast motion, a quarter of something else."""


def moved(rng: np.random.Generator, T_cam_obj: np.ndarray, mesh: Mesh, motion: Motion) -> np.ndarray:
    """Return a pose [4, 4] that is off T_cam_obj [4, 4] by a random motion."""
    axis = rng.normal(size=3)
    turn = np.radians(rng.uniform(0, motion.rotation)) * axis / np.linalg.norm(axis)
    R = rotation_from_vector(turn) @ T_cam_obj[:3, :3]
    farther = 1 + np.clip(motion.distance * rng.normal(), -0.2, 0.2)
    across = motion.shift * mesh.diameter * np.array([*rng.normal(size=2), 0.0])
    return transform(R, farther * transform_points(T_cam_obj, mesh.center) + across - R @ mesh.center)


def covered(rng: np.random.Generator, image: np.ndarray, box: np.ndarray, camera: Camera) -> np.ndarray:
    """Return an image in which something hides a part of a box [4], from one side; or the image as it is.

    What hides it is another part of the image, or one colour.
    """
    if rng.random() > COVERED:
        return image
    side = rng.integers(4)
    hiding = np.array(box, dtype=np.float64)
    axis = side % 2
    reach = rng.uniform(0.2, MAX_COVERED) * (box[axis + 2] - box[axis])
    if side < 2:
        hiding[axis + 2] = box[axis] + reach
    else:
        hiding[axis] = box[axis + 2] - reach
    x0, y0, x1, y1 = (int(v) for v in clip_box(hiding, camera.width, camera.height))
    if x1 <= x0 or y1 <= y0:
        return image
    x, y = rng.integers(0, np.array([camera.width, camera.height]) - (x1 - x0, y1 - y0) + 1)
    made = image.copy()
    other = image[y : y + y1 - y0, x : x + x1 - x0]
    made[y0:y1, x0:x1] = other if rng.random() < 0.5 else rng.integers(0, 256, 3)
    return made
