"""Report objects that look symmetric without a declared symmetry: their poses flip."""

from __future__ import annotations

import contextlib
import json
import shlex
from pathlib import Path

from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.symmetry_search import find_symmetry
from vpog_core.utils.atomic_file import atomic_write
from vpog_core.utils.fingerprint import safe_name

RULE = "symmetry-1"
"""Increase it when the search finds other symmetries than before."""


def symmetry_hint(library: ObjectLibrary, class_id: str, mesh: str | Path | None = None) -> str:
    """Return a sentence on an object that looks symmetric without a declared symmetry; "" for all others.

    The search takes a tenth of a second or two, once: its result is stored beside the templates.

    Args:
        mesh: the name of the file for users, where the library's file is a copy.

    Raises:
        VPOGError: unknown object, or a mesh that cannot be used.
    """
    object_id = library.resolve(class_id)
    entry = library.entries[object_id]
    if entry.symmetry_given or not entry.symmetry.is_trivial:
        return ""
    found = _found(library, object_id)
    if not found:
        return ""
    turns = "any turn about an axis" if "continuous" in found else "a turn"
    unit = "" if entry.unit == "auto" else f" --unit {entry.unit}"
    command = f"vpog symmetry {shlex.quote(str(mesh or entry.mesh))}{unit}"
    return (
        f"The object '{object_id}' looks the same after {turns}, and no symmetry is declared, so its pose "
        f"may jump between those that look alike: `{command}` prints the entry for objects.yaml "
        f"(`{object_id}: {{symmetry: }}` there says that it has none)."
    )


def _found(library: ObjectLibrary, object_id: str) -> dict:
    """Return what the search finds, from the cache where the mesh's files are as they were."""
    key = library.fingerprint(object_id, RULE)
    path = library.cache_dir / f"{safe_name(object_id)}-symmetry-{key}.json"
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return known
    found = find_symmetry(library.mesh(object_id)).settings()
    with contextlib.suppress(OSError):
        atomic_write(path, json.dumps(found))
    return found
