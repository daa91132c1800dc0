"""Provide a folder of meshes as a library of objects, with templates cached on disk."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from vpog_core import cancellation
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.cache_record import recorded_templates, write_record
from vpog_core.objects.library_entries import SETTINGS, ObjectEntry, read_entries, read_entry
from vpog_core.objects.mesh import MESH_SUFFIXES, UNITS, Mesh
from vpog_core.objects.template_set import (
    FORMAT,
    TemplateSet,
    build_template_set,
    load_template_set,
    save_template_set,
)
from vpog_core.types import VPOGError, sentence_of
from vpog_core.utils.fingerprint import SHORT, digest, safe_name
from vpog_core.utils.held_file import remove_abandoned

_LOG = logging.getLogger(__name__)


class ObjectLibrary:
    """Holds the objects of a folder: every `<class_id>.obj|ply|glb|stl`, and their `objects.yaml`.

    objects.yaml (or .yml), where it is there, names units, symmetries and aliases, and meshes in folders
    below. Names are strings as they are written, so 000012 and no need no quotes:

        objects:
          mug: {mesh: cups/mug.obj, unit: mm, aliases: [cup, 3]}
          can: {symmetry: {continuous: [{axis: z}]}}

    Symmetries are in the mesh's unit, see `Symmetry.from_mapping`. What objects.yaml leaves open is taken
    from a BOP `models_info.json` beside the mesh, by the number in the mesh's name. `unit: mm` beside
    `objects` is the unit of all meshes that have none of their own.

    Args:
        folder: where the meshes are, or one mesh file alone.
        cache_dir: where templates are kept; None takes $XDG_CACHE_HOME/vpog or ~/.cache/vpog.
        unit: "m", "cm" or "mm", of the meshes of which objects.yaml does not tell it one by one; "auto": what
            objects.yaml says of all of them.

    Raises:
        VPOGError: no such folder, nothing in it, or an objects.yaml or models_info.json that cannot be
            followed.
    """

    _warned_of_cache = False

    def __init__(self, folder: str | Path, cache_dir: str | Path | None = None, unit: str = "auto"):
        self.folder, self.unit = Path(folder).expanduser(), unit
        alone = self.folder.is_file() and self.folder.suffix.lower() in MESH_SUFFIXES
        if unit not in ("auto", *UNITS):
            raise VPOGError(f"The unit '{unit}' is not known: use auto, {', '.join(UNITS)}.")
        if not self.folder.exists() and self.folder.suffix.lower() in MESH_SUFFIXES:
            raise VPOGError(f"There is no mesh file '{folder}': check the path.")
        if not self.folder.is_dir() and not alone:
            raise VPOGError(
                f"There is no objects folder '{folder}': create it and put one mesh for each object in it."
            )
        self.cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
        for place in (self.folder.parent if alone else self.folder, self.cache_dir):
            remove_abandoned(place)
        if alone:
            self.entries = {self.folder.stem: read_entry(self.folder, unit)}
        else:
            self.entries = read_entries(self.folder, unit)
        if not self.entries:
            raise VPOGError(
                f"The objects folder '{folder}' holds no mesh ({', '.join(MESH_SUFFIXES)}): "
                "put one for each object in it."
            )
        self._names = _names(self.entries)
        self._meshes: dict[str, Mesh] = {}
        self._broken: dict[str, str] = {}
        self._templates: dict[tuple[str, int], TemplateSet] = {}
        self._paths: dict[tuple[str, int], Path] = {}
        self._outdated: dict[str, str] = {}

    @property
    def ids(self) -> list[str]:
        """The names of the objects, sorted."""
        return sorted(self.entries)

    def resolve(self, class_id: str) -> str:
        """Return the object's name for a detector's class, which may be an alias.

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

    def name_of(self, class_id: str) -> str:
        """Return the object's name for a detector's class, which may be an alias; an unknown one stays."""
        return self._names.get(class_id, class_id)

    def symmetry(self, class_id: str) -> Symmetry:
        """Return the object's symmetries, metres.

        Raises:
            VPOGError: unknown object.
        """
        return self.entries[self.resolve(class_id)].symmetry

    def mesh(self, class_id: str) -> Mesh:
        """Return the object's mesh in metres; it is read once.

        Raises:
            VPOGError: unknown object, unreadable mesh, wrong unit.
        """
        object_id = self.resolve(class_id)
        if object_id in self._broken:
            raise VPOGError(self._broken[object_id])
        if object_id not in self._meshes:
            self._meshes[object_id] = self._read_mesh(object_id)
        return self._meshes[object_id]

    def is_read(self, object_id: str) -> bool:
        """Tell whether an object's mesh has been read."""
        return object_id in self._meshes

    def notes(self, object_id: str) -> tuple[str, ...]:
        """Return notes on what is unused or doubtful in an object's mesh; () until it is read."""
        mesh = self._meshes.get(object_id)
        return () if mesh is None else mesh.notes

    def broken(
        self, among: Sequence[str] | None = None, progress: Callable[[int, int], None] | None = None
    ) -> dict[str, str]:
        """Return the objects whose mesh cannot be used, each with the sentence that says why.

        Args:
            among: names of the objects whose meshes are read; None: all.
            progress: called with (meshes read, meshes).
        """
        among = self.ids if among is None else among
        for done, object_id in enumerate(among, start=1):
            cancellation.check()
            with contextlib.suppress(VPOGError):
                self.mesh(object_id)
            if progress is not None:
                progress(done, len(among))
        return dict(self._broken)

    def _read_mesh(self, object_id: str) -> Mesh:
        entry = self.entries[object_id]
        try:
            mesh = entry.load()
        except VPOGError as error:
            self._broken[object_id] = str(error)
            raise
        except Exception as error:
            _LOG.debug("'%s' cannot be read.", entry.mesh, exc_info=error)
            self._broken[object_id] = (
                f"The mesh '{entry.mesh.name}' cannot be read ({sentence_of(error)}): export it again."
            )
            raise VPOGError(self._broken[object_id]) from error
        return mesh

    def templates_path(self, class_id: str, size: int) -> Path:
        """Return the path of an object's templates; it changes with its mesh, its unit and the format.

        Raises:
            VPOGError: unknown object, or a mesh that cannot be used.
        """
        object_id = self.resolve(class_id)
        key = self.fingerprint(object_id, f"{FORMAT} {size}")
        return self.cache_dir / f"{safe_name(object_id)}-{size}-{key}.safetensors"

    def fingerprint(self, class_id: str, rule: str) -> str:
        """Return 16 hex digits that change with the files of an object's mesh, their names, and its unit.

        The files count as they were when the mesh was read.

        Args:
            rule: what is made of the mesh, and its version; they change with it, too.

        Raises:
            VPOGError: unknown object, or a mesh that cannot be used.
        """
        object_id = self.resolve(class_id)
        entry, files = self.entries[object_id], self.mesh(class_id).files
        named = (part for file in files for part in (file.path.name, file.digest))
        return digest([f"{rule} {entry.read_as} {object_id}", *named])[:SHORT]

    def cached_templates(self, class_id: str, size: int) -> Path | None:
        """Return the path of an object's templates in the cache, where its mesh has not changed since.

        The mesh is not read: the sizes and times of its files tell.

        Raises:
            VPOGError: unknown object.
        """
        return recorded_templates(self._record_path(self.resolve(class_id), size))

    def _record_path(self, object_id: str, size: int) -> Path:
        entry = self.entries[object_id]
        key = digest([f"{FORMAT} {size} {entry.read_as} {object_id} {entry.mesh.absolute()}"])[:SHORT]
        return self.cache_dir / f"{safe_name(object_id)}-{size}-{key}.json"

    def templates(self, class_id: str, size: int = 112, progress=None) -> TemplateSet:
        """Return the object's templates, `size` pixels a side: from memory, from the cache, or rendered now.

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
        path = self._paths[object_id, size] = self.templates_path(object_id, size)
        if path.is_file():
            try:
                templates = load_template_set(path)
            except VPOGError:
                pass  # A broken cache is built again.
            else:
                self._record(object_id, size, path)
                return templates
        templates = build_template_set(self.mesh(object_id), object_id, size, progress=progress)
        self.store(templates, path)
        return templates

    def take_over(self, older: ObjectLibrary, object_id: str, size: int) -> bool:
        """Take an object over from an earlier library of this folder, unless it has changed.

        An object of which the files have changed, and cannot be used any more, stays as it was read before.

        Args:
            size: of the templates, pixels.

        Returns:
            whether the object was taken.
        """
        path = older._paths.get((object_id, size))
        if path is None or object_id not in self.entries:
            return False
        try:
            if self.templates_path(object_id, size).name != path.name:
                return False
        except VPOGError as error:
            self._outdated[object_id] = f"{error} '{object_id}' goes on with the mesh it had."
            self._broken.pop(object_id, None)
        self._meshes[object_id] = older._meshes[object_id]
        self._templates[object_id, size] = older._templates[object_id, size]
        self._paths[object_id, size] = path
        return True

    def outdated(self) -> dict[str, str]:
        """Return the objects that `take_over` left as they were, each with the sentence that says why."""
        return dict(self._outdated)

    def store(self, templates: TemplateSet, path: Path | None = None) -> None:
        """Write templates (with their features) to the cache; where that fails, warn of it once."""
        path = self.templates_path(templates.object_id, templates.size) if path is None else path
        try:
            save_template_set(templates, path)
        except OSError as error:
            self._warn_of_cache(error)
        else:
            self._record(templates.object_id, templates.size, path)

    def _warn_of_cache(self, error: OSError) -> None:
        if not self._warned_of_cache:
            self._warned_of_cache = True
            _LOG.warning(
                "The cache '%s' cannot be written (%s), so objects are onboarded anew in every run: set "
                "cache_dir to a folder that can be written.",
                self.cache_dir,
                error.strerror or error,
            )

    def _record(self, object_id: str, size: int, templates: Path) -> None:
        write_record(self._record_path(object_id, size), self.mesh(object_id).files, templates)


def default_cache_dir() -> Path:
    """Return $XDG_CACHE_HOME/vpog, else ~/.cache/vpog."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "vpog"


def _names(entries: dict[str, ObjectEntry]) -> dict[str, str]:
    """Map every name and alias to its object; a name of two objects is an error."""
    names = {object_id: object_id for object_id in entries}
    for object_id, entry in entries.items():
        for alias in entry.aliases:
            if names.get(alias, object_id) != object_id:
                raise VPOGError(
                    f"The alias '{alias}' stands for '{names[alias]}' and '{object_id}': keep one of them."
                )
            names[alias] = object_id
    return names
