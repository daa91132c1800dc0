"""Render queries on the fly: of mesh files, Google Scanned Objects and procedural objects."""

from __future__ import annotations

import numpy as np

from vpog_core.geometry.se3 import rotation_z, transform
from vpog_core.objects.template_set import template_camera
from vpog_core.objects.viewpoints import align_roll
from vpog_core.training.synthesis.query_composer import compose
from vpog_core.training.synthesis.query_pose import (
    DISTANCES,
    WIDE,
    QueryPose,
    direction_near,
    unit,
)
from vpog_core.training.synthesis.scene_assets import SceneAssets
from vpog_core.training.synthesis.training_object import TrainingObject


class RenderedQueries:
    """Renders queries of any object from any direction.

    Args:
        assets: what surrounds the object; size: side of the crops, pixels.
    """

    def __init__(self, assets: SceneAssets, size: int) -> None:
        self.assets, self.size = assets, size

    def pose(self, rng: np.random.Generator, obj: TrainingObject, refined: bool) -> QueryPose:
        """Draw a direction; each query draws its own distance, those of a refined sample share one."""
        return QueryPose(unit(rng.normal(size=3)), draw_distance(rng) if refined else None)

    def queries(
        self, rng: np.random.Generator, obj: TrainingObject, pose: QueryPose, R_ref: np.ndarray, count: int
    ) -> list[dict[str, np.ndarray]]:
        """Compose and crop each query by itself."""
        return [self._query(rng, obj, pose, R_ref) for _ in range(count)]

    def _query(
        self, rng: np.random.Generator, obj: TrainingObject, pose: QueryPose, R_ref: np.ndarray
    ) -> dict[str, np.ndarray]:
        wide = rng.random() < WIDE
        direction = direction_near(rng, pose.anchor, pose.spread(wide))
        distance = pose.distance or draw_distance(rng)
        turn = pose.turn(rng, wide)
        T = template_camera(obj.mesh, direction, self.size, distance=distance)[1]
        T = transform(rotation_z(align_roll(T[:3, :3], R_ref) + turn), np.zeros(3)) @ T
        query = compose(rng, obj.renderer, T, self.size, self.assets)
        return {
            "query_rgb": query.rgb,
            "query_depth": query.depth,
            "query_K": query.K,
            "query_T": query.T_virt_obj,
            "query_outside": query.outside,
        }


def draw_distance(rng: np.random.Generator) -> float:
    """Draw a distance of the camera from the object, in diameters."""
    return float(np.exp(rng.uniform(*np.log(DISTANCES))))
