"""Read a mesh file and the files beside it, within limits and within its own folder."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from vpog_core.objects.readers.images import decode_texture
from vpog_core.types import VPOGError
from vpog_core.utils.fingerprint import ReadFile, digest, file_state

MAX_BYTES = 512 * 2**20
MAX_TRIANGLES = MAX_VERTICES = 5_000_000


class MeshFile:
    """Reads the bytes of a mesh file and of files it refers to, and collects notes.

    Args:
        path: the mesh file.
        assets: a second folder; what lies there is found by its bare name, whatever folder the mesh names.
    """

    def __init__(self, path: Path, assets: Path | None = None) -> None:
        self.path, self.assets = path, assets
        self._notes: dict[str, None] = {}
        self._files: dict[Path, ReadFile] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """Return sentences on what was left out or is doubtful, each once, in order."""
        return tuple(self._notes)

    @property
    def files(self) -> tuple[ReadFile, ...]:
        """The files that were read, each once."""
        return tuple(self._files.values())

    def note(self, what: str) -> None:
        """Add a note; `what` completes a sentence that begins with "The mesh 'x.obj'"."""
        self._notes[f"The mesh '{self.path.name}' {what}."] = None

    def error(self, what: str) -> VPOGError:
        """Return the error to raise; `what` goes on after "The mesh 'x.obj'"."""
        return VPOGError(f"The mesh '{self.path}' {what}.")

    def broken(self, reason: str) -> VPOGError:
        """Return the error for a file that does not follow its format."""
        return self.error(f"cannot be read ({reason}): export it again")

    @cached_property
    def data(self) -> bytes:
        """The bytes of the mesh file.

        Raises:
            VPOGError: it is too large, cannot be opened, or is not there yet (Git LFS).
        """
        data = self._read(self.path, self.path.name)
        if data.startswith(b"version https://git-lfs.github.com/"):
            raise self.error("is only a pointer of Git LFS: fetch the file with `git lfs pull`")
        return data

    def beside(self, name: str) -> bytes:
        """Read a file the mesh refers to, from its folder or below.

        Where it asks for a file of another folder that is not there, as exporters do that write the paths of
        their own machine, the file of that bare name beside the mesh is taken, and that is said.

        Raises:
            VPOGError: it is not there, lies outside the folder, or is too large.
        """
        reference = name.strip()
        found = self._find(reference)
        if found is None:
            name = _plain(reference)
            found = _look_up(self.path.parent, posixpath.basename(name))
            if found is None:
                where = " outside its folder" if _is_outside(name) else ", which is not there"
                raise self.error(f"asks for '{reference}'{where}: put it beside the mesh")
            self.note(f"asks for '{reference}': the '{found.name}' beside it is taken")
        return self._read(found, reference)

    def has(self, name: str) -> bool:
        """Tell whether a file that the mesh refers to exists."""
        return self._find(name.strip()) is not None

    def _find(self, reference: str) -> Path | None:
        name = _plain(reference)
        if self.assets is not None and _is_file(self.assets / posixpath.basename(name)):
            return self.assets / posixpath.basename(name)
        return None if _is_outside(name) else _look_up(self.path.parent, name)

    def image(self, data: bytes, name: str) -> np.ndarray:
        """Return [h, w, 3 or 4] uint8 RGB or RGBA of an image file's bytes.

        Raises:
            VPOGError: it cannot be decoded, or is too large.
        """
        try:
            return decode_texture(data)
        except VPOGError as error:
            raise self.error(f"has the texture '{name[:80]}', which {error}") from error

    def check_counts(self, vertices: int, triangles: int) -> None:
        """Refuse (VPOGError) what is larger than a mesh may be."""
        for count, most, what in (
            (vertices, MAX_VERTICES, "vertices"),
            (triangles, MAX_TRIANGLES, "triangles"),
        ):
            if count > most:
                raise self.error(f"has {count} {what}, more than {most}: simplify it")

    def item(self, items: Sequence, index, what: str):
        """Return one item of a list the file indexes into; an error that names it where it is not there."""
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(items):
            raise self.broken(f"it refers to {what} {index!r:.40}, and has {len(items)} of them")
        return items[index]

    def _read(self, path: Path, name: str) -> bytes:
        try:
            # What a file was is known before it is read: if it changes in between, it counts as changed.
            state = file_state(path)
            size = state[0]
            if size > MAX_BYTES:
                raise self.error(
                    f"needs the file '{name}' of {size >> 20} MiB, more than {MAX_BYTES >> 20}: simplify it"
                )
            data = path.read_bytes()
            self._files[path] = ReadFile(path, digest([data]), state)
            return data
        except OSError as error:
            raise self.error(f"needs the file '{name}', which cannot be opened: {error.strerror}") from None


def _plain(name: str) -> str:
    return posixpath.normpath(name.replace("\\", "/"))


def _is_outside(name: str) -> bool:
    return name.startswith(("/", "..")) or ":" in name


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # The name is too long, or has a character that file names cannot have.
        return False


def _look_up(folder: Path, name: str) -> Path | None:
    """Find a file below a folder; case of names does not matter where it leaves one file, as on Windows."""
    if _is_file(folder / name):
        return folder / name
    for part in name.split("/"):
        try:
            same = [item for item in folder.iterdir() if item.name.lower() == part.lower()]
        except OSError:
            return None
        if len(same) != 1:
            return None
        folder = same[0]
    return folder if _is_file(folder) else None
