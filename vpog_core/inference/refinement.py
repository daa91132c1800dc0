"""Refinement: render the object at the pose found, and match again with a template that is nearly right."""

from __future__ import annotations

import numpy as np

from vpog_core.geometry.se3 import rotation_z, transform
from vpog_core.inference.cluster_mode import Solution
from vpog_core.inference.onboarding import Cluster, OnboardedObject, encode_images
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.objects.viewpoints import align_roll


def cluster_at(target: OnboardedObject, renderer: Renderer, solution: Solution, size: int) -> Cluster:
    """A cluster whose reference is rendered at a solution's pose, with the nearest templates around it."""
    T_virt_obj = solution.pnp.T_virt_obj
    mesh, side = renderer.mesh, solution.crop.virtual.size
    camera_obj = -T_virt_obj[:3, :3].T @ T_virt_obj[:3, 3]
    direction = camera_obj - mesh.center
    distance = float(np.linalg.norm(direction))
    direction = direction / distance
    K, T = template_camera(mesh, direction, side, distance=max(distance / mesh.diameter, 1.0))
    T = transform(rotation_z(align_roll(T[:3, :3], T_virt_obj[:3, :3])), np.zeros(3)) @ T
    render = renderer.render(T, K, (side, side))
    coords = render.coords.copy()
    coords[~render.mask] = np.nan
    neighbours = target.neighbours(direction, T[:3, :3], size - 1)
    return Cluster(
        rgb=np.concatenate([render.rgb[None], neighbours.rgb]),
        coords=np.concatenate([coords[None], neighbours.coords]),
        directions=np.concatenate([(T[:3, :3] @ direction)[None].astype(np.float32), neighbours.directions]),
        encoded=encode_images(target.model, np.concatenate([render.rgb[None], neighbours.rgb])),
    )
