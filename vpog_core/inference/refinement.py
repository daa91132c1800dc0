"""Templates at a known pose: render the object there, and match with what is nearly right."""

from __future__ import annotations

import numpy as np

from vpog_core.geometry.se3 import rotation_angle
from vpog_core.inference.onboarding import Cluster, OnboardedObject
from vpog_core.inference.solution import Solution
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.objects.viewpoints import align_roll

SETTLED_ROTATION = np.radians(0.3)
SETTLED_SHIFT = 0.002
"""A refined pose that moved less than this (share of the distance) and turned less is where it will stay."""
NEAREST, FARTHEST = 1.0, 100.0
"""Distances (diameters) templates are rendered from: nearer no pose makes sense, farther all look alike."""


def cluster_at(target: OnboardedObject, renderer: Renderer, solution: Solution, size: int) -> Cluster:
    """The cluster of `cluster_at_pose` at a solution's pose."""
    return cluster_at_pose(target, renderer, solution.pnp.T_virt_obj, size)


def cluster_at_pose(
    target: OnboardedObject, renderer: Renderer, T_virt_obj: np.ndarray, size: int
) -> Cluster:
    """A cluster whose reference is a template rendered for a pose [4, 4]: its direction, roll and distance.

    It is framed as all templates are, and as the network saw rendered references in training. The other
    `size` - 1 views are the nearest templates.
    """
    mesh, side = renderer.mesh, target.templates.size
    to_camera = -T_virt_obj[:3, :3].T @ T_virt_obj[:3, 3] - mesh.center
    distance = float(np.linalg.norm(to_camera))
    direction = to_camera / distance
    diameters = float(np.clip(distance / mesh.diameter, NEAREST, FARTHEST))
    level = template_camera(mesh, direction, side, distance=diameters)[1]
    roll = align_roll(level[:3, :3], T_virt_obj[:3, :3])
    K, T_template = template_camera(mesh, direction, side, roll=roll, distance=diameters)
    render = renderer.render(T_template, K, (side, side))
    coords = render.coords.copy()
    coords[~render.mask] = np.nan
    R_ref = T_template[:3, :3]
    around = target.neighbours(direction, R_ref, size - 1)
    return Cluster(
        rgb=np.concatenate([render.rgb[None], around.rgb]),
        coords=np.concatenate([coords[None], around.coords]),
        directions=np.concatenate([(R_ref @ direction).astype(np.float32)[None], around.directions]),
    )


def settled(before: Solution, after: Solution) -> bool:
    """Whether another refinement would change next to nothing."""
    A, B = before.pnp.T_virt_obj, after.pnp.T_virt_obj
    shift = np.linalg.norm(A[:3, 3] - B[:3, 3]) / max(np.linalg.norm(A[:3, 3]), 1e-9)
    return bool(rotation_angle(A[:3, :3], B[:3, :3]) < SETTLED_ROTATION and shift < SETTLED_SHIFT)
