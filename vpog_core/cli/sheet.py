"""Draw an object's template views on one sheet, and describe its mesh in a line."""

from __future__ import annotations

import numpy as np

from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.objects.viewpoints import nearest_viewpoints, viewpoint_directions


def template_sheet(mesh: Mesh, rows: int = 4, columns: int = 6, size: int = 160) -> np.ndarray:
    """Render an RGB uint8 image of `rows` x `columns` views: top row from above, bottom row from below."""
    renderer, directions = Renderer(mesh), viewpoint_directions()
    sheet = np.full((rows * (size + 4) + 4, columns * (size + 4) + 4, 3), 28, np.uint8)
    for row, elevation in enumerate(np.linspace(60, -60, rows) if rows > 1 else [30.0]):
        for column in range(columns):
            wanted = _direction(np.deg2rad(elevation), 2 * np.pi * column / columns)
            direction = directions[nearest_viewpoints(wanted, 1)[0]]
            K, T_virt_obj = template_camera(mesh, direction, size)
            y, x = 4 + row * (size + 4), 4 + column * (size + 4)
            sheet[y : y + size, x : x + size] = renderer.render(T_virt_obj, K, (size, size)).rgb
    return sheet


def _direction(elevation: float, azimuth: float) -> np.ndarray:
    c = np.cos(elevation)
    return np.array([c * np.cos(azimuth), c * np.sin(azimuth), np.sin(elevation)])


def mesh_description(object_id: str, mesh: Mesh) -> str:
    """Tell the size of an object and what its mesh holds, in one line."""
    width, depth, height = 1e3 * np.ptp(mesh.bounds, axis=0)
    return (
        f"{object_id}: {width:.1f} x {depth:.1f} x {height:.1f} mm, "
        f"diameter {1e3 * mesh.diameter:.1f} mm, {len(mesh.vertices)} vertices, "
        f"{len(mesh.faces)} faces, {_colouring(mesh)}"
    )


def _colouring(mesh: Mesh) -> str:
    if mesh.uv is not None and mesh.texture is not None:
        return f"texture {mesh.texture.shape[1]}x{mesh.texture.shape[0]}"
    return "colours per vertex" if mesh.vertex_colors is not None else "one plain colour"
