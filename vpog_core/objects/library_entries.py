"""What a folder of meshes holds: its mesh files, and what objects.yaml and models_info.json say of them."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.mesh import MESH_SUFFIXES, UNITS
from vpog_core.types import VPOGError

SETTINGS = "objects.yaml"
MODELS_INFO = "models_info.json"
"""BOP's file of symmetries, where it lies beside the meshes."""
KNOWN_KEYS = ("mesh", "unit", "symmetry", "aliases")


@dataclass(frozen=True)
class ObjectEntry:
    """One object of a library.

    Attributes:
        object_id: its name.
        mesh: path of its mesh file.
        unit: "auto", "m", "cm" or "mm".
        symmetry: the motions after which it looks the same.
        aliases: other names detectors call it by.
    """

    object_id: str
    mesh: Path
    unit: str = "auto"
    symmetry: Symmetry = field(default_factory=Symmetry.none)
    aliases: tuple[str, ...] = ()


def read_entries(folder: Path) -> dict[str, ObjectEntry]:
    """The objects of a folder by name.

    Raises:
        VPOGError: two meshes of one name, or settings that cannot be followed.
    """
    entries: dict[str, ObjectEntry] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in MESH_SUFFIXES or not path.is_file():
            continue
        if path.stem in entries:
            other = entries[path.stem].mesh.name
            raise VPOGError(
                f"'{folder}' holds both '{other}' and '{path.name}': keep one mesh for each object."
            )
        entries[path.stem] = ObjectEntry(path.stem, path, symmetry=_bop_symmetry(path, "auto"))
    settings = folder / SETTINGS
    if not settings.is_file():
        return entries
    described = _read_settings(settings)
    # A file an entry names under another name is that entry, not an object of its own.
    named = {entry.mesh.resolve() for entry in described.values()}
    kept = {key: entry for key, entry in entries.items() if entry.mesh.resolve() not in named}
    return {**kept, **described}


def _read_settings(path: Path) -> dict[str, ObjectEntry]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).replace("\n", " ")
        raise VPOGError(f"'{path}' is not valid YAML ({reason}): mend that line.") from error
    content = content or {}
    objects = content.get("objects") if isinstance(content, dict) else None
    if not isinstance(objects, dict) or set(content) != {"objects"}:
        raise VPOGError(f"'{path}' must hold one mapping `objects:` of names to settings, and nothing else.")
    return {str(key): _entry(path, str(key), value or {}) for key, value in objects.items()}


def _entry(settings: Path, object_id: str, value: dict) -> ObjectEntry:
    where = f"'{settings}', object '{object_id}'"
    if not isinstance(value, dict):
        raise VPOGError(f"{where}: settings are a mapping such as {{unit: mm}}, not '{value}'.")
    for key in value:
        if key not in KNOWN_KEYS:
            raise VPOGError(f"{where}: the key '{key}' is not known: use {', '.join(KNOWN_KEYS)}.")
    unit = value.get("unit", "auto")
    if unit not in ("auto", *UNITS):
        raise VPOGError(f"{where}: the unit '{unit}' is not known: use auto, {', '.join(UNITS)}.")
    aliases = value.get("aliases", [])
    if not isinstance(aliases, list) or any(isinstance(alias, (dict, list)) for alias in aliases):
        raise VPOGError(f"{where}: aliases are a list of names such as [cup, '3'], not '{aliases}'.")
    mesh = _mesh_path(settings, where, object_id, value.get("mesh"))
    given = "symmetry" in value
    symmetry = _symmetry(where, value["symmetry"], unit) if given else _bop_symmetry(mesh, unit)
    return ObjectEntry(object_id, mesh, unit, symmetry, tuple(str(alias) for alias in aliases))


def _symmetry(where: str, value, unit: str) -> Symmetry:
    """What objects.yaml says; nothing, as in `symmetry:`, is none."""
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise VPOGError(
            f"{where}: symmetry is a mapping such as {{continuous: [{{axis: z}}]}}, not '{value}'."
        )
    try:
        return Symmetry.from_mapping(value, UNITS.get(unit, 1.0))
    except VPOGError as error:
        raise VPOGError(f"{where}: {error}") from error


def _bop_symmetry(mesh: Path, unit: str) -> Symmetry:
    """What a models_info.json beside a mesh says of its name, or of the number at its end (obj_000012)."""
    path = mesh.parent / MODELS_INFO
    if not path.is_file():
        return Symmetry.none()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise VPOGError(f"'{path}' is not valid JSON ({error}): mend or remove it.") from error
    number = re.search(r"(\d+)$", mesh.stem)
    keys = [mesh.stem, *([str(int(number[1]))] if number else [])]
    info = next((content[k] for k in keys if k in content), {}) if isinstance(content, dict) else None
    if not isinstance(info, dict):
        raise VPOGError(f"'{path}' must map each object's number to a mapping, as in BOP: mend or remove it.")
    try:
        # BOP's lengths are millimetres, as its meshes are.
        return Symmetry.from_bop(info, UNITS.get(unit, 0.001))
    except VPOGError as error:
        raise VPOGError(f"'{path}', object '{mesh.stem}': {error}") from error


def _mesh_path(settings: Path, where: str, object_id: str, name) -> Path:
    folder = settings.parent
    if name is None:
        found = [folder / f"{object_id}{suffix}" for suffix in MESH_SUFFIXES]
        found = [path for path in found if path.is_file()]
        if not found:
            raise VPOGError(
                f"{where}: there is no mesh '{object_id}' in the folder: set `mesh:` to its file."
            )
        return found[0]
    name = str(name).replace("\\", "/")
    outside = os.path.isabs(name) or os.path.normpath(name).startswith("..") or ":" in name
    if outside:
        raise VPOGError(
            f"{where}: the mesh '{name}' lies outside the folder: put it into '{folder}' or below."
        )
    if not (folder / name).is_file():
        raise VPOGError(f"{where}: there is no mesh '{name}' in '{folder}': check the name.")
    return folder / name
