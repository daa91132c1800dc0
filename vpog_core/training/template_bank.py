"""Templates of the training objects on disk: rendered once, read by memory map."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.objects.viewpoints import viewpoint_directions


@dataclass
class BankedTemplates:
    """All views of one object; V = 162, P = side in pixels.

    Attributes:
        rgb: [V, P, P, 3] uint8; depth: [V, P, P] float16 metres, 0 = background.
        K: [V, 3, 3]; T_virt_obj: [V, 4, 4] float64.
        diameter: metres.
    """

    rgb: np.ndarray
    depth: np.ndarray
    K: np.ndarray
    T_virt_obj: np.ndarray
    diameter: float


def bank_templates(mesh: Mesh, folder: Path, size: int) -> BankedTemplates:
    """The object's templates, rendered into `folder` unless they are there already."""
    if not (folder / "cameras.npz").is_file():
        _render(mesh, folder, size)
    with np.load(folder / "cameras.npz") as cameras:
        return BankedTemplates(
            np.load(folder / "rgb.npy", mmap_mode="r"),
            np.load(folder / "depth.npy", mmap_mode="r"),
            cameras["K"],
            cameras["T_virt_obj"],
            mesh.diameter,
        )


def _render(mesh: Mesh, folder: Path, size: int) -> None:
    renderer = Renderer(mesh)
    cameras = [template_camera(mesh, direction, size) for direction in viewpoint_directions()]
    renders = [renderer.render(T, K, (size, size)) for K, T in cameras]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "rgb.npy", np.stack([r.rgb for r in renders]))
    np.save(folder / "depth.npy", np.stack([r.depth for r in renders]).astype(np.float16))
    partial = folder / "partial.npz"
    np.savez(partial, K=[K for K, _ in cameras], T_virt_obj=[T for _, T in cameras])
    os.replace(partial, folder / "cameras.npz")
