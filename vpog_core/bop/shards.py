"""Read images in BOP's webdataset layout: shard-000000.tar with KEY.rgb.jpg, KEY.gt.json, KEY.camera.json.

https://github.com/thodan/bop_toolkit/blob/master/bop_toolkit_lib/dataset/bop_webdataset.py; MegaPose-GSO and
MegaPose-ShapeNetCore are published in it. Each member is read at its place in the file.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from vpog_core.bop.files import decode_depth, decode_rgb, parse_json, read_json
from vpog_core.bop.frame import BopFrame, parse_camera, parse_instances
from vpog_core.bop.layout import NUMBER
from vpog_core.bop.rle import decode_rle
from vpog_core.io.image_file import encoded_size
from vpog_core.types import VPOGError

SHARD_NAMES = "shard-*.tar"
IMAGE_NAMES = ("rgb.jpg", "rgb.png", "rgb.jpeg", "gray.png", "gray.tiff", "gray.tif", "gray.jpg")
DEPTHS = ("depth.png", "depth.tif", "depth.tiff")
PARTS = ("image", "depth", "mask", "mask_visib")
"""Members whose place is kept, to read them on first use; the others are read with the annotations."""
MODEL_LISTS = {
    "gso_models.json": ("gso_id",),
    "shapenet_models.json": ("shapenet_synset_id", "shapenet_source_id"),
}

Places = dict[str, tuple[int, int]]
"""The places of a frame's members, by extension: (offset, size) in the tar file, bytes."""


class ShardFiles:
    """Reads the images of one frame of a shard.

    Args:
        shard: the tar file; places: [4, 2] int (offset, size) of `PARTS`, size 0 where there is none.
    """

    def __init__(self, shard: Path, places: np.ndarray, depth_scale: float = 1.0, key: str = "") -> None:
        self.shard, self.depth_scale, self.key = shard, depth_scale, key
        self.places = dict(zip(PARTS, places, strict=True))

    @property
    def _where(self) -> str:
        return f"{self.shard}: {self.key}" if self.key else str(self.shard)

    def _read(self, part: str) -> bytes | None:
        offset, size = (int(n) for n in self.places[part])
        return read_at(self.shard, offset, size) if size else None

    @cached_property
    def _encoded(self) -> bytes:
        data = self._read("image")
        if data is None:
            raise VPOGError(f"'{self._where}' has no rgb or gray image: download the shard again.")
        return data

    def image_size(self) -> tuple[int, int]:
        return encoded_size(self._encoded, self._where)

    def image(self) -> np.ndarray:
        return decode_rgb(self._encoded, self._where)

    def depth(self) -> np.ndarray | None:
        data = self._read("depth")
        return None if data is None else decode_depth(data, self._where, self.depth_scale)

    @cached_property
    def _masks(self) -> dict[str, dict]:
        read = ((part, self._read(part)) for part in ("mask", "mask_visib"))
        return {part: parse_json(data, self._where) for part, data in read if data is not None}

    def mask(self, index: int) -> np.ndarray | None:
        return self._mask("mask", index)

    def mask_visible(self, index: int) -> np.ndarray | None:
        return self._mask("mask_visib", index)

    def _mask(self, part: str, index: int) -> np.ndarray | None:
        rle = self._masks.get(part, {}).get(str(index))
        return None if rle is None else decode_rle(rle, self._where)


