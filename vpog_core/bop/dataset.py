"""Read a dataset in BOP's scene-wise layout: scenes of images with cameras and poses, and models.

https://github.com/thodan/bop_toolkit/blob/master/docs/bop_datasets_format.md
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from vpog_core.bop.files import by_number, decode_depth, decode_mask, decode_rgb, read_json
from vpog_core.bop.frame import MILLIMETRE, BopFrame, FrameFiles, length_unit, parse_camera, parse_instances
from vpog_core.bop.layout import NUMBER, find_scenes
from vpog_core.bop.models import BopModels, models_folder
from vpog_core.io.image_file import encoded_size
from vpog_core.objects.mesh import Mesh
from vpog_core.types import VPOGError

IMAGE_FOLDERS = ("rgb", "gray")
MASK_FOLDERS = ("mask", "mask_visib")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
ANNOTATIONS = ("scene_camera", "scene_gt", "scene_gt_info")
CACHED_SCENES = 4
"""The annotations of this many scenes stay in memory; a scene of a thousand images is some 10 MB of JSON."""


@dataclass
class _FolderFiles:
    """Reads the images of one frame from a scene's folders, those of one sensor where there are several."""

    scene: Path
    image_id: int
    depth_scale: float = 1.0
    sensor: str = ""

    def _find(self, folder: str, *index: int) -> Path | None:
        numbers = (self.image_id, *index)
        for ending in IMAGE_SUFFIXES:
            path = self.scene / folder / ("_".join(f"{n:06d}" for n in numbers) + ending)
            if path.is_file():
                return path
        return _by_numbers(self.scene / folder).get(numbers)

    @property
    def image_path(self) -> Path:
        folders = _image_folders(self.sensor)
        for folder in folders:
            if path := self._find(folder):
                return path
        raise VPOGError(
            f"The scene '{self.scene}' has no image {self.image_id:06d} in {' or '.join(folders)}: "
            "download the images of this split."
        )

    def image_size(self) -> tuple[int, int]:
        return encoded_size(self.image_path.read_bytes(), str(self.image_path))

    def image(self) -> np.ndarray:
        return decode_rgb(self.image_path.read_bytes(), str(self.image_path))

    def depth(self) -> np.ndarray | None:
        path = self._find(_of_sensor("depth", self.sensor))
        return None if path is None else decode_depth(path.read_bytes(), str(path), self.depth_scale)

    def mask(self, index: int) -> np.ndarray | None:
        return self._mask("mask", index)

    def mask_visible(self, index: int) -> np.ndarray | None:
        return self._mask("mask_visib", index)

    def _mask(self, folder: str, index: int) -> np.ndarray | None:
        path = self._find(_of_sensor(folder, self.sensor), index)
        return None if path is None else decode_mask(path.read_bytes(), str(path))


@dataclass
class _Scene:
    """Holds the annotation files of one scene, by image; `unit`: its unit of translations, in metres."""

    folder: Path
    sensor: str
    cameras: dict[int, dict]
    gt: dict[int, list] = field(default_factory=dict)
    info: dict[int, list] = field(default_factory=dict)
    unit: float = MILLIMETRE

    @classmethod
    def read(cls, folder: Path, sensor: str, annotations: Sequence[Path]) -> _Scene:
        cameras, *others = annotations
        parts = [by_number(read_json(cameras), cameras)]
        parts += [by_number(read_json(path), path) if path.is_file() else {} for path in others]
        return cls(folder, sensor, *parts, length_unit(parts[1].values()))

    def frame(self, scene_id: int, image_id: int) -> BopFrame:
        where = f"'{self.folder}', image {image_id}"
        K, scale = parse_camera(self.cameras[image_id], where)
        files = _FolderFiles(self.folder, image_id, scale, self.sensor)
        gt, info = self.gt.get(image_id, []), self.info.get(image_id)
        instances = parse_instances(gt, info, where, files, self.unit)
        return BopFrame(scene_id, image_id, K, instances, files, scale)


