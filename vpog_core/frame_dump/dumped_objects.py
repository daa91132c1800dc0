"""Store the objects of a dump: their meshes as in memory, so that the same templates are rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from vpog_core.frame_dump.values import read_symmetry_values, symmetry_values
from vpog_core.objects.library import ObjectLibrary, default_cache_dir
from vpog_core.objects.library_entries import ObjectEntry
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.mesh_arrays import read_mesh, write_mesh
from vpog_core.types import VPOGError
from vpog_core.utils.fingerprint import ReadFile


def object_path(folder: Path, number: int) -> Path:
    """Return where the mesh of an object of a dump is; names of objects may hold anything."""
    return folder / f"object_{number}.npz"


def write_object(folder: Path, number: int, library: ObjectLibrary, object_id: str) -> dict:
    """Write an object's mesh, and return its entry in the dump's JSON."""
    mesh = library.mesh(object_id)
    write_mesh(mesh, object_path(folder, number), compress=True)
    return {
        "name": object_id,
        "symmetry": symmetry_values(library.symmetry(object_id)),
        "vertices": len(mesh.vertices),
        "diameter": mesh.diameter,
        "fingerprint": library.fingerprint(object_id, "dump"),
        "file": mesh.files[0].path.name if mesh.files else "",
    }


class DumpedObjects(ObjectLibrary):
    """Provides the objects of a dump as a library; nothing outside the dump is read."""

    def __init__(self, folder: Path, objects: list[Mapping], cache_dir: Path | None = None) -> None:
        """Read the meshes of a dump.

        Args:
            cache_dir: where templates are kept; None: the user's cache folder.

        Raises:
            VPOGError: a mesh is missing or broken.
        """
        self.folder, self.cache_dir = folder, cache_dir or default_cache_dir()
        self.entries, self._meshes = {}, {}
        for number, values in enumerate(objects):
            path, name = object_path(folder, number), str(values["name"])
            self._meshes[name] = _read_mesh(path)
            self.entries[name] = ObjectEntry(name, path, "m", read_symmetry_values(values["symmetry"]), ())
        self._names = {name: name for name in self.entries}
        self._broken, self._templates = {}, {}
        self._paths, self._outdated = {}, {}


def _read_mesh(path: Path) -> Mesh:
    try:
        if path.is_symlink():
            raise ValueError("it is a link")
        mesh = replace(read_mesh(path), files=(ReadFile.of(path),))
        _check(mesh)
    except OSError as error:
        raise VPOGError(f"The mesh '{path}' of the dump cannot be read ({error}): copy it again.") from error
    except (ValueError, TypeError, KeyError, EOFError) as error:
        raise VPOGError(f"The mesh '{path}' of the dump is broken ({error}): copy it again.") from error
    return mesh


def _check(mesh: Mesh) -> None:
    """Raise ValueError where the arrays of a mesh do not belong together."""
    count, faces = len(mesh.vertices), mesh.faces
    shapes = {
        "vertices": (count, 3),
        "faces": (len(faces), 3),
        "vertex_colors": (count, 3),
        "uv": (len(faces), 3, 2),
        "base_color": (3,),
        "corner_normals": (len(faces), 3, 3),
    }
    for name, shape in shapes.items():
        array = getattr(mesh, name)
        if array is not None and array.shape != shape:
            raise ValueError(f"{name} are {array.shape} and not {shape}")
    if mesh.texture is not None and (mesh.texture.ndim != 3 or mesh.texture.shape[2] != 3):
        raise ValueError(f"texture is {mesh.texture.shape}")
    if not np.isfinite(mesh.vertices).all() or not len(faces) or faces.min() < 0 or faces.max() >= count:
        raise ValueError("vertices or faces are out of range")
