"""Make training pairs of a refiner: an image of an object, and its render at a wrong pose in that frame.

Of the true poses of a symmetric object, which all look alike, the one nearest to the start is the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch.utils.data import Dataset

from vpog_core.geometry.camera import VirtualCamera
from vpog_core.geometry.framing import frame_hull
from vpog_core.geometry.se3 import rotation_z, transform, transform_points
from vpog_core.objects.renderer import Render
from vpog_core.objects.template_set import template_camera
from vpog_core.training.data.batch import RefinerBatch
from vpog_core.training.data.vpog_dataset import degrade_inside, object_probabilities
from vpog_core.training.synthesis.appearance import (
    OWN_COLOURS,
    AppearanceParams,
    appearance_generator,
    sample_appearance,
)
from vpog_core.training.synthesis.pose_perturbation import PerturbationConfig, perturb
from vpog_core.training.synthesis.query_composer import compose
from vpog_core.training.synthesis.rendered_queries import draw_distance
from vpog_core.training.synthesis.scene_assets import SceneAssets
from vpog_core.training.synthesis.training_object import TrainingObject
from vpog_core.types import VPOGError

MAX_ATTEMPTS = 20
"""Poses that are drawn until one can be framed; the first nearly always can."""


class RefinerDataset(Dataset):
    """Provides pairs of image and render; item i is drawn by (seed, i): the same on every run.

    Args:
        objects: what is drawn from; assets: backgrounds, clutter and light.
        size: side of image and render, pixels; seed: of everything random.
        perturbation: how far the rendered poses are off.
        length: items.
        weights: pairs drawn from each kind of object, relative; None: every object alike.
        photometry: lens, sensor and file effects are applied here.
        appearances: how often objects have which appearance.
    """

    batch_type = RefinerBatch

    def __init__(
        self,
        objects: Sequence[TrainingObject],
        assets: SceneAssets,
        size: int,
        perturbation: PerturbationConfig,
        seed: int = 0,
        length: int = 100_000_000,
        weights: Mapping[str, float] | None = None,
        photometry: bool = True,
        appearances: AppearanceParams = OWN_COLOURS,
    ) -> None:
        self.objects, self.assets, self.size = objects, assets, size
        self.perturbation, self.seed, self.length, self.photometry = perturbation, seed, length, photometry
        self.appearances = appearances
        self._probabilities = (
            object_probabilities([obj.kind for obj in objects], weights) if weights else None
        )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Return the arrays of one pair: a `RefinerBatch` without its first axis."""
        # Draw the object, its appearance, a true pose and a wrong one.
        rng = np.random.default_rng([self.seed, index])
        obj = self.objects[rng.choice(len(self.objects), p=self._probabilities)]
        obj = sample_appearance(
            appearance_generator(self.seed, index), obj, self.appearances, self.assets.photos
        )
        T_true, T_start, frame = self._poses(rng, obj)
        # Compose the image at the true pose, and render the object at the wrong one.
        query = compose(rng, obj.renderer, T_true, self.size, self.assets, frame=frame)
        T_start = transform(frame.R_virt_cam, np.zeros(3)) @ T_start
        render = self._render(obj, T_start, frame.K)
        # Choose the equivalent true pose nearest to the wrong one; degrade the image.
        T_true = obj.symmetry.nearest(query.T_virt_obj, T_start)
        image = degrade_inside(rng, query.rgb, query.outside) if self.photometry else query.rgb
        floats = {
            "render_normals": render.normals @ T_start[:3, :3].T,
            "render_depth": render.depth, "image_depth": query.depth, "K": frame.K,
            "T_true": T_true, "T_start": T_start, "diameter": np.array(obj.mesh.diameter),
        }  # fmt: skip
        return {"image_rgb": image, "render_rgb": render.rgb, "image_outside": query.outside} | {
            key: value.astype(np.float32) for key, value in floats.items()
        }

    def _poses(
        self, rng: np.random.Generator, obj: TrainingObject
    ) -> tuple[np.ndarray, np.ndarray, VirtualCamera]:
        """Draw a true pose and one near it, and frame the latter."""
        mesh = obj.mesh
        for _ in range(MAX_ATTEMPTS):
            T_true = random_pose(rng, mesh, self.size)
            T_start = perturb(rng, T_true, mesh.center, mesh.diameter, self.perturbation)
            frame = frame_hull(transform_points(T_start, mesh.hull_points), self.size)
            if frame is not None:
                return T_true, T_start, frame
        raise VPOGError(f"No view of the object '{obj.name}' can be framed: leave it out.")

    def _render(self, obj: TrainingObject, T: np.ndarray, K: np.ndarray) -> Render:
        return obj.renderer.render(T, K, (self.size, self.size))


def random_pose(rng: np.random.Generator, mesh, size: int) -> np.ndarray:
    """Return T_cam_obj [4, 4] of an object seen from anywhere, at any roll, at the distances of cameras."""
    direction = rng.normal(size=3)
    T = template_camera(mesh, direction, size, distance=draw_distance(rng))[1]
    return transform(rotation_z(rng.uniform(-np.pi, np.pi)), np.zeros(3)) @ T
