"""Make the images that `vpog calibrate` estimates poses in: procedural objects, seen as real ones are.

A score that was fitted to clean renders is wrong on photographs, so every second scene has what makes those
harder: meshes that are not exact, hard light, and what lenses, sensors and files do. Plain paint, other
objects and things in front are in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from vpog_core.evaluation.heldout_image import lights
from vpog_core.evaluation.tracking_samples import covered
from vpog_core.geometry.boxes import jitter_box, outer_box
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.objects.library_entries import write_symmetries
from vpog_core.objects.mesh import Mesh, save_meshes
from vpog_core.objects.symmetry_search import find_symmetry
from vpog_core.synthetic.imperfect_mesh import imperfect
from vpog_core.synthetic.objects import make_object
from vpog_core.synthetic.photometry import photograph
from vpog_core.synthetic.plain import painted_plain
from vpog_core.synthetic.scene import HEIGHT_FRACTION, DemoScene, SceneFrame, make_scene
from vpog_core.synthetic.seeds import CALIBRATION, take
from vpog_core.types import Camera, Detection

OBJECTS, SECONDS = 3, 1.7
"""Objects of a scene, one of them in plain paint, and the seconds between two frames of it."""
SIZE = (960, 1280)
"""(H, W) of the images; objects cover about a quarter of the height, or less after `photograph`."""
DISTRACTORS = 4
"""Other objects in a scene, at most."""
ROUGHEST_MESH = 0.5
"""Largest strength of `imperfect`: what the meshes differ by from the objects in the images."""
MIN_VISIBLE, BOX_JITTER = 0.3, 0.05


@dataclass(frozen=True)
class CalibrationObject:
    """Holds an object as the estimator knows it: mesh and `symmetry:` of objects.yaml, empty for none."""

    mesh: Mesh
    settings: dict

    @cached_property
    def symmetry(self) -> Symmetry:
        """The symmetry that the settings declare."""
        return Symmetry.from_mapping(self.settings)


@dataclass(frozen=True)
class CalibrationView:
    """Holds one object in one image: the image, its camera, the object's true pose [4, 4] and a detection."""

    image: np.ndarray
    camera: Camera
    T_cam_obj: np.ndarray
    detection: Detection


class CalibrationScene:
    """Makes the objects of one scene, and images of them; `objects` holds them by their names.

    Args:
        number: of the scene; the same number makes the same scene.
        frames: images of it.
        hard: as real images are; else the meshes are exact, light is soft and images are sharp.
    """

    def __init__(self, number: int, frames: int, hard: bool) -> None:
        self._rng, self._frames, self._number = np.random.default_rng([number, 11]), frames, number
        self._is_hard = hard
        seeds = take(CALIBRATION, OBJECTS * number, OBJECTS)
        self.objects = {
            f"object_{n}": _make(f"object_{number}_{n}", seed, plain=n == OBJECTS - 1)
            for n, seed in enumerate(seeds)
        }

    def write_library(self, folder: Path) -> None:
        """Write the objects as mesh files, metres, and their symmetries."""
        save_meshes({name: each.mesh for name, each in self.objects.items()}, folder)
        write_symmetries(folder, {name: each.settings for name, each in self.objects.items()})

    def frames(self) -> Iterator[tuple[SceneFrame, Camera]]:
        """Yield the frames of the scene as a camera takes them, and their camera."""
        scene, side = self._table_top(), round(HEIGHT_FRACTION * SIZE[0])
        for step in range(self._frames):
            frame = scene.render(SECONDS * step)
            if self._is_hard:
                frame = replace(frame, image=photograph(self._rng, frame.image, side))
            yield frame, scene.camera

    def _table_top(self) -> DemoScene:
        """Place the objects on a table: in a hard scene those that the meshes are imperfect models of."""
        rng, shown = self._rng, [each.mesh for each in self.objects.values()]
        distractors, lamps = int(rng.integers(1, DISTRACTORS + 1)), None
        if self._is_hard:
            shown = [imperfect(rng, mesh, rng.uniform(0, ROUGHEST_MESH)) for mesh in shown]
            lamps = lights(rng, even=False)
        return make_scene(self._number, shown, SIZE, distractors, lights=lamps)

    def views(self, frame: SceneFrame, camera: Camera) -> Iterator[CalibrationView]:
        """Yield the objects of a frame, some with something in front; what is mostly hidden is left out."""
        for n, name in enumerate(self.objects):
            if not frame.visible_fraction[n]:
                continue
            image = covered(self._rng, frame.image, frame.boxes_amodal[n], camera)
            mask = frame.masks[n] & (image == frame.image).all(axis=2)
            left = frame.visible_fraction[n] * mask.sum() / frame.masks[n].sum()
            if left >= MIN_VISIBLE:
                box = jitter_box(self._rng, outer_box(mask), BOX_JITTER)
                yield CalibrationView(image, camera, frame.T_cam_obj[n], Detection(name, box, instance=n))


def _make(name: str, seed: int, plain: bool) -> CalibrationObject:
    mesh = make_object(seed)
    if not plain:
        return CalibrationObject(mesh, {})
    mesh = painted_plain(mesh, name)
    return CalibrationObject(mesh, find_symmetry(mesh).settings())
