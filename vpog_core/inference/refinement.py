"""Refinement: render the object at the pose found, and match again with a template that is nearly right."""

from __future__ import annotations

import numpy as np

from vpog_core.inference.cluster_mode import Solution
from vpog_core.inference.onboarding import Cluster, OnboardedObject, encode_images
from vpog_core.objects.renderer import Renderer


def cluster_at(target: OnboardedObject, renderer: Renderer, solution: Solution, size: int) -> Cluster:
    """A cluster whose reference is what the crop's own camera would see of the object at a solution's pose.

    The other `size` - 1 views are the nearest templates.
    """
    T_virt_obj, virtual = solution.pnp.T_virt_obj, solution.crop.virtual
    render = renderer.render(T_virt_obj, virtual.K, (virtual.size, virtual.size))
    coords = render.coords.copy()
    coords[~render.mask] = np.nan
    to_camera = -T_virt_obj[:3, :3].T @ T_virt_obj[:3, 3] - renderer.mesh.center
    direction = to_camera / np.linalg.norm(to_camera)
    around = target.neighbours(direction, T_virt_obj[:3, :3], size - 1)
    towards = (T_virt_obj[:3, :3] @ direction).astype(np.float32)
    rgb = np.concatenate([render.rgb[None], around.rgb])
    return Cluster(
        rgb=rgb,
        coords=np.concatenate([coords[None], around.coords]),
        directions=np.concatenate([towards[None], around.directions]),
        encoded=encode_images(target.model, rgb),
    )
