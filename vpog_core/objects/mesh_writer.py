"""Meshes written to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import trimesh

from vpog_core.types import VPOGError

if TYPE_CHECKING:
    from vpog_core.objects.mesh import Mesh


def save_mesh(mesh: Mesh, path: str | Path) -> None:
    """Write a mesh, in metres: .glb keeps the texture, .ply and .glb keep vertex colours.

    Raises:
        VPOGError: another suffix, or a texture that .ply would lose.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".ply", ".glb"):
        raise VPOGError(f"Meshes are written as .ply or .glb, not as '{path.name}': choose one of these.")
    if mesh.uv is not None and mesh.texture is not None:
        if suffix == ".ply":
            raise VPOGError(f"A textured mesh does not fit into '{path.name}': write it as .glb.")
        out = _textured_trimesh(mesh)
    else:
        colors = mesh.vertex_colors
        if colors is None:
            colors = np.broadcast_to(mesh.base_color, mesh.vertices.shape)
        out = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colors, process=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.export(file_type=suffix[1:]))


def _textured_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    """One vertex for each different (position, uv) pair."""
    from PIL import Image

    corner_uv = mesh.uv.reshape(-1, 2)
    key = np.column_stack([mesh.faces.reshape(-1), np.round(corner_uv * 2**20).astype(np.int64)])
    _, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(mesh.texture), metallicFactor=0.0, roughnessFactor=0.8
    )
    visual = trimesh.visual.TextureVisuals(uv=corner_uv[first], material=material)
    vertices = mesh.vertices[mesh.faces.reshape(-1)[first]]
    return trimesh.Trimesh(vertices, inverse.reshape(-1, 3), visual=visual, process=False)
