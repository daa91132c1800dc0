"""Use a BOP dataset as a benchmark: its targets, poses and models."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import yaml

from vpog_core.bop.dataset import BopDataset
from vpog_core.bop.frame import BopFrame, BopInstance
from vpog_core.bop.models import BopModels, evaluation_folder
from vpog_core.evaluation.benchmark import BenchmarkFrame, BenchmarkObject, FrameKey, Truth
from vpog_core.evaluation.bop_checks import check_dataset
from vpog_core.evaluation.vsd import DELTA, DELTAS
from vpog_core.geometry.boxes import clip_box, outer_box, projected_box
from vpog_core.objects.library_entries import SETTINGS, SETTINGS_NAMES, visible_files
from vpog_core.types import VPOGError
from vpog_core.utils.fingerprint import SHORT, digest, file_state


class BopBenchmark:
    """Provides the targets of one split.

    Args:
        root: the dataset's folder; split: e.g. `test`.
        limit: the first so many frames; None takes all.
        sensor: whose images are read in a dataset of several cameras.

    Raises:
        VPOGError: no such dataset, split, sensor or models; nothing to find in it.
    """

    groups: dict[int, str] = {}  # noqa: RUF012 (never changed)
    splits: dict[int, str] = {}  # noqa: RUF012 (never changed)

    def __init__(
        self, root: str | Path, split: str = "test", limit: int | None = None, sensor: str = ""
    ) -> None:
        self.dataset = BopDataset(root, split, sensor=sensor)
        self._targets: dict[FrameKey, dict[int, int]] = {}
        for scene_id, image_id, obj_id, count in self.dataset.targets():
            of_frame = self._targets.setdefault((scene_id, image_id), {})
            of_frame[obj_id] = count
        self.known_keys = frozenset(self._targets)
        if limit is not None:
            self._targets = dict(sorted(self._targets.items())[:limit])
        if not self._targets:
            raise VPOGError(
                f"There is nothing to find in '{root}', split '{split}': its scene_gt.json name no object "
                "(BOP keeps those of some test images hidden: use the split val)."
            )
        # A cache for each instance, so that meshes are freed with it.
        self.object = lru_cache(maxsize=None)(self._object)

    @property
    def name(self) -> str:
        """The dataset and the split."""
        return f"{self.dataset.name} {self.dataset.split}"

    @property
    def keys(self) -> list[FrameKey]:
        """The frames with targets, by scene and image."""
        return sorted(self._targets)

    @cached_property
    def object_ids(self) -> list[int]:
        """The objects with targets, ascending."""
        return sorted({obj_id for targets in self._targets.values() for obj_id in targets})

    @cached_property
    def has_depth(self) -> bool:
        """Tell whether VSD can be computed: the first frame of every scene has a depth map."""
        first = {scene: (scene, image) for scene, image in reversed(self.keys)}
        return all(self.dataset.frame(*key).depth() is not None for key in first.values())

    @cached_property
    def fingerprint(self) -> str:
        """A hash of annotations and targets, and of the state of all images, masks, depth maps and models."""
        read = [path for scene in self.dataset.scene_ids for path in self.dataset.section_files(scene)]
        read += filter(None, [self.dataset.targets_path])
        return digest([self.dataset.split, *read, *map(self._state, self._large_files())])[:SHORT]

    def _state(self, path: Path) -> str:
        size, changed = file_state(path)
        return f"{path.relative_to(self.dataset.root)} {size} {changed}\n"

    def _large_files(self) -> Iterator[Path]:
        """Yield what shows the frames with targets, and the models with their textures."""
        images: dict[int, set[int]] = {}
        for scene_id, image_id in self.known_keys:
            images.setdefault(scene_id, set()).add(image_id)
        for scene_id in self.dataset.scene_ids:
            yield from self.dataset.image_files(scene_id, images.get(scene_id, ()))
        for folder in sorted({self.dataset.models.folder, self._scored.folder}):
            yield from visible_files(folder)

    @cached_property
    def known_objects(self) -> frozenset[int]:
        """All objects with a model, including those without targets."""
        return frozenset(self.dataset.model_ids)

    @cached_property
    def notes(self) -> list[str]:
        """Return what `check_dataset` finds; it reads the annotations of every frame."""
        return check_dataset(self.dataset, self._targets, lambda obj_id: self.object(obj_id).hull)

    def frame(self, key: FrameKey) -> BenchmarkFrame:
        """Return one frame; its image files are read on first use."""
        frame = self.dataset.frame(*key)
        return BenchmarkFrame(
            key=key,
            camera=frame.camera,
            truths=[self._truth(instance, frame) for instance in frame.instances],
            targets=self._targets[key],
            read_image=frame.image,
            read_depth=frame.depth,
            vsd_delta=DELTAS.get(self.dataset.root.resolve().name, DELTA),
        )

    def library_id(self, obj_id: int) -> str:
        """Return the name of an object in the library: obj_000001 and so on."""
        return f"obj_{obj_id:06d}"

    def write_library(self, folder: Path) -> None:
        """Link the models, with what lies beside them, and describe unit and symmetry."""
        source = self.dataset.models.folder.resolve()
        for path in source.iterdir():
            if path.is_file() and path.name.lower() not in SETTINGS_NAMES:
                _link(path, folder / path.name)
        unit = self.dataset.models.unit
        objects = {
            self.library_id(i): {"mesh": self.dataset.model_path(i).name, "unit": unit}
            for i in self.object_ids
        }
        (folder / SETTINGS).write_text(yaml.safe_dump({"objects": objects}), encoding="utf-8")

    def _truth(self, instance: BopInstance, frame: BopFrame) -> Truth:
        fraction = instance.visible_fraction
        box = instance.box_visible if instance.box_visible is not None else instance.box_object
        if instance.without_info:
            box = self._box(instance, frame)
        return Truth(
            obj_id=instance.obj_id,
            T_cam_obj=instance.T_cam_obj,
            visible_fraction=math.nan if fraction is None else fraction,
            box=box,
            read_mask=instance.mask_visible,
        )

    def _box(self, instance: BopInstance, frame: BopFrame) -> np.ndarray | None:
        """Compute the box of an instance that scene_gt_info.json does not list; None where there is none."""
        mask = instance.mask_visible()
        if mask is None:
            mask = instance.mask()
        if mask is not None:
            return outer_box(mask)
        if instance.obj_id not in self.known_objects:
            return None
        outline = projected_box(instance.T_cam_obj, self.object(instance.obj_id).hull, frame.K)
        if outline is None:
            return None
        box = clip_box(outline, frame.camera.width, frame.camera.height, first=-0.5)
        return box if (box[2:] > box[:2]).all() else None

    @cached_property
    def _scored(self) -> BopModels:
        """The models that errors are computed on."""
        models = self.dataset.models
        folder = evaluation_folder(models.folder)
        return models if folder == models.folder else BopModels(folder)

    def _object(self, obj_id: int) -> BenchmarkObject:
        models = self._scored
        return BenchmarkObject(
            obj_id=obj_id,
            name=self.dataset.names.get(obj_id, self.library_id(obj_id)),
            library_id=self.library_id(obj_id),
            mesh=models.mesh(obj_id),
            diameter=models.diameter(obj_id),
            symmetry=models.symmetry(obj_id),
        )


def _link(source: Path, target: Path) -> None:
    try:
        os.symlink(source, target)
    except OSError:
        shutil.copyfile(source, target)
