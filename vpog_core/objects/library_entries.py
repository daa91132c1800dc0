"""Read what a folder of meshes holds: mesh files, objects.yaml and models_info.json."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.mesh import MESH_SUFFIXES, UNITS, Mesh, load_mesh
from vpog_core.objects.settings_file import read_names
from vpog_core.types import VPOGError

SETTINGS = "objects.yaml"
SETTINGS_NAMES = (SETTINGS, "objects.yml")
MODELS_INFO = "models_info.json"
"""Name of BOP's file of symmetries, which may lie beside the meshes."""
SAME_DIAMETER = 0.05
"""Largest difference of a mesh's diameter from that in models_info.json, as a fraction: those of one object
in several resolutions differ by 2 %, wrong units by a factor of ten."""
KNOWN_KEYS = ("mesh", "unit", "symmetry", "aliases")


@dataclass(frozen=True)
class ObjectEntry:
    """Holds one object of a library.

    Attributes:
        object_id: its name.
        mesh: path of its mesh file.
        unit: "auto", "m", "cm" or "mm".
        symmetry: the motions after which it looks the same; symmetry_given: objects.yaml says so itself.
        aliases: other names detectors call it by.
        diameter_mm: its diameter in BOP's models_info.json, millimetres; None: there is none.
    """

    object_id: str
    mesh: Path
    unit: str = "auto"
    symmetry: Symmetry = field(default_factory=Symmetry.none)
    aliases: tuple[str, ...] = ()
    symmetry_given: bool = False
    diameter_mm: float | None = None

    @property
    def read_as(self) -> str:
        """The unit that the mesh is read in and, where it is `auto`, the diameter that decides it."""
        return f"{self.unit} {self.diameter_mm}" if self.unit == "auto" and self.diameter_mm else self.unit

    def load(self) -> Mesh:
        """Read the mesh; `auto` takes millimetres where its diameter is then that of models_info.json.

        Raises:
            VPOGError: see `load_mesh`.
        """
        if self.unit == "auto" and self.diameter_mm:
            with contextlib.suppress(VPOGError):
                mesh = load_mesh(self.mesh, "mm")
                if abs(1000.0 * mesh.diameter / self.diameter_mm - 1.0) < SAME_DIAMETER:
                    return mesh
        return load_mesh(self.mesh, self.unit)


def read_entries(folder: Path, unit: str = "auto") -> dict[str, ObjectEntry]:
    """Return the objects of a folder by name; hidden files are passed over.

    Args:
        unit: of the meshes of which objects.yaml does not tell it one by one.

    Raises:
        VPOGError: two meshes of one name, or settings that cannot be followed.
    """
    models = _ModelsInfo()
    settings = _only_file(folder, SETTINGS_NAMES)
    content = {} if settings is None else _read_settings(settings)
    if unit == "auto":
        unit = content.get("unit") or "auto"
    entries: dict[str, ObjectEntry] = {}
    for path in visible_files(folder):
        if path.suffix.lower() not in MESH_SUFFIXES:
            continue
        if path.stem in entries:
            other = entries[path.stem].mesh.name
            raise VPOGError(
                f"'{folder}' holds both '{other}' and '{path.name}': keep one mesh for each object."
            )
        entries[path.stem] = models.entry(path.stem, path, unit)
    described = {
        key: _entry(settings, key, {} if value is None else value, models, unit)
        for key, value in (content.get("objects") or {}).items()
    }
    # A file that an entry refers to belongs to that entry, and is not an object of its own.
    named = {entry.mesh.resolve() for entry in described.values()}
    kept = {key: entry for key, entry in entries.items() if entry.mesh.resolve() not in named}
    return {**kept, **described}


def read_entry(mesh: Path, unit: str = "auto") -> ObjectEntry:
    """Return the one object of a mesh file; a models_info.json beside it is read, an objects.yaml is not.

    Raises:
        VPOGError: a models_info.json that cannot be followed.
    """
    return _ModelsInfo().entry(mesh.stem, mesh, unit)


def visible_files(folder: Path) -> list[Path]:
    """Return the files of a folder, by name; not those that systems hide (`._mug.ply` of a Mac's copy)."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())


def _only_file(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Find the one file of a folder with one of some names, in capitals or not; None without one."""
    found = [path for path in visible_files(folder) if path.name.lower() in names]
    if len(found) > 1:
        raise VPOGError(f"'{folder}' holds both '{found[0].name}' and '{found[1].name}': keep one of them.")
    return found[0] if found else None


def _read_settings(path: Path) -> dict:
    """Read objects.yaml: `objects`, `unit`, both or, of an empty file, none of them."""
    content = read_names(path, ("mesh", "unit", "aliases"))
    content = {} if content is None else content
    objects = (content.get("objects") or {}) if isinstance(content, dict) else None
    if not isinstance(objects, dict) or not set(content) <= {"objects", "unit"}:
        raise VPOGError(
            f"'{path}' must hold one mapping `objects:` of names to settings, a `unit:` of all meshes beside "
            "it where they need one, and nothing else."
        )
    if content.get("unit") is not None:
        _check_unit(f"'{path}'", content["unit"])
    return content


def _check_unit(where: str, unit) -> None:
    if unit not in ("auto", *UNITS):
        raise VPOGError(f"{where}: the unit '{unit}' is not known: use auto, {', '.join(UNITS)}.")


