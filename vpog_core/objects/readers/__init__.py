"""Read mesh files: each reader turns one format into parts, `objects.mesh.load_mesh` makes them a mesh."""

from __future__ import annotations

from collections.abc import Callable

from vpog_core.objects.readers.gltf import read_gltf
from vpog_core.objects.readers.mesh_file import MeshFile
from vpog_core.objects.readers.obj import read_obj
from vpog_core.objects.readers.part import Part
from vpog_core.objects.readers.ply import read_ply
from vpog_core.objects.readers.stl import read_stl

READERS: dict[str, Callable[[MeshFile], list[Part]]] = {
    ".ply": read_ply,
    ".obj": read_obj,
    ".glb": read_gltf,
    ".gltf": read_gltf,
    ".stl": read_stl,
}
"""Reader of a file, by its suffix in small letters."""
