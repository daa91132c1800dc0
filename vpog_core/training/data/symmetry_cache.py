"""Find the symmetries of training objects once for each mesh, and keep them beside it in the cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.symmetry_search import find_symmetry
from vpog_core.utils.disk_cache import build_once

OWN, SHAPE = "symmetry-1", "shape-symmetry-1"
"""Folders of a mesh's symmetries; increase the number when the search changes."""
FILE = "symmetry.json"


def cached_symmetries(folder: Path, mesh: Callable[[], Mesh]) -> tuple[Symmetry, Symmetry]:
    """Return the symmetry of a mesh in its own colours, and of its bare shape.

    Args:
        folder: of the mesh in the cache; symmetries that are not there yet are searched for. mesh: reads it.
    """

    def find_shape(place: Path) -> None:
        bare = replace(mesh(), vertex_colors=None, uv=None, texture=None)
        (place / FILE).write_text(json.dumps(find_symmetry(bare).settings()))

    shape = _read(build_once(folder / SHAPE, find_shape))

    def find_own(place: Path) -> None:
        # Colours can only remove symmetries of the shape.
        found = {} if shape.is_trivial else find_symmetry(mesh()).settings()
        (place / FILE).write_text(json.dumps(found))

    return _read(build_once(folder / OWN, find_own)), shape


def _read(place: Path) -> Symmetry:
    return Symmetry.from_mapping(json.loads((place / FILE).read_text()))
