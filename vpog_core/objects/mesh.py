"""Load meshes, in metres; `Mesh`, `save_mesh` and `save_meshes` are found here, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vpog_core.objects.mesh_checks import UNITS, area_of, check_size, checked_normals, checked_surface
from vpog_core.objects.mesh_writer import save_mesh, save_meshes
from vpog_core.objects.readers import READERS
from vpog_core.objects.readers.mesh_file import MeshFile
from vpog_core.objects.readers.part import Part, compact, merge
from vpog_core.objects.triangle_mesh import Mesh
from vpog_core.types import VPOGError

__all__ = ["MESH_SUFFIXES", "UNITS", "Mesh", "load_mesh", "save_mesh", "save_meshes"]

MESH_SUFFIXES = tuple(READERS)


def load_mesh(path: str | Path, unit: str = "auto", assets: str | Path | None = None) -> Mesh:
    """Read a mesh and bring it to metres.

    Scenes are merged into one mesh; several textures are packed into one atlas. What is left out or doubtful
    is said in the mesh's `notes`; docs/meshes.md lists what is read of each format.

    Args:
        path: a .ply (BOP's with `comment TextureFile`, too), .obj (+ .mtl), .glb, .gltf or .stl file.
        unit: "m", "cm" or "mm"; "auto" reads the numbers as metres and refuses what cannot be.
        assets: a second folder whose files materials and textures are looked up in, by their bare name.

    Raises:
        VPOGError: no such file, unknown format or unit, nothing in it, a feature that is not read, a size
            that shows a wrong unit, a texture that is missing, unreadable or outside the mesh's folder.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise VPOGError(
            f"The mesh '{path}' is not one of {', '.join(MESH_SUFFIXES)}: convert it to one of these."
        )
    if not path.is_file():
        raise VPOGError(f"There is no mesh file '{path}': check the path.")
    if unit not in ("auto", *UNITS):
        raise VPOGError(f"The unit '{unit}' of '{path.name}' is not known: use auto, {', '.join(UNITS)}.")
    file = MeshFile(path, None if assets is None else Path(assets))
    try:
        with np.errstate(all="ignore"):
            return _mesh(file, reader(file), unit)
    except VPOGError:
        raise
    except Exception as error:  # Broken files make readers raise nearly anything; the user gets one sentence.
        raise file.broken(f"{type(error).__name__}: {str(error)[:100]}") from error


def _mesh(file: MeshFile, parts: list[Part], unit: str) -> Mesh:
    parts = [part for part in parts if len(part.faces)]
    if not parts:
        raise file.error("holds no triangles: export a surface, not points or curves")
    if any(p.texture is not None for p in parts) and any(_varied(p.colors) for p in parts):
        file.note("has parts with vertex colours beside textured ones: they are drawn in their mean colour")
    whole = checked_surface(file, compact(merge(parts)))
    normals = checked_normals(whole)
    mesh = Mesh(
        whole.vertices * UNITS.get(unit, 1.0),
        whole.faces,
        whole.colors,
        None if whole.uv is None else whole.uv.astype(np.float32),
        whole.texture,
        whole.base_color,
        normals,
    )
    check_size(file, mesh.diameter, area_of(mesh.vertices, mesh.faces), mesh.center, unit)
    mesh.files, mesh.notes = file.files, file.notes
    return mesh


def _varied(colors: np.ndarray | None) -> bool:
    return colors is not None and bool((colors != colors[:1]).any())
