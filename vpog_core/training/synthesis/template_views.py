"""Render the templates of a training object, when a sample needs them."""

from __future__ import annotations

import cv2
import numpy as np

from vpog_core.geometry.camera import roll_matrix
from vpog_core.geometry.se3 import rotation_z, transform
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.objects.viewpoints import align_roll, viewpoint_directions
from vpog_core.training.synthesis.template_selector import Selection


def render_templates(renderer: Renderer, selection: Selection, size: int) -> dict[str, np.ndarray]:
    """Render T of the 162 views, each turned in the image by its roll, as inference turns its templates.

    Depth is rendered for the S views of the cluster alone: the others cost two thirds of these. Rolls may
    have been chosen for upright cameras; those of the cluster are made exact for the cameras that look.

    Args:
        selection: views [T] and rolls [T] (radians), the reference first; size: P, side of an image, pixels.

    Returns:
        template_rgb [T, P, P, 3] uint8, template_T [T, 4, 4], template_depth [S, P, P] metres,
        template_K [S, 3, 3]; without a cluster the first two alone.
    """
    directions, shape = viewpoint_directions(), (size, size)
    out = {"template_rgb": [], "template_depth": [], "template_K": [], "template_T": []}
    for n, (view, roll) in enumerate(zip(selection.views, selection.rolls, strict=True)):
        K, T = template_camera(renderer.mesh, directions[view], size)
        if 0 < n < selection.cluster:
            roll = align_roll(T[:3, :3], out["template_T"][0][:3, :3])
        turn = roll_matrix(roll, size)
        if n < selection.cluster:
            render = renderer.render(T, K, shape)
            rgb = render.rgb
            out["template_depth"].append(cv2.warpAffine(render.depth, turn, shape, flags=cv2.INTER_NEAREST))
            out["template_K"].append(K)
        else:
            rgb = renderer.render_rgb(T, K, shape)
        out["template_rgb"].append(cv2.warpAffine(rgb, turn, shape))
        out["template_T"].append(transform(rotation_z(roll), np.zeros(3)) @ T)
    return {key: np.stack(values) for key, values in out.items() if values}
