"""Meshes and templates of the training objects on disk: made once, templates read by memory map."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np

from vpog_core.geometry.camera import BOX_PADDING
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import DEFAULT_LIGHT, Renderer
from vpog_core.objects.template_set import FORMAT, TEMPLATE_DISTANCE, template_camera
from vpog_core.objects.viewpoints import viewpoint_directions
from vpog_core.training.disk_cache import made_once


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
    """The mesh's templates, rendered into a folder below `folder` unless they are there already.

    `folder` stands for one mesh; another size, or another rule templates follow, is another folder below it.
    """
    return open_templates(made_once(templates_folder(folder, size), lambda f: _render(mesh, f, size)))


def templates_folder(folder: Path, size: int) -> Path:
    """Where the templates of a mesh's folder lie, in today's rule."""
    return folder / f"{size}-{_rule()}"


@lru_cache(maxsize=1)
def _rule() -> str:
    parts = (FORMAT, TEMPLATE_DISTANCE, BOX_PADDING, DEFAULT_LIGHT, viewpoint_directions().round(9).tolist())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def open_templates(folder: Path) -> BankedTemplates:
    """What lies in a templates folder; pictures stay on disk until they are looked at."""
    with np.load(folder / "cameras.npz") as cameras:
        return BankedTemplates(
            np.load(folder / "rgb.npy", mmap_mode="r"),
            np.load(folder / "depth.npy", mmap_mode="r"),
            cameras["K"],
            cameras["T_virt_obj"],
            float(cameras["diameter"]),
        )


def _render(mesh: Mesh, folder: Path, size: int) -> None:
    renderer = Renderer(mesh)
    cameras = [template_camera(mesh, direction, size) for direction in viewpoint_directions()]
    renders = [renderer.render(T, K, (size, size)) for K, T in cameras]
    np.save(folder / "rgb.npy", np.stack([r.rgb for r in renders]))
    np.save(folder / "depth.npy", np.stack([r.depth for r in renders]).astype(np.float16))
    K, T = (np.stack(values) for values in zip(*cameras, strict=True))
    np.savez(folder / "cameras.npz", K=K, T_virt_obj=T, diameter=mesh.diameter)


def write_mesh(mesh: Mesh, path: Path) -> None:
    """A mesh as arrays: quicker to read than the file it came from."""
    values = {f.name: getattr(mesh, f.name) for f in fields(mesh)}
    np.savez(path, **{name: value for name, value in values.items() if isinstance(value, np.ndarray)})


def read_mesh(path: Path) -> Mesh:
    """What `write_mesh` wrote."""
    with np.load(path) as data:
        return Mesh(**{name: data[name] for name in data.files})
