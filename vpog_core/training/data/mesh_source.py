"""List training objects and load their meshes: files, Google Scanned Objects, BOP's models, seeds."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2

from vpog_core.io.image_file import PHOTO_SUFFIXES, read_photo
from vpog_core.objects.mesh import MESH_SUFFIXES, Mesh, load_mesh
from vpog_core.synthetic import objects as synthetic_objects
from vpog_core.synthetic.objects import make_object
from vpog_core.training.data.data_config import DataConfig
from vpog_core.types import VPOGError
from vpog_core.utils.fingerprint import SHORT, code_of, digest, file_state, safe_name

TEXTURE_SIDE = 2048
"""Larger textures are reduced to this many pixels a side; a crop shows an object at a few hundred pixels."""
GSO_MESH, GSO_TEXTURES = "meshes/model.obj", "materials/textures"
PROCEDURAL_CODE = ("containers", "fields", "objects", "prints", "shape_parts", "shapes", "textures")
"""Modules of `vpog_core.synthetic` that decide what a procedural object looks like."""
MEGAPOSE_SCALE = 0.1
"""MegaPose's images show each object scaled by this, in metres."""


@dataclass(frozen=True)
class ObjectSource:
    """Says how to load one object's mesh.

    Attributes:
        kind: the source it counts for: one of `data_config.SOURCES`.
        name: unique within its folder.
        path: of its mesh file; None for a procedural object, which is made from `seed` and maybe `photo`.
        unit: of the file: auto, m, cm or mm.
        textures: a second folder for the images the mesh names.
        megapose: scale it as MegaPose's images show it: "gso" or "shapenet"; empty: as it is.
        texture_side: larger textures are reduced to this, pixels.
    """

    kind: str
    name: str
    path: Path | None = None
    unit: str = "auto"
    textures: Path | None = None
    seed: int = -1
    photo: Path | None = None
    megapose: str = ""
    texture_side: int = TEXTURE_SIDE

    def load(self) -> Mesh:
        """Load the mesh, in metres.

        Raises:
            VPOGError: a mesh or photograph that cannot be used.
        """
        if self.path is None:
            return make_object(self.seed, photo=read_photo(self.photo) if self.photo else None)
        mesh = load_mesh(self.path, self.unit, assets=self.textures)
        if self.megapose:
            mesh = _as_megapose(mesh, self.megapose)
        return _smaller_texture(mesh, self.texture_side)

    def key(self) -> str:
        """Return a key that changes with the mesh's files, or with the code that makes procedural objects."""
        parts = [f"{self.kind} {self.name} {self.unit} {self.megapose} {self.texture_side} {self.seed}"]
        if self.path is None:
            parts.append(_procedural_code_digest())
            parts += [_stamp(self.photo)] if self.photo else []
        else:
            parts += [_stamp(p) for p in (self.path, *_companions(self.path, self.textures))]
        return digest(["\n".join(parts)])[:SHORT]

    def folder(self, cache_dir: Path) -> Path:
        """Return the object's folder in the cache."""
        return cache_dir / f"{safe_name(self.name)[:80]}-{self.key()}"


def mesh_files(folder: str, unit: str = "auto") -> list[ObjectSource]:
    """List the mesh files of a folder, by name.

    Raises:
        VPOGError: no such folder, or no mesh in it.
    """
    files = [p for p in _listed(folder, "meshes") if p.suffix.lower() in MESH_SUFFIXES]
    if not files:
        raise VPOGError(
            f"The folder '{folder}' holds no mesh ({', '.join(MESH_SUFFIXES)}): check data.meshes."
        )
    return [ObjectSource("meshes", p.stem, p, unit) for p in files]


