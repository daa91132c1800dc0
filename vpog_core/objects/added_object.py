"""Add an object to a folder of meshes for an untrusted caller: nothing outside of the folder is touched."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.library_entries import SETTINGS, SETTINGS_NAMES, read_entries
from vpog_core.objects.mesh import MESH_SUFFIXES, UNITS, Mesh, load_mesh
from vpog_core.objects.settings_file import append_object
from vpog_core.types import VPOGError
from vpog_core.utils.atomic_file import atomic_write
from vpog_core.utils.held_file import one_at_a_time

MAX_BYTES = 64 * 2**20
"""Largest size of a mesh that is sent, bytes."""
MAX_OBJECTS = 1000
"""Largest number of objects in a folder; no more are added."""
MAX_SYMMETRY_LENGTH = 1000
"""Largest number of characters of a symmetry's description."""
MAX_NAME_LENGTH = 64
"""Largest number of characters of a name."""

_NAME = re.compile(r"[\w(+][\w .()+-]*")


@dataclass(frozen=True)
class AddedObject:
    """Holds an object that was checked and is not in the folder yet.

    Attributes:
        name: of the object; folder: the objects folder.
        mesh: path of the mesh below the folder, where it is or is to be, with `/`.
        data: bytes to write there, or None where the file is there.
        settings: what objects.yaml is to say of it.
        diameter: metres.
        notes: what the mesh holds and was left out, or is doubtful about it.
    """

    name: str
    folder: Path
    mesh: str
    data: bytes | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    diameter: float = 0.0
    notes: tuple[str, ...] = ()

    def write(self) -> None:
        """Write the mesh and its line in objects.yaml; where one cannot be written, neither is.

        Raises:
            VPOGError: they cannot be written, or objects.yaml has no place for a line.
        """
        # Another process may add an object to the same folder, and may have since this one was checked.
        with one_at_a_time(self.folder):
            _refuse_name(self.name, read_entries(self.folder))
            if self.data is not None:
                _refuse_existing(self.folder, self.mesh)
            self._write()

    def _write(self) -> None:
        path, settings = self.folder / self.mesh, _settings_file(self.folder)
        before = _content_of(settings)
        try:
            if self.data is not None:
                atomic_write(path, self.data)
            if self.settings:
                append_object(settings, self.name, self.settings)
            read_entries(self.folder)
        except (OSError, VPOGError) as error:
            with suppress(OSError):
                if self.data is not None:
                    path.unlink(missing_ok=True)
                if before is None:
                    settings.unlink(missing_ok=True)
                elif settings.read_bytes() != before:
                    atomic_write(settings, before)
            if isinstance(error, VPOGError):
                raise
            raise VPOGError(
                f"'{self.name}' cannot be written to '{self.folder}' ({error.strerror}): make it writable."
            ) from error


def check_mesh(folder: Path, name: str, mesh: str, data: bytes, unit: str, symmetry: str) -> AddedObject:
    """Check an object that is to be added; nothing is written.

    Args:
        folder: the objects folder; nothing outside it is read.
        mesh: path of the mesh below the folder, or, with `data`, a file's name with the ending of its format.
        data: bytes of the mesh; empty: the file is there.
        unit: "m", "cm", "mm", "auto", or "" for that.
        symmetry: YAML as in objects.yaml, or "".

    Raises:
        VPOGError: a name, path, size, unit or symmetry that is refused, or a mesh that cannot be used.
    """
    # Check name, unit and symmetry.
    name, folder, unit = checked_name(name), Path(folder), unit or "auto"
    entries = read_entries(folder)
    _refuse_name(name, entries)
    if len(entries) >= MAX_OBJECTS:
        raise VPOGError(
            f"The objects folder holds {len(entries)} objects, and no more are added: remove some."
        )
    if unit not in ("auto", *UNITS):
        raise VPOGError(f"The unit {unit[:20]!r} is not known: use auto, {', '.join(UNITS)}.")
    settings = {"unit": unit} | _symmetry(symmetry, unit)
    # Check a mesh that was sent.
    if data:
        place = f"{name}{_suffix(mesh)}"
        read = _read_bytes(data, place, unit)
        _refuse_existing(folder, place)
        return AddedObject(name, folder, place, bytes(data), settings, read.diameter, read.notes)
    # Check a mesh that is in the folder.
    place = path_inside(folder, mesh)
    taken = next((e.object_id for e in entries.values() if _same(e.mesh, folder / place)), None)
    if taken is not None:
        raise VPOGError(f"'{place}' is the mesh of the object '{taken}' already: add an alias in {SETTINGS}.")
    read = load_mesh(folder / place, unit)
    return AddedObject(name, folder, place, None, {"mesh": place} | settings, read.diameter, read.notes)