def _entry(settings: Path, object_id: str, value: dict, models: _ModelsInfo, unit: str) -> ObjectEntry:
    where = f"'{settings}', object '{object_id}'"
    if not isinstance(value, dict):
        raise VPOGError(f"{where}: settings are a mapping such as {{unit: mm}}, not '{value}'.")
    for key in value:
        if key not in KNOWN_KEYS:
            raise VPOGError(f"{where}: the key '{key}' is not known: use {', '.join(KNOWN_KEYS)}.")
    unit = value.get("unit", unit)
    _check_unit(where, unit)
    aliases = value.get("aliases") or []
    if not isinstance(aliases, list) or any(not isinstance(a, str) or not a for a in aliases):
        raise VPOGError(f"{where}: aliases are a list of names such as [cup, '3'], not '{aliases}'.")
    mesh = _mesh_path(settings, where, object_id, value.get("mesh"))
    if "symmetry" not in value:
        return replace(models.entry(object_id, mesh, unit), aliases=tuple(aliases))
    symmetry = _symmetry(where, value["symmetry"], unit)
    return ObjectEntry(object_id, mesh, unit, symmetry, tuple(aliases), True, models.diameter_mm(mesh))


def _symmetry(where: str, value, unit: str) -> Symmetry:
    """Read a symmetry in objects.yaml; an empty one, as in `symmetry:`, means none."""
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise VPOGError(
            f"{where}: symmetry is a mapping such as {{continuous: [{{axis: z}}]}}, not '{value}'."
        )
    try:
        return Symmetry.from_mapping(value, UNITS.get(unit, 1.0))
    except VPOGError as error:
        raise VPOGError(f"{where}: {error}") from error


class _ModelsInfo:
    """Reads the models_info.json files beside meshes, each once."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[Path | None, dict]] = {}

    def entry(self, object_id: str, mesh: Path, unit: str) -> ObjectEntry:
        """Return the object of a mesh, with symmetry and diameter as models_info.json has them."""
        symmetry, diameter = self.symmetry(mesh, unit), self.diameter_mm(mesh)
        return ObjectEntry(object_id, mesh, unit, symmetry, diameter_mm=diameter)

    def symmetry(self, mesh: Path, unit: str) -> Symmetry:
        """Return the symmetry of a mesh."""
        path, info = self._info(mesh)
        try:
            # BOP's lengths are millimetres, as its meshes are.
            return Symmetry.from_bop(info, UNITS.get(unit, 0.001))
        except VPOGError as error:
            raise VPOGError(f"'{path}', object '{mesh.stem}': {error}") from error

    def diameter_mm(self, mesh: Path) -> float | None:
        """Return the diameter of a mesh, millimetres; None where there is none."""
        value = self._info(mesh)[1].get("diameter")
        return float(value) if type(value) in (int, float) and 0 < value < math.inf else None

    def _info(self, mesh: Path) -> tuple[Path | None, dict]:
        """Return the file, and its entry for a mesh by name, or by the number at its end (obj_000012)."""
        if mesh.parent not in self._read:
            path = _only_file(mesh.parent, (MODELS_INFO,))
            self._read[mesh.parent] = (path, {} if path is None else _read_models_info(path))
        path, content = self._read[mesh.parent]
        number = re.search(r"(\d+)$", mesh.stem)
        keys = [mesh.stem, *([str(int(number[1]))] if number else [])]
        info = next((content[k] for k in keys if k in content), {})
        if not isinstance(info, dict):
            raise _no_models_info(path)
        return path, info


def _read_models_info(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError, OSError) as error:
        raise VPOGError(f"'{path}' is not valid JSON ({error}): fix or remove it.") from error
    if not isinstance(content, dict):
        raise _no_models_info(path)
    return content


def _no_models_info(path: Path) -> VPOGError:
    return VPOGError(f"'{path}' must map each object's number to a mapping, as in BOP: fix or remove it.")


def _mesh_path(settings: Path, where: str, object_id: str, name: str | None) -> Path:
    folder = settings.parent
    if name is None:
        found = [
            p for p in visible_files(folder) if p.stem == object_id and p.suffix.lower() in MESH_SUFFIXES
        ]
        if not found:
            raise VPOGError(
                f"{where}: there is no mesh '{object_id}' in the folder: set `mesh:` to its file."
            )
        return found[0]
    if not isinstance(name, str):
        raise VPOGError(f"{where}: the mesh is a file's name such as cups/mug.ply, not '{name}'.")
    name = name.replace("\\", "/")
    if os.path.isabs(name) or os.path.normpath(name).startswith("..") or ":" in name:
        raise VPOGError(
            f"{where}: the mesh '{name}' lies outside the folder: put it into '{folder}' or below."
        )
    found = _with_any_case(folder / name)
    if found is None:
        raise VPOGError(f"{where}: there is no mesh '{name}' in '{folder}': check the name.")
    return found


def _with_any_case(path: Path) -> Path | None:
    """Find a file, or the one beside it whose suffix alone is in other case; None without one."""
    if path.is_file() or not path.parent.is_dir():
        return path if path.is_file() else None
    same = (p for p in visible_files(path.parent) if p.stem == path.stem)
    return next((p for p in same if p.suffix.lower() == path.suffix.lower()), None)


def write_symmetries(folder: Path, symmetries: Mapping[str, Mapping]) -> None:
    """Write objects.yaml with the symmetries of meshes in a folder; none, where there are no symmetries.

    Args:
        symmetries: `symmetry:` of each object by its name; empty for one without.
    """
    settings = {name: {"symmetry": symmetry} for name, symmetry in symmetries.items() if symmetry}
    if settings:
        (folder / SETTINGS).write_text(yaml.safe_dump({"objects": settings}), encoding="utf-8")
