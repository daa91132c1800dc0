"""Perturb true poses to the wrong ones that a refiner corrects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpog_core.geometry.se3 import rotation_from_vector, transform
from vpog_core.inference.render_and_compare import MAX_TURN
from vpog_core.types import VPOGError

MAX_DISTANCE_ERROR = 0.25
"""Largest relative error of the distance that is drawn."""
OTHER_VIEW = MAX_TURN
"""A pose that is turned by more shows another view, from which a refiner cannot get to the true one."""


@dataclass(frozen=True)
class PerturbationConfig:
    """Declares how far the poses that are to be refined are from the true ones.

    Attributes:
        rotation_deg: largest angle of the rotation error; angles are even between zero and this.
        distance: standard deviation of the relative error of the distance.
        shift: standard deviation of the error across the viewing direction, fraction of the diameter.
        small_fraction: of the poses of the same view, how many are off by little, as late rounds meet them.
        small: their errors over those of the others.
        other_views: of the poses, how many show any other view of the object, as wrong hypotheses do; the
            refiner learns from them that the image shows nothing of what they show.
    """

    rotation_deg: float = 35.0
    distance: float = 0.07
    shift: float = 0.06
    small_fraction: float = 0.35
    small: float = 0.2
    other_views: float = 0.2

    def __post_init__(self) -> None:
        for name, high in (("rotation_deg", 180), ("distance", 0.2), ("shift", 1), ("small_fraction", 1),
                           ("small", 1), ("other_views", 1)):  # fmt: skip
            if not 0 <= getattr(self, name) <= high:
                raise VPOGError(f"perturbation.{name} is {getattr(self, name)}: give 0 to {high}.")


def perturb(
    rng: np.random.Generator,
    T_cam_obj: np.ndarray,
    center: np.ndarray,
    diameter: float,
    config: PerturbationConfig,
) -> np.ndarray:
    """Return a pose [4, 4] near T_cam_obj [4, 4], or one of another view at nearly the same place.

    The object is turned about its middle, moved along the ray to it, and moved across that ray.

    Args:
        center: [3] metres, middle of the object in its own frame; diameter: metres.
    """
    is_other = rng.random() < config.other_views
    scale = config.small if not is_other and rng.random() < config.small_fraction else 1.0
    axis = rng.normal(size=3)
    limits = (OTHER_VIEW, np.pi) if is_other else (0.0, scale * np.radians(config.rotation_deg))
    angle = rng.uniform(*limits)
    R = rotation_from_vector(axis / np.linalg.norm(axis) * angle) @ T_cam_obj[:3, :3]
    middle = T_cam_obj[:3, :3] @ center + T_cam_obj[:3, 3]
    farther = np.clip(scale * config.distance * rng.normal(), -MAX_DISTANCE_ERROR, MAX_DISTANCE_ERROR)
    across = scale * config.shift * diameter * rng.normal(size=3)
    across[2] = 0.0
    return transform(R, middle * (1 + farther) + across - R @ center)