def checked_name(name: str) -> str:
    """Return a name that may be a file's.

    Raises:
        VPOGError: it may not.
    """
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH or name[-1] in " .":
        raise VPOGError(
            f"{name[:MAX_NAME_LENGTH]!r} cannot be the name of an object: use letters, digits, spaces and "
            f"_ - . ( ) +, {MAX_NAME_LENGTH} characters at most, and no dot or space at the begin or the end."
        )
    return name


def path_inside(folder: Path, mesh: str) -> str:
    """Return the path of a mesh file below a folder, links followed, as it is to be written in objects.yaml.

    Raises:
        VPOGError: it leads out of the folder, is not there, is no plain file, or has another ending.
    """
    shown = mesh[:200]
    parts = PurePosixPath(mesh).parts
    if not parts or mesh.startswith("/") or any(p in ("..", ".") or p.startswith(".") for p in parts):
        raise VPOGError(
            f"The mesh {shown!r} is no path below the objects folder: give one such as cups/mug.ply, or send "
            "the mesh's bytes."
        )
    if any(ord(c) < 32 or c in "\\:" for c in mesh):
        raise VPOGError(f"The mesh {shown!r} has characters that are refused: rename the file.")
    _suffix(mesh)
    try:
        root, real = folder.resolve(strict=True), (folder / mesh).resolve(strict=True)
        plain = stat.S_ISREG(os.stat(real).st_mode)
    except (OSError, RuntimeError, ValueError):
        raise VPOGError(f"There is no mesh {shown!r} in the objects folder: check the path.") from None
    if not real.is_relative_to(root):
        raise VPOGError(f"The mesh {shown!r} leads out of the objects folder: copy the file into it.")
    if not plain:
        raise VPOGError(f"The mesh {shown!r} is no file: check the path.")
    return "/".join(parts)


def _suffix(mesh: str) -> str:
    suffix = PurePosixPath(mesh.replace("\\", "/")).suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise VPOGError(
            f"The mesh {mesh[:200]!r} is not one of {', '.join(MESH_SUFFIXES)}: give its file's whole name."
        )
    return suffix


def _read_bytes(data: bytes, place: str, unit: str) -> Mesh:
    """Read a mesh's bytes in an otherwise empty folder."""
    if len(data) > MAX_BYTES:
        raise VPOGError(
            f"The mesh has {len(data) >> 20} MiB, and {MAX_BYTES >> 20} are taken: simplify it, or copy the "
            "file into the objects folder and name it."
        )
    with tempfile.TemporaryDirectory(prefix="vpog_mesh_") as empty:
        path = Path(empty) / place
        path.write_bytes(data)
        try:
            return load_mesh(path, unit)
        except VPOGError as error:
            raise VPOGError(str(error).replace(f"{empty}{os.sep}", "")) from error


def _symmetry(text: str, unit: str) -> dict[str, Any]:
    """Read the symmetry of an object as objects.yaml has it; {} for none."""
    if not text.strip():
        return {}
    if len(text) > MAX_SYMMETRY_LENGTH:
        raise VPOGError(f"The symmetry has {len(text)} characters: {MAX_SYMMETRY_LENGTH} are taken.")
    try:
        # Aliases of YAML may expand a short text to a huge value.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise VPOGError("The symmetry has YAML anchors, which are refused: write it out.")
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise VPOGError(
            f"The symmetry is not valid YAML ({reason}): write {{continuous: [{{axis: z}}]}}."
        ) from error
    if not isinstance(value, dict):
        raise VPOGError(
            f"The symmetry is a mapping such as {{continuous: [{{axis: z}}]}}, not {str(value)[:100]!r}."
        )
    Symmetry.from_mapping(value, UNITS.get(unit, 1.0))
    return {"symmetry": value}


def _refuse_name(name: str, entries: Mapping[str, Any]) -> None:
    if name in entries or any(name in entry.aliases for entry in entries.values()):
        raise VPOGError(
            f"There is an object or an alias '{name}' already: take another name, or replace its mesh file "
            "and call ~/reload_objects."
        )


def _refuse_existing(folder: Path, place: str) -> None:
    for path in folder.iterdir():
        if path.name.lower() == place.lower():
            raise VPOGError(
                f"There is a file '{path.name}' in the objects folder already: take another name."
            )


def _content_of(path: Path) -> bytes | None:
    """Read a file; None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise VPOGError(f"'{path}' cannot be read ({error.strerror}): check its permissions.") from error


def _settings_file(folder: Path) -> Path:
    found = [path for path in folder.iterdir() if path.name.lower() in SETTINGS_NAMES]
    return found[0] if found else folder / SETTINGS


def _same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve()
    except (OSError, RuntimeError):
        return False
