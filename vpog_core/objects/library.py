"""A folder of meshes as a library of objects, with their templates cached on disk."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.mesh import MESH_SUFFIXES, UNITS, Mesh, load_mesh
from vpog_core.objects.template_set import (
    FORMAT,
    TemplateSet,
    build_template_set,
    load_template_set,
    save_template_set,
)
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


class ObjectLibrary:
    """The objects of a folder: every `<class_id>.obj|ply|glb|stl`, and what `objects.yaml` says.

    objects.yaml, where it is there, names units, symmetries and aliases, and meshes in folders below:

        objects:
          mug: {mesh: cups/mug.obj, unit: mm, aliases: [cup, "3"]}
          can: {symmetry: {continuous: [{axis: z}]}}

    Symmetries are in the mesh's unit, see `Symmetry.from_mapping`. What objects.yaml leaves open is taken
    from a BOP `models_info.json` beside the mesh, by the number in the mesh's name.

    Args:
        folder: where the meshes are.
        cache_dir: where templates are kept; None takes $XDG_CACHE_HOME/vpog or ~/.cache/vpog.

    Raises:
        VPOGError: no such folder, nothing in it, or an objects.yaml or models_info.json that cannot be
            followed.
    """

    def __init__(self, folder: str | Path, cache_dir: str | Path | None = None):
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise VPOGError(
                f"There is no objects folder '{folder}': create it and put one mesh for each object in it."
            )
        self.cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
        self.entries = _read_entries(self.folder)
        if not self.entries:
            raise VPOGError(
                f"The objects folder '{folder}' holds no mesh ({', '.join(MESH_SUFFIXES)}): "
                "put one for each object in it."
            )
        self._names = _names(self.entries)
        self._meshes: dict[str, Mesh] = {}
        self._templates: dict[tuple[str, int], TemplateSet] = {}

    @property
    def ids(self) -> list[str]:
        """Names of the objects, sorted."""
        return sorted(self.entries)

    def resolve(self, class_id: str) -> str:
        """The object's name for a detector's class, which may be an alias.

        Raises:
            VPOGError: no such object; the sentence lists the known ones.
        """
        if class_id in self._names:
            return self._names[class_id]
        known = ", ".join(self.ids)
        raise VPOGError(
            f"There is no object '{class_id}' in '{self.folder}' (known: {known}): "
            f"add its mesh or an alias in {SETTINGS}."
        )

    def symmetry(self, class_id: str) -> Symmetry:
        """The object's symmetries, metres.

        Raises:
            VPOGError: unknown object.
        """
        return self.entries[self.resolve(class_id)].symmetry

    def mesh(self, class_id: str) -> Mesh:
        """The object's mesh in metres, read once.

        Raises:
            VPOGError: unknown object, unreadable mesh, wrong unit.
        """
        object_id = self.resolve(class_id)
        if object_id not in self._meshes:
            entry = self.entries[object_id]
            self._meshes[object_id] = load_mesh(entry.mesh, entry.unit)
        return self._meshes[object_id]

    def templates_path(self, class_id: str, size: int) -> Path:
        """Where an object's templates are kept; another path when its mesh, unit or the format changes."""
        object_id = self.resolve(class_id)
        entry = self.entries[object_id]
        digest = hashlib.sha256(f"{FORMAT} {size} {entry.unit} {object_id}".encode())
        for path in _mesh_files(entry.mesh):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
        safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in object_id)
        return self.cache_dir / f"{safe}-{size}-{digest.hexdigest()[:16]}.safetensors"

    def templates(self, class_id: str, size: int = 112, progress=None) -> TemplateSet:
        """The object's templates, `size` pixels a side: from memory, from the cache, or rendered now.

        Args:
            progress: called with (done, total) while rendering.

        Raises:
            VPOGError: unknown object, unreadable mesh, wrong unit.
        """
        object_id = self.resolve(class_id)
        if (object_id, size) not in self._templates:
            self._templates[object_id, size] = self._read_or_build(object_id, size, progress)
        return self._templates[object_id, size]

    def _read_or_build(self, object_id: str, size: int, progress) -> TemplateSet:
        path = self.templates_path(object_id, size)
        if path.is_file():
            try:
                return load_template_set(path)
            except VPOGError:
                pass  # A broken cache is built again.
        templates = build_template_set(self.mesh(object_id), object_id, size, progress=progress)
        self.store(templates, path)
        return templates

    def store(self, templates: TemplateSet, path: Path | None = None) -> bool:
        """Write templates (with their features) to the cache; False where the cache cannot be written."""
        path = self.templates_path(templates.object_id, templates.size) if path is None else path
        try:
            save_template_set(templates, path)
        except OSError:
            return False
        return True


def default_cache_dir() -> Path:
    """$XDG_CACHE_HOME/vpog, else ~/.cache/vpog."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "vpog"


def _mesh_files(mesh: Path) -> list[Path]:
    """The mesh and the files beside it that it may draw on: materials, and images of any name."""
    beside = {".mtl", ".png", ".jpg", ".jpeg", ".bmp", ".tga", ".tif", ".tiff", ".webp"}
    if mesh.suffix.lower() in (".stl", ".glb"):
        return [mesh]
    text = mesh.read_bytes()
    if mesh.suffix.lower() == ".obj":
        text += b"".join(p.read_bytes() for p in sorted(mesh.parent.glob("*.mtl")) if p.name.encode() in text)
    # Its own folder only, and only what the text names.
    found = [
        p for p in sorted(mesh.parent.iterdir()) if p.suffix.lower() in beside and p.name.encode() in text
    ]
    return [mesh, *found]


def _read_entries(folder: Path) -> dict[str, ObjectEntry]:
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


def _names(entries: dict[str, ObjectEntry]) -> dict[str, str]:
    """Every name and alias to its object; a name two objects claim is an error."""
    names = {object_id: object_id for object_id in entries}
    for object_id, entry in entries.items():
        for alias in entry.aliases:
            if names.get(alias, object_id) != object_id:
                raise VPOGError(
                    f"The alias '{alias}' stands for '{names[alias]}' and '{object_id}': keep one of them."
                )
            names[alias] = object_id
    return names
