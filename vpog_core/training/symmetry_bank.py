"""Symmetries of training objects, found once for each mesh and kept beside it in the bank."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.symmetry_search import find_symmetry
from vpog_core.training.disk_cache import made_once

RULE = "symmetry-1"
"""The folder of a mesh's symmetry; another one when the search finds others than before."""
FILE = "symmetry.json"


def bank_symmetry(folder: Path, mesh: Callable[[], Mesh]) -> Symmetry:
    """Return the symmetry of the mesh whose folder this is; it is searched for where it is not there yet."""

    def make(place: Path) -> None:
        (place / FILE).write_text(json.dumps(find_symmetry(mesh()).settings()))

    return Symmetry.from_mapping(json.loads((made_once(folder / RULE, make) / FILE).read_text()))


def has_symmetry(folder: Path) -> bool:
    """Tell whether the symmetry has been searched for."""
    return (folder / RULE).is_dir()