class BopShards:
    """Reads shards of posed images; lengths are in metres.

    Args:
        root: the dataset's folder; split: folder of the shards in it, empty where they lie in `root` itself.

    Raises:
        VPOGError: no such folder, or no shard in it.
    """

    def __init__(self, root: str | Path, split: str = "") -> None:
        self.root, self.split = Path(root).expanduser(), split
        shards = sorted((self.root / split).glob(SHARD_NAMES)) if Path(split).name == split else []
        if not shards:
            raise VPOGError(f"There is no {SHARD_NAMES} in '{self.root / split}': check the path.")
        self._shards = {int(re.sub(r"\D", "", p.stem) or n): p for n, p in enumerate(shards)}

    @property
    def name(self) -> str:
        """Return the dataset's name: its folder's."""
        return self.root.resolve().name

    @property
    def sections(self) -> list[int]:
        """Return the numbers of the shards, ascending."""
        return sorted(self._shards)

    def section_files(self, section: int) -> list[Path]:
        """Return the files a shard's annotations are read from."""
        return [self._shards[section]]

    def section_frames(self, section: int) -> Iterator[BopFrame]:
        """Yield all frames of one shard, in its order.

        Raises:
            VPOGError: a broken shard or annotation.
        """
        shard = self._shards[section]
        for number, (key, places) in enumerate(frame_places(shard).items()):
            yield self._frame(section, number, key, places)

    def frames(self) -> Iterator[BopFrame]:
        """Yield all frames, shard by shard."""
        for section in self.sections:
            yield from self.section_frames(section)

    def files(self, section: int, image_id: int, depth_scale: float, places: np.ndarray) -> ShardFiles:
        """Return the images of a frame whose places [4, 2] are known from before."""
        return ShardFiles(self._shards[section], places, depth_scale)

    @cached_property
    def model_names(self) -> dict[int, str]:
        """Return the models' names in the set they come from, by obj_id, as gso_models.json or the like has.

        ShapeNet's are SYNSET/SOURCE. Names with a path in them are refused.
        """
        path = next((p for n in MODEL_LISTS if (p := self.root / n).is_file()), None)
        if path is None:
            raise VPOGError(
                f"'{self.root}' holds none of {', '.join(MODEL_LISTS)}: download the list of models to it."
            )
        try:
            names = {
                int(entry["obj_id"]): [str(entry[key]) for key in MODEL_LISTS[path.name]]
                for entry in read_json(path)
            }
        except (KeyError, TypeError, ValueError) as error:
            raise VPOGError(f"'{path}' is not a list of models: download it again.") from error
        for name in (part for parts in names.values() for part in parts):
            if Path(name).name != name:
                raise VPOGError(
                    f"'{path}' names the model '{name}', which is no plain name: download it again."
                )
        return {obj_id: "/".join(parts) for obj_id, parts in names.items()}

    @property
    def model_set(self) -> str:
        """Return where the models come from: "gso" or "shapenet"; empty where no list says so."""
        return next((n.split("_")[0] for n in MODEL_LISTS if (self.root / n).is_file()), "")

    def _frame(self, section: int, number: int, key: str, members: Places) -> BopFrame:
        shard = self._shards[section]
        where = f"{shard}: {key}"
        json = {
            ext: parse_json(read_at(shard, *members[ext]), where)
            for ext in ("camera.json", "gt.json", "gt_info.json")
            if ext in members
        }
        if "camera.json" not in json:
            raise VPOGError(f"'{where}' has no camera.json: download the shard again.")
        K, scale = parse_camera(json["camera.json"], f"'{where}'")
        files = ShardFiles(shard, part_places(members), scale, key)
        gt, info = json.get("gt.json", []), json.get("gt_info.json")
        instances = parse_instances(gt, info, f"'{where}'", files)
        scene_id, image_id = _numbers(key) or (section, number)
        return BopFrame(scene_id, image_id, K, instances, files, scale, key)


def frame_places(shard: Path) -> dict[str, Places]:
    """Find the frames of a shard by key, in their order, with the places of their members.

    Raises:
        VPOGError: the file is missing, cut short or no tar file.
    """
    frames: dict[str, Places] = {}
    try:
        with tarfile.open(shard, mode="r:") as tar:
            for member in tar:
                if member.isfile():
                    key, _, ext = member.name.rpartition("/")[2].partition(".")
                    frames.setdefault(key, {})[ext] = (member.offset_data, member.size)
    except (OSError, tarfile.TarError) as error:
        raise VPOGError(f"The shard '{shard}' cannot be read ({error}): download it again.") from error
    return frames


def part_places(members: Places) -> np.ndarray:
    """Return [4, 2] int64 (offset, size) of `PARTS`; zeros where there is none."""
    names = (IMAGE_NAMES, DEPTHS, ("mask.json",), ("mask_visib.json",))
    found = [next((members[ext] for ext in choice if ext in members), (0, 0)) for choice in names]
    return np.array(found, dtype=np.int64)


def read_at(path: Path, offset: int, size: int) -> bytes:
    """Read the bytes at a place in a file.

    Raises:
        VPOGError: the file is missing or ends before.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise VPOGError(f"The shard '{path}' cannot be read ({error.strerror}): check the path.") from error
    if len(data) < size:
        raise VPOGError(f"The shard '{path}' is cut short: download it again.")
    return data


def _numbers(key: str) -> tuple[int, int] | None:
    """Return (scene, image) of a key such as 000003_000012."""
    parts = key.split("_")
    numbered = len(parts) == 2 and all(NUMBER.fullmatch(part) for part in parts)
    return (int(parts[0]), int(parts[1])) if numbered else None