class BopDataset:
    """Reads one split of a dataset in BOP's layout; lengths are in metres.

    Args:
        root: the dataset's folder, e.g. `ycbv`.
        split: folder of its scenes, e.g. `test`, `train_pbr`.
        models: folder of its models; None takes the first of `models.MODEL_FOLDERS`.
        sensor: whose images are read where there are several, see `layout.find_scenes`.

    Raises:
        VPOGError: no such folder, no scene in it, or several sensors to choose from.
    """

    def __init__(
        self, root: str | Path, split: str = "test", models: str | None = None, sensor: str = ""
    ) -> None:
        self.root, self.split = Path(root).expanduser(), split
        if not self.root.is_dir():
            raise VPOGError(f"There is no dataset folder '{root}': check the path.")
        self._layout = find_scenes(self.root, split, sensor)
        self._models = models
        # A cache for each instance, so that annotations are freed with it.
        self._scene = lru_cache(maxsize=CACHED_SCENES)(self._read_scene)

    def __getstate__(self) -> dict:
        return {k: v for k, v in vars(self).items() if k != "_scene"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._scene = lru_cache(maxsize=CACHED_SCENES)(self._read_scene)

    @property
    def name(self) -> str:
        """Return the dataset's name: its folder's."""
        return self.root.resolve().name

    @property
    def scene_ids(self) -> list[int]:
        """Return the numbers of the scenes, ascending."""
        return sorted(self._layout.scenes)

    def image_ids(self, scene_id: int) -> list[int]:
        """Return the numbers of a scene's images, ascending."""
        return sorted(self._scene(scene_id).cameras)

    def frames(self) -> Iterator[BopFrame]:
        """Yield all frames, by scene and image."""
        for scene_id in self.scene_ids:
            yield from self.section_frames(scene_id)

    @property
    def sections(self) -> list[int]:
        """Return the scenes, each of which is read as a whole."""
        return self.scene_ids

    def section_files(self, section: int) -> list[Path]:
        """Return the files a scene's annotations are read from."""
        return [path for path in self._annotations(section) if path.is_file()]

    def image_files(self, scene_id: int, image_ids: Container[int]) -> list[Path]:
        """Return the files that show some images of a scene: images, depth maps and masks, sorted."""
        scene, sensor = self._layout.scenes[scene_id], self._layout.sensor
        folders = [*_image_folders(sensor), *(_of_sensor(name, sensor) for name in ("depth", *MASK_FOLDERS))]
        found = (_by_numbers(scene / folder) for folder in folders)
        return sorted(path for files in found for (image, *_), path in files.items() if image in image_ids)

    def in_millimetres(self, scene_id: int) -> bool:
        """Tell whether a scene's poses are in millimetres, as BOP wants them, and not in metres."""
        return self._scene(scene_id).unit == MILLIMETRE

    def section_frames(self, section: int) -> Iterator[BopFrame]:
        """Yield all frames of a scene, by image."""
        for image_id in self.image_ids(section):
            yield self.frame(section, image_id)

    def files(self, section: int, image_id: int, depth_scale: float, places: np.ndarray) -> FrameFiles:
        """Return the images of a frame; `places` is for shards."""
        return _FolderFiles(self._layout.scenes[section], image_id, depth_scale, self._layout.sensor)

    def frame(self, scene_id: int, image_id: int) -> BopFrame:
        """Read one frame; its images are read on first use.

        Raises:
            VPOGError: no such scene or image, or a broken annotation.
        """
        scene = self._scene(scene_id)
        if image_id not in scene.cameras:
            raise VPOGError(f"The scene '{scene.folder}' has no image {image_id}: check scene_camera.json.")
        return scene.frame(scene_id, image_id)

    def targets(self) -> list[tuple[int, int, int, int]]:
        """List the targets (scene_id, image_id, obj_id, inst_count), by scene, image and object.

        From SPLIT_targets_bop19.json or, where that is missing, SPLIT_targets_bop24.json (which may name
        images alone: then every object annotated in them); without either, every annotated object.
        """
        path = self.targets_path
        if path is None:
            return sorted(
                t
                for scene in self.scene_ids
                for image in self.image_ids(scene)
                for t in self._annotated(scene, image)
            )
        try:
            entries = [
                (int(t["scene_id"]), int(t["im_id"]), t.get("obj_id"), int(t.get("inst_count", 1)))
                for t in read_json(path)
            ]
            named = [(s, i, int(o), count) for s, i, o, count in entries if o is not None]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise VPOGError(
                f"'{path}' is not a list of targets with scene_id and im_id: download it again."
            ) from error
        whole = [t for s, i, o, _ in entries if o is None for t in self._annotated(s, i)]
        return sorted(named + whole)

    @property
    def targets_path(self) -> Path | None:
        """Return the file `targets` reads, or None."""
        for year in ("bop19", "bop24"):
            path = self.root / f"{self.split.split('_')[0]}_targets_{year}.json"
            if path.is_file():
                return path
        return None

    def _annotated(self, scene_id: int, image_id: int) -> list[tuple[int, int, int, int]]:
        ids = [instance.obj_id for instance in self.frame(scene_id, image_id).instances]
        return [(scene_id, image_id, obj_id, ids.count(obj_id)) for obj_id in sorted(set(ids))]

    @cached_property
    def models(self) -> BopModels:
        """Open the dataset's models."""
        return BopModels(self.root / self._models if self._models else models_folder(self.root))

    @property
    def model_ids(self) -> list[int]:
        """Return the numbers of the models, ascending."""
        return self.models.ids

    @property
    def names(self) -> dict[int, str]:
        """Return a name for each model."""
        return self.models.names

    def model_path(self, obj_id: int) -> Path:
        """Return the file of a model (millimetres)."""
        return self.models.path(obj_id)

    def mesh(self, obj_id: int) -> Mesh:
        """Load a model, in metres."""
        return self.models.mesh(obj_id)

    def diameter(self, obj_id: int) -> float:
        """Return the diameter of a model, metres."""
        return self.models.diameter(obj_id)

    def symmetry(self, obj_id: int):
        """Return the symmetry of a model, metres."""
        return self.models.symmetry(obj_id)

    def _read_scene(self, scene_id: int) -> _Scene:
        if scene_id not in self._layout.scenes:
            raise VPOGError(f"There is no scene {scene_id} in '{self.root / self.split}': check the number.")
        return _Scene.read(self._layout.scenes[scene_id], self._layout.sensor, self._annotations(scene_id))

    def _annotations(self, scene_id: int) -> list[Path]:
        return [self._layout.annotation(scene_id, name) for name in ANNOTATIONS]


def _image_folders(sensor: str) -> tuple[str, ...]:
    """Return the folders that may hold a sensor's images; "" is that of a dataset with one camera."""
    # HOT3D keeps the images of its sensor gray1 in the folder gray1.
    return (*(_of_sensor(name, sensor) for name in IMAGE_FOLDERS), sensor) if sensor else IMAGE_FOLDERS


def _of_sensor(folder: str, sensor: str) -> str:
    return f"{folder}_{sensor}" if sensor else folder


def _by_numbers(folder: Path) -> dict[tuple[int, ...], Path]:
    """Return the images of a folder by the numbers in their names, however many digits these have."""
    try:
        return _listing(folder, folder.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=16)
def _listing(folder: Path, _changed: int) -> dict[tuple[int, ...], Path]:
    names = ((path, path.stem.split("_")) for path in sorted(folder.iterdir()))
    return {
        tuple(int(part) for part in parts): path
        for path, parts in names
        if path.suffix.lower() in IMAGE_SUFFIXES and all(NUMBER.fullmatch(part) for part in parts)
    }
