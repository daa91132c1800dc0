"""Make the objects and images that hypotheses are recorded in: each object textured and plain, on a table.

Half of the objects are procedural, of seeds that networks are trained on; the others are mesh files in
another paint. Their images are those of the held-out benchmark: clean, badly lit, cluttered, occluded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from vpog_core.evaluation.heldout_image import LEVELS, OTHERS, HeldOutScene, heldout_camera
from vpog_core.geometry.boxes import jitter_box, outer_box
from vpog_core.io.image_file import PHOTO_SUFFIXES, read_photo
from vpog_core.objects.library_entries import write_symmetries
from vpog_core.objects.mesh import MESH_SUFFIXES, Mesh, load_mesh, save_mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.symmetry_search import find_symmetry
from vpog_core.synthetic.objects import USUAL_DIAMETER, make_object
from vpog_core.synthetic.painted_mesh import painted_mesh
from vpog_core.synthetic.plain import painted_plain
from vpog_core.synthetic.repaint import repainted
from vpog_core.synthetic.seeds import TRAINING, take
from vpog_core.types import VPOGError

FIRST_SEED = 1000
"""Offset of the objects' seeds in `TRAINING`: small networks are trained on the first ones, and know them."""
FIRST_OTHER = 20_000
"""Offset of the seeds of the objects around them, `OTHERS` for each."""
TEXTURES = ("print", "photo", "decals")
"""Paints of mesh files, see `repaint.APPEARANCES`."""
PHOTOS = 8
"""Photographs that the paint of one object is made of, at most."""
MIN_VISIBLE, MIN_PIXELS = 0.25, 300
"""Least fraction, and least number of pixels, of an object that an image shows."""
BOX_JITTER = 0.05


@dataclass(frozen=True)
class ObjectSources:
    """Says what objects are made of, by their numbers.

    Attributes:
        meshes: files that every second object is made of; none: all are procedural.
        photos: image files for their paint; unit: of the meshes: auto, m, cm or mm.
        seed: of all that is drawn: files, paint and images.
    """

    meshes: tuple[Path, ...] = ()
    photos: tuple[Path, ...] = ()
    unit: str = "auto"
    seed: int = 0

    def mesh_file(self, number: int) -> Path | None:
        """Return the file of an object; None for a procedural one. All files are used in turn."""
        if number % 2 == 0 or not self.meshes:
            return None
        order = np.random.default_rng(self.seed).permutation(len(self.meshes))
        return self.meshes[order[number // 2 % len(order)]]


@dataclass(frozen=True)
class RecordedImage:
    """Holds an image [H, W, 3] uint8, the object's true pose T_cam_obj [4, 4] and its detected box [4]."""

    image: np.ndarray
    T_cam_obj: np.ndarray
    box: np.ndarray


def find_meshes(folder: str | Path) -> list[Path]:
    """List the mesh files of a folder, by name.

    Raises:
        VPOGError: no such folder, or no mesh in it.
    """
    return _find(folder, "meshes", MESH_SUFFIXES)


def find_photos(folder: str | Path) -> list[Path]:
    """List the images of a folder, by name.

    Raises:
        VPOGError: no such folder, or no image in it.
    """
    return _find(folder, "photos", PHOTO_SUFFIXES)


def check_numbers(numbers: range) -> None:
    """Raise a VPOGError where there are no seeds for objects of these numbers."""
    take(TRAINING[:FIRST_OTHER], FIRST_SEED + numbers.start, len(numbers))
    take(TRAINING, FIRST_OTHER + OTHERS * numbers.start, OTHERS * len(numbers))


def make_variants(sources: ObjectSources, number: int) -> dict[str, Mesh]:
    """Make the meshes of an object, metres, by their names: textured, and plain.

    Raises:
        VPOGError: a mesh file or photograph that cannot be used.
    """
    path, name = sources.mesh_file(number), f"object_{number:05d}"
    if path is None:
        textured = make_object(take(TRAINING, FIRST_SEED + number, 1)[0])
    else:
        rng = np.random.default_rng([sources.seed, number])
        textured = _painted(rng, _resized(load_mesh(path, sources.unit)), sources.photos)
    return {f"{name}_textured": textured, f"{name}_plain": painted_plain(textured, name)}


def write_library(folder: Path, meshes: Mapping[str, Mesh]) -> None:
    """Write meshes as files, metres, and the symmetries that are found in them."""
    for name, mesh in meshes.items():
        textured = mesh.uv is not None and mesh.texture is not None
        save_mesh(mesh, folder / f"{name}{'.glb' if textured else '.ply'}")
    write_symmetries(folder, {name: find_symmetry(mesh).settings() for name, mesh in meshes.items()})


def make_images(
    rng: np.random.Generator, renderer: Renderer, number: int, counts: Mapping[str, int]
) -> Iterator[RecordedImage]:
    """Render images of an object; those that show too little of it are left out.

    Args:
        number: of the object: decides which ones lie around it; counts: images of each level of `LEVELS`.
    """
    seeds = take(TRAINING, FIRST_OTHER + OTHERS * number, OTHERS)
    other = lru_cache(maxsize=None)(lambda index: Renderer(make_object(seeds[index], vertices=8000)))
    for level, name in LEVELS.items():
        for _ in range(counts.get(name, 0)):
            image, _, mask, fraction, T_cam_obj = HeldOutScene(rng, heldout_camera().K).render(
                level, renderer, other
            )
            if fraction >= MIN_VISIBLE and mask.sum() >= MIN_PIXELS:
                yield RecordedImage(image, T_cam_obj, jitter_box(rng, outer_box(mask), BOX_JITTER))


def _find(folder: str | Path, flag: str, suffixes: tuple[str, ...]) -> list[Path]:
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise VPOGError(f"There is no folder '{folder}': give --{flag} one that is there.")
    # Skip hidden files, such as `._mug.ply`, which macOS writes.
    files = [p for p in path.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")]
    if not files:
        raise VPOGError(f"The folder '{folder}' of --{flag} holds none of {', '.join(suffixes)}: check it.")
    return sorted(files)


def _resized(mesh: Mesh) -> Mesh:
    """Scale a mesh to the geometric mean of its own and the usual size, as procedural objects are."""
    return replace(mesh, vertices=mesh.vertices * np.sqrt(USUAL_DIAMETER / mesh.diameter))


def _painted(rng: np.random.Generator, mesh: Mesh, photos: tuple[Path, ...]) -> Mesh:
    """Paint a mesh with a print, photographs or decals."""
    chosen = rng.permutation(len(photos))[:PHOTOS]
    images = [read_photo(photos[n]) for n in chosen]
    appearance = TEXTURES[rng.integers(len(TEXTURES))]
    return painted_mesh(repainted(rng, Renderer(mesh), appearance, images))
