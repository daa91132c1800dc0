"""Define the held-out benchmark: procedural objects no network was trained on, in synthetic images.

It ships as code: the same seeds give the same images. 30 objects, four levels of difficulty, four images of
every object at each level:

    clean     the object alone on a table, even light, a sharp image
    light     coloured, hard and dim light with highlights, blur, sensor noise
    clutter   as light, among eight other objects
    occluded  as light, with something in front: 30 to 60 % of the object remain visible

All of it twice: `textured`, as the objects are, and `plain`, the same images with the object in one colour.
Round objects are in `textured` alone, as nothing but their print tells their pose; a shape that looks alike
after a turn counts as symmetric in `plain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from vpog_core.evaluation.benchmark import BenchmarkFrame, BenchmarkObject, FrameKey, Truth
from vpog_core.evaluation.heldout_image import LEVELS, HeldOutScene, heldout_camera
from vpog_core.geometry.boxes import outer_box
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.library_entries import write_symmetries
from vpog_core.objects.mesh import Mesh, save_mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.symmetry_search import find_symmetry
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.plain import painted_plain
from vpog_core.synthetic.seeds import HELD_OUT, HELD_OUT_OTHERS

FORMAT = "heldout-2"
"""Increase it when an image or an object changes: scores of different formats cannot be compared."""
OBJECTS, CROPS = 30, 4
TEXTURED, PLAIN = "textured", "plain"
SPLITS = (TEXTURED, PLAIN)
ROUND = (9, 16)
"""Objects that `plain` leaves out: only their print determines their pose."""
PLAIN_SCENES, PLAIN_IDS = 10, 100
"""Offsets of the numbers of levels and of objects in the split `plain`."""


class HeldOut:
    """Provides the held-out benchmark, or a part of it for a quick look.

    Args:
        objects: the first so many of the 30; crops: images of every object at each level.
        levels: of `LEVELS`; splits: of `SPLITS`.
    """

    has_depth = True
    notes: list[str] = []  # noqa: RUF012 (never changed)

    def __init__(
        self,
        objects: int = OBJECTS,
        crops: int = CROPS,
        levels: Sequence[str] = tuple(LEVELS.values()),
        splits: Sequence[str] = SPLITS,
    ) -> None:
        self._objects, self._crops = objects, crops
        self._levels = {n: level for n, level in LEVELS.items() if level in levels}
        self._plain = [plain for plain in (False, True) if _split(plain) in splits]
        scenes = {(plain, n): _scene(n, plain) for plain in self._plain for n in self._levels}
        self.groups = {
            scene: f"{PLAIN} {self._levels[n]}" if plain else self._levels[n]
            for (plain, n), scene in scenes.items()
        }
        self.splits = {scene: _split(plain) for (plain, _), scene in scenes.items()}
        self.name = "heldout"
        if (objects, crops, len(self.groups)) != (OBJECTS, CROPS, len(LEVELS) * len(SPLITS)):
            kinds = ", ".join(self.groups.values())
            self.name = f"heldout, part ({objects} objects, {crops} images each a level: {kinds})"
        # An image does not depend on the part of the benchmark that is evaluated.
        self.fingerprint = FORMAT
        # A cache for each instance, so that meshes are freed with it.
        self.object = lru_cache(maxsize=None)(self._object)
        self._other = lru_cache(maxsize=None)(_other)

    @property
    def keys(self) -> list[FrameKey]:
        """The frames (scene, 1000 * object + image), object by object; a scene is a level of a split."""
        return [
            (_scene(level, obj_id > PLAIN_IDS), 1000 * (obj_id % PLAIN_IDS) + crop)
            for obj_id in self.object_ids
            for level in self._levels
            for crop in range(self._crops)
        ]

    @cached_property
    def object_ids(self) -> list[int]:
        """The objects: 1 and up; in plain paint 101 and up, without the round ones."""
        ids = range(1, self._objects + 1)
        textured = [] if False not in self._plain else list(ids)
        plain = [] if True not in self._plain else [PLAIN_IDS + i for i in ids if i not in ROUND]
        return textured + plain

    @property
    def known_objects(self) -> frozenset[int]:
        """The objects."""
        return frozenset(self.object_ids)

    @property
    def known_keys(self) -> frozenset[FrameKey]:
        """The frames."""
        return frozenset(self.keys)

    def library_id(self, obj_id: int) -> str:
        """Return the name of an object: heldout_01 and so on, heldout_01_plain in plain paint."""
        return f"heldout_{obj_id % PLAIN_IDS:02d}" + f"_{PLAIN}" * (obj_id > PLAIN_IDS)

    def write_library(self, folder: Path) -> None:
        """Write the objects as mesh files, metres, and their symmetries."""
        symmetries = {}
        for obj_id in self.object_ids:
            name, mesh = self.library_id(obj_id), self.object(obj_id).mesh
            save_mesh(mesh, folder / f"{name}.ply")
            if obj_id > PLAIN_IDS:
                symmetries[name] = find_symmetry(mesh).settings()
        write_symmetries(folder, symmetries)

    def frame(self, key: FrameKey) -> BenchmarkFrame:
        """Render one image of one object."""
        scene, number = key
        plain, level = divmod(scene, PLAIN_SCENES)
        obj_id = number // 1000 + plain * PLAIN_IDS
        camera = heldout_camera()
        # The same seed in both splits: only the object's paint differs.
        shot = HeldOutScene(np.random.default_rng([HELD_OUT.start, level, number]), camera.K)
        image, depth, mask, fraction, T_cam_obj = shot.render(
            level, self.object(obj_id).renderer, self._other
        )
        truth = Truth(obj_id, T_cam_obj, fraction, outer_box(mask), lambda: mask)
        return BenchmarkFrame(key, camera, [truth], {obj_id: 1}, lambda: image, lambda: depth)

    def _object(self, obj_id: int) -> BenchmarkObject:
        name, mesh, symmetry = self.library_id(obj_id), _mesh(obj_id % PLAIN_IDS), Symmetry.none()
        if obj_id > PLAIN_IDS:
            mesh = painted_plain(mesh, name)
            symmetry = find_symmetry(mesh).symmetry
        return BenchmarkObject(obj_id, name, name, mesh, mesh.diameter, symmetry)


def _split(plain: bool) -> str:
    return PLAIN if plain else TEXTURED


def _scene(level: int, plain: bool) -> int:
    return level + PLAIN_SCENES * plain


@lru_cache(maxsize=OBJECTS)
def _mesh(obj_id: int) -> Mesh:
    return make_object(HELD_OUT[obj_id - 1])


def _other(index: int) -> Renderer:
    return Renderer(make_object(HELD_OUT_OTHERS[index], vertices=8000))
