"""Keep all frames and instances of a split as flat arrays, for random access to a million images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

import numpy as np

from vpog_core.bop.dataset import BopDataset
from vpog_core.bop.frame import BopFrame, BopInstance, FrameFiles
from vpog_core.bop.shards import PARTS, SHARD_NAMES, BopShards, ShardFiles
from vpog_core.types import VPOGError


class Split(Protocol):
    """Declares what `BopDataset` and `BopShards` have in common."""

    name: str
    sections: list[int]

    def section_files(self, section: int) -> list[Path]: ...
    def section_frames(self, section: int) -> Iterator[BopFrame]: ...
    def files(self, section: int, image_id: int, depth_scale: float, places: np.ndarray) -> FrameFiles: ...


def open_split(root: str | Path, split: str = "") -> BopDataset | BopShards:
    """Open shards where the folder holds some, else scenes.

    Raises:
        VPOGError: neither is there.
    """
    folder = Path(root).expanduser() / split
    return BopShards(root, split) if any(folder.glob(SHARD_NAMES)) else BopDataset(root, split)


@dataclass
class FrameTable:
    """Holds F frames with N instances; those of frame f are rows first[f] to first[f + 1].

    Attributes:
        section, image_id: [F] int32; K: [F, 3, 3] float64; depth_scale: [F] float64.
        places: [F, 4, 2] int64, see `shards.PARTS`; zeros for scenes.
        first: [F + 1] int64.
        obj_id: [N] int32; T_cam_obj: [N, 3, 4] float32 metres; visible_fraction: [N] float32, NaN: not known.
        boxes: [N, 2, 4] float32, `box_object` and `box_visible`, NaN where there is none.
    """

    section: np.ndarray
    image_id: np.ndarray
    K: np.ndarray
    depth_scale: np.ndarray
    places: np.ndarray
    first: np.ndarray
    obj_id: np.ndarray
    T_cam_obj: np.ndarray
    visible_fraction: np.ndarray
    boxes: np.ndarray

    @classmethod
    def of(cls, section: int, frames: Iterable[BopFrame]) -> FrameTable:
        """Make the table of the frames of one section."""
        frames = list(frames)
        instances = [i for frame in frames for i in frame.instances]
        nothing = np.full(4, np.nan, np.float32)
        counts = [len(frame.instances) for frame in frames]
        return cls(
            np.full(len(frames), section, np.int32),
            np.array([f.image_id for f in frames], np.int32),
            np.array([f.K for f in frames], np.float64).reshape(-1, 3, 3),
            np.array([f.depth_scale for f in frames], np.float64),
            np.array([_places(f.files) for f in frames], np.int64).reshape(-1, len(PARTS), 2),
            np.concatenate(([0], np.cumsum(counts, dtype=np.int64))).astype(np.int64),
            np.array([i.obj_id for i in instances], np.int32),
            np.array([i.T_cam_obj[:3] for i in instances], np.float32).reshape(-1, 3, 4),
            np.array([np.nan if (v := i.visible_fraction) is None else v for i in instances], np.float32),
            np.array(
                [[nothing if b is None else b for b in (i.box_object, i.box_visible)] for i in instances],
                np.float32,
            ).reshape(-1, 2, 4),
        )

    @classmethod
    def joined(cls, tables: Sequence[FrameTable]) -> FrameTable:
        """Join several tables to one."""
        arrays = {f.name: np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(cls)}
        starts = np.cumsum([0] + [len(t.obj_id) for t in tables])
        ends = [t.first[1:] + start for t, start in zip(tables, starts[:-1], strict=True)]
        arrays["first"] = np.concatenate([np.zeros(1, np.int64), *ends])
        return cls(**arrays)

    def save(self, folder: Path) -> None:
        """Write each array to a file of its own in `folder`."""
        for f in fields(self):
            np.save(folder / f"{f.name}.npy", getattr(self, f.name))

    @classmethod
    def load(cls, folder: Path) -> FrameTable:
        """Load what `save` wrote, as memory maps.

        Raises:
            VPOGError: a file is missing or broken.
        """
        try:
            arrays = {f.name: np.load(folder / f"{f.name}.npy", mmap_mode="r") for f in fields(cls)}
        except (OSError, ValueError) as error:
            raise VPOGError(
                f"The index '{folder}' cannot be read ({error}): delete it to make it anew."
            ) from error
        return cls(**arrays)

    def frame(self, split: Split, frame: int) -> BopFrame:
        """Return frame number `frame` of the table, without reading its annotations again."""
        section, image_id = int(self.section[frame]), int(self.image_id[frame])
        scale = float(self.depth_scale[frame])
        files = split.files(section, image_id, scale, self.places[frame])
        rows = range(int(self.first[frame]), int(self.first[frame + 1]))
        instances = [self._instance(row, n, files) for n, row in enumerate(rows)]
        return BopFrame(section, image_id, np.asarray(self.K[frame]), instances, files, scale)

    def frame_of(self, rows: np.ndarray) -> np.ndarray:
        """Return frame numbers of instance rows."""
        return np.searchsorted(self.first, rows, side="right") - 1

    def pose(self, row: int) -> np.ndarray:
        """Return T_cam_obj [4, 4] of an instance's row."""
        T = np.eye(4)
        T[:3] = self.T_cam_obj[row]
        return T

    def _instance(self, row: int, index: int, files: FrameFiles) -> BopInstance:
        boxes = [None if np.isnan(b[0]) else np.asarray(b, np.float64) for b in self.boxes[row]]
        visible = float(self.visible_fraction[row])
        known = None if np.isnan(visible) else visible
        return BopInstance(int(self.obj_id[row]), self.pose(row), index, *boxes, known, files=files)


def _places(files: FrameFiles) -> np.ndarray:
    if isinstance(files, ShardFiles):
        return np.stack([files.places[part] for part in PARTS])
    return np.zeros((len(PARTS), 2), np.int64)