def scanned_objects(folder: str) -> list[ObjectSource]:
    """List Google Scanned Objects as published: NAME/meshes/model.obj, NAME/materials/textures/, metres.

    Raises:
        VPOGError: no such folder, or no object in it.
    """
    found = [p for p in _listed(folder, "gso") if (p / GSO_MESH).is_file()]
    if not found:
        raise VPOGError(
            f"The folder '{folder}' holds no NAME/{GSO_MESH}: set data.gso to the unpacked objects."
        )
    return [
        ObjectSource("gso", p.name, p / GSO_MESH, "m", p / GSO_TEXTURES, texture_side=TEXTURE_SIDE // 2)
        for p in found
    ]


MESH_SOURCES: dict[str, Callable[[DataConfig], list[ObjectSource]]] = {
    "meshes": lambda config: [s for folder in config.meshes for s in mesh_files(folder, config.unit)],
    "gso": lambda config: scanned_objects(config.gso) if config.gso else [],
}
"""Lists the objects of each kind of mesh files, by the name of their setting in `DataConfig`."""


def procedural(seeds: range, photos: list[Path]) -> list[ObjectSource]:
    """List procedural objects by seed; every third carries a photograph, where there are some."""
    return [
        ObjectSource(
            "procedural", f"seed_{seed:06d}", seed=seed,
            photo=photos[seed % len(photos)] if photos and seed % 3 == 0 else None,
        )
        for seed in seeds
    ]  # fmt: skip


def split_held_out(sources: list, every: int) -> tuple[list, list]:
    """Split into (for training, held out): the first of each `every` in order is held out."""
    if every == 0 or len(sources) < 2:
        return sources, []
    return [s for i, s in enumerate(sources) if i % every], sources[::every]


def photo_files(folder: str) -> list[Path]:
    """List the images of a folder, by name; none for an empty name.

    Raises:
        VPOGError: no such folder, or no image in it.
    """
    if not folder:
        return []
    files = [p for p in _listed(folder, "photos") if p.suffix.lower() in PHOTO_SUFFIXES]
    if not files:
        raise VPOGError(
            f"The folder '{folder}' holds no image ({', '.join(PHOTO_SUFFIXES)}): check data.photos."
        )
    return files


def _listed(folder: str, key: str) -> list[Path]:
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise VPOGError(f"There is no folder '{folder}': set data.{key} to one that is there.")
    # Skip hidden files, such as `._mug.ply`, which macOS writes.
    return sorted(p for p in path.iterdir() if not p.name.startswith("."))


def _as_megapose(mesh: Mesh, kind: str) -> Mesh:
    """Scale (and centre) a mesh as the images of MegaPose-GSO and MegaPose-ShapeNetCore show it.

    https://github.com/thodan/bop_toolkit/blob/master/docs/bop_challenge_2023_training_datasets.md
    """
    if kind == "shapenet":
        return replace(mesh, vertices=mesh.vertices * MEGAPOSE_SCALE)
    low, high = mesh.bounds
    half = (high - low).max() / 2
    return replace(mesh, vertices=(mesh.vertices - mesh.center) * (MEGAPOSE_SCALE / half))


def _smaller_texture(mesh: Mesh, side: int) -> Mesh:
    if mesh.texture is None or max(mesh.texture.shape[:2]) <= side:
        return mesh
    scale = side / max(mesh.texture.shape[:2])
    small = cv2.resize(mesh.texture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return replace(mesh, texture=small)


def _stamp(path: Path) -> str:
    try:
        size, time = file_state(path)
    except OSError as error:
        raise VPOGError(f"There is no file '{path}': check the path.") from error
    return f"{path.name} {size} {time}"


NAMED_FILES = re.compile(rb"^\s*(?:mtllib|map_\w+|comment TextureFile)\s+(.+?)\s*$", re.MULTILINE)


def _companions(path: Path, textures: Path | None) -> list[Path]:
    """List the materials and textures that a mesh file names and that exist."""
    if path.suffix.lower() not in (".obj", ".ply"):
        return []
    try:
        with path.open("rb") as file:
            head = file.read(1 << 14)
    except OSError as error:
        raise VPOGError(f"There is no mesh file '{path}': check the path.") from error
    folders = [path.parent, *([textures] if textures else [])]
    found = _named(head, folders)
    return found + [t for m in found if m.suffix.lower() == ".mtl" for t in _named(m.read_bytes(), folders)]


def _named(text: bytes, folders: list[Path]) -> list[Path]:
    names = [Path(m.decode("utf-8", "replace").replace("\\", "/")).name for m in NAMED_FILES.findall(text)]
    return [f / name for name in names for f in folders if name and (f / name).is_file()]


@lru_cache(maxsize=1)
def _procedural_code_digest() -> str:
    """Return a digest of the code that makes procedural objects; comments and docstrings do not change it."""
    folder = Path(synthetic_objects.__file__).parent
    return digest(code_of((folder / f"{name}.py").read_text("utf-8")) for name in PROCEDURAL_CODE)
