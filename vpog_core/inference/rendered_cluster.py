"""Render templates at an estimated pose, to match the crop again with nearly correct views."""

from __future__ import annotations

import numpy as np

from vpog_core.geometry.se3 import is_within
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.onboarding import Cluster, OnboardedObject
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.objects.viewpoints import align_roll

CONVERGED_ROTATION = np.radians(0.3)
CONVERGED_SHIFT = 0.002
"""A refinement that turns a pose less than this, and moves it less (fraction of the distance), ends it."""
NEAREST, FARTHEST = 1.0, 100.0
"""Range of distances (diameters) that templates are rendered from."""


def cluster_at_pose(
    target: OnboardedObject, renderer: Renderer, T_virt_obj: np.ndarray, size: int
) -> Cluster:
    """Make a cluster whose reference is a template rendered for a pose: its direction, roll and distance.

    The reference is framed as all templates are, and as the network saw rendered references in training. The
    other `size` - 1 views are the nearest templates.

    Args:
        T_virt_obj: [4, 4] of the crop's virtual camera.
    """
    # Frame the pose as a template: direction, distance and roll.
    mesh, side = renderer.mesh, target.templates.size
    to_camera = -T_virt_obj[:3, :3].T @ T_virt_obj[:3, 3] - mesh.center
    distance = float(np.linalg.norm(to_camera))
    direction = to_camera / distance
    diameters = float(np.clip(distance / mesh.diameter, NEAREST, FARTHEST))
    level = template_camera(mesh, direction, side, distance=diameters)[1]
    roll = align_roll(level[:3, :3], T_virt_obj[:3, :3])
    K, T_template = template_camera(mesh, direction, side, roll=roll, distance=diameters)
    # Render it as the reference.
    render = renderer.render(T_template, K, (side, side))
    coords = render.coords.copy()
    coords[~render.mask] = np.nan
    # Add the nearest templates, turned like it.
    R_ref = T_template[:3, :3]
    around = target.neighbours(direction, R_ref, size - 1)
    return Cluster(
        rgb=np.concatenate([render.rgb[None], around.rgb]),
        coords=np.concatenate([coords[None], around.coords]),
        directions=np.concatenate([(R_ref @ direction).astype(np.float32)[None], around.directions]),
    )


def has_converged(before: PoseHypothesis, after: PoseHypothesis, middle: np.ndarray) -> bool:
    """Tell whether a refinement moved the pose so little that another one is not needed.

    Args:
        middle: [3] of the object, in its frame.
    """
    return is_within(before.T_virt_obj, after.T_virt_obj, middle, CONVERGED_ROTATION, CONVERGED_SHIFT)
