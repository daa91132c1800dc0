"""Write meshes to files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from vpog_core.objects.triangle_mesh import Mesh
from vpog_core.types import VPOGError


def save_mesh(mesh: Mesh, path: str | Path) -> None:
    """Write a mesh, in metres, with its normals: .glb keeps the texture, .ply and .glb keep vertex colours.

    Raises:
        VPOGError: another suffix, or a texture that .ply would lose.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".ply", ".glb"):
        raise VPOGError(f"Meshes are written as .ply or .glb, not as '{path.name}': choose one of these.")
    if suffix == ".ply" and mesh.uv is not None and mesh.texture is not None:
        raise VPOGError(f"A textured mesh does not fit into '{path.name}': write it as .glb.")
    out = _as_trimesh(mesh)
    normals = mesh.corner_normals is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".ply":
        path.write_bytes(out.export(file_type="ply", vertex_normal=normals))
    else:
        path.write_bytes(out.export(file_type="glb", include_normals=normals))


def save_meshes(meshes: Mapping[str, Mesh], folder: str | Path) -> None:
    """Write meshes, in metres, as the objects of a folder: NAME.ply each."""
    for name, mesh in meshes.items():
        save_mesh(mesh, Path(folder) / f"{name}.ply")


def _as_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    """Return one vertex for each different position, uv and normal, as the formats want it."""
    textured = mesh.uv is not None and mesh.texture is not None
    corners = mesh.faces.reshape(-1)
    keys = [corners[:, None].astype(np.int64)]
    if textured:
        keys.append(np.round(mesh.uv.reshape(-1, 2) * 2.0**20).astype(np.int64))
    if mesh.corner_normals is not None:
        keys.append(np.round(mesh.corner_normals.reshape(-1, 3) * 2.0**15).astype(np.int64))
    if len(keys) == 1:
        colors = _colors(mesh)
        return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colors, process=False)
    _, first, inverse = np.unique(
        np.concatenate(keys, axis=1), axis=0, return_index=True, return_inverse=True
    )
    visual = trimesh.visual.ColorVisuals(vertex_colors=_colors(mesh)[corners[first]])
    if textured:
        material = trimesh.visual.material.PBRMaterial(
            baseColorTexture=Image.fromarray(mesh.texture), metallicFactor=0.0, roughnessFactor=0.8
        )
        visual = trimesh.visual.TextureVisuals(uv=mesh.uv.reshape(-1, 2)[first], material=material)
    normals = None if mesh.corner_normals is None else mesh.corner_normals.reshape(-1, 3)[first]
    vertices, faces = mesh.vertices[corners[first]], inverse.reshape(-1, 3)
    return trimesh.Trimesh(vertices, faces, vertex_normals=normals, visual=visual, process=False)


def _colors(mesh: Mesh) -> np.ndarray:
    """Return [V, 3] uint8."""
    if mesh.vertex_colors is not None:
        return mesh.vertex_colors
    return np.broadcast_to(mesh.base_color, mesh.vertices.shape)
