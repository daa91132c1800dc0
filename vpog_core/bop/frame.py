"""Define one image of a BOP dataset with its camera and its annotated objects."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from vpog_core.geometry.boxes import box_of_counts
from vpog_core.types import Camera, VPOGError

MILLIMETRE = 0.001
NEAREST = 20.0
"""Translations shorter than this in millimetres are in metres: no camera is that near to an object."""
KNOWN_FIELDS = ("obj_id", "cam_R_m2c", "cam_t_m2c")


class FrameFiles(Protocol):
    """Declares how the images of one frame are read: from a scene's folders, or from a shard."""

    def image_size(self) -> tuple[int, int]: ...
    def image(self) -> np.ndarray: ...
    def depth(self) -> np.ndarray | None: ...
    def mask(self, index: int) -> np.ndarray | None: ...
    def mask_visible(self, index: int) -> np.ndarray | None: ...


@dataclass
class BopInstance:
    """Holds one annotated object of a frame.

    Attributes:
        obj_id: of the model.
        T_cam_obj: [4, 4] float64, metres.
        index: its place in the frame's annotations, which its mask files are named by.
        box_object: [4] float64 (x0, y0, x1, y1) around the whole silhouette, or None. Pixels' outer edges,
            with pixel centres at integers: one pixel at 7 spans 6.5 to 7.5.
        box_visible: the same around the visible part.
        visible_fraction: of the silhouette, 0..1, or None.
        extra: further fields of its entry in scene_gt.json.
    """

    obj_id: int
    T_cam_obj: np.ndarray
    index: int
    box_object: np.ndarray | None = None
    box_visible: np.ndarray | None = None
    visible_fraction: float | None = None
    extra: dict = field(default_factory=dict)
    files: FrameFiles | None = field(default=None, repr=False)

    @property
    def without_info(self) -> bool:
        """Tell whether scene_gt_info.json has no entry for the instance; hidden objects have one."""
        return self.visible_fraction is None and self.box_visible is None and self.box_object is None

    def mask(self) -> np.ndarray | None:
        """Read [H, W] bool of the whole silhouette, where the dataset has it."""
        return None if self.files is None else self.files.mask(self.index)

    def mask_visible(self) -> np.ndarray | None:
        """Read [H, W] bool of the visible part, where the dataset has it."""
        return None if self.files is None else self.files.mask_visible(self.index)


@dataclass
class BopFrame:
    """Holds one image with its camera and its annotated objects.

    Attributes:
        scene_id, image_id: which one; `key` is its name in a shard, else empty.
        K: [3, 3] float64 intrinsics, pixels.
        instances: the annotated objects, in the order of the file.
        depth_scale: brings the numbers of the depth map to millimetres.
    """

    scene_id: int
    image_id: int
    K: np.ndarray
    instances: list[BopInstance]
    files: FrameFiles = field(repr=False)
    depth_scale: float = 1.0
    key: str = ""

    @cached_property
    def camera(self) -> Camera:
        """Return the camera of this image, with the image's size."""
        width, height = self.files.image_size()
        # Not checked: images may be cut out of larger ones, and the evaluation checks whole datasets.
        return Camera(self.K, width, height, checked=True)

    def image(self) -> np.ndarray:
        """Read [H, W, 3] uint8 RGB, of the colour or the gray image."""
        return self.files.image()

    def depth(self) -> np.ndarray | None:
        """Read [H, W] float32 metres, 0 where nothing was measured; None where there is no depth map.

        Raises:
            VPOGError: it is not of the image's size, so K is not its camera's.
        """
        depth, size = self.files.depth(), (self.camera.height, self.camera.width)
        if depth is not None and depth.shape != size:
            raise VPOGError(
                f"The depth map of scene {self.scene_id}, image {self.image_id}, is "
                f"{depth.shape[1]}x{depth.shape[0]} but the image {size[1]}x{size[0]}: register it to the "
                "image, or remove the folder depth."
            )
        return depth


def parse_camera(entry: dict, where: str) -> tuple[np.ndarray, float]:
    """Parse an image's entry in scene_camera.json: (K [3, 3], depth scale); `where` names it in errors."""
    if isinstance(entry, dict) and "cam_model" in entry and "cam_K" not in entry:
        raise VPOGError(
            f"{where} was taken through a lens that `cam_model` describes, which is not read: "
            "undistort the images and give their `cam_K`."
        )
    try:
        K = np.asarray(entry["cam_K"], dtype=np.float64).reshape(3, 3)
        scale = float(entry.get("depth_scale", 1.0))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VPOGError(f"{where} has no `cam_K` of nine numbers: give the camera of each image.") from error
    if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0 and K[2].tolist() == [0, 0, 1]):
        raise VPOGError(
            f"{where} has the `cam_K` {K.ravel().tolist()}: it must be fx, 0, cx, 0, fy, cy, 0, 0, 1, "
            "in pixels."
        )
    return K, scale


def length_unit(of_images: Iterable[list]) -> float:
    """Tell the unit of a scene's translations in metres, from its images' entries in scene_gt.json.

    BOP's millimetres, or metres where half of the objects would be nearer than any camera sees.
    """
    lengths = []
    for entries in of_images:
        for entry in entries if isinstance(entries, list) else ():
            with suppress(KeyError, TypeError, ValueError):
                lengths.append(np.linalg.norm(np.asarray(entry["cam_t_m2c"], dtype=np.float64)))
    return 1.0 if lengths and 0 < np.median(lengths) < NEAREST else MILLIMETRE


def parse_instances(
    gt: list, info: list | None, where: str, files: FrameFiles, unit: float = MILLIMETRE
) -> list[BopInstance]:
    """Parse the instances of an image from its entries in scene_gt.json and scene_gt_info.json (or None).

    Args:
        unit: metres for one of the file's lengths.

    Raises:
        VPOGError: an entry without id or pose, a rotation that is none, lists that do not fit together.
    """
    lists = all(isinstance(entries, list) for entries in (gt, gt if info is None else info))
    if not lists or (info is not None and len(info) != len(gt)):
        raise VPOGError(
            f"{where}: scene_gt.json and scene_gt_info.json do not fit together: download them again."
        )
    infos = info if info is not None else [{}] * len(gt)
    pairs = enumerate(zip(gt, infos, strict=True))
    return [_instance(entry, i, n, where, files, unit) for n, (entry, i) in pairs]


def _instance(entry: dict, info: dict, index: int, where: str, files: FrameFiles, unit: float) -> BopInstance:
    T = np.eye(4)
    try:
        obj_id = int(entry["obj_id"])
        T[:3, :3] = np.asarray(entry["cam_R_m2c"], dtype=np.float64).reshape(3, 3)
        T[:3, 3] = np.asarray(entry["cam_t_m2c"], dtype=np.float64).reshape(3) * unit
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VPOGError(
            f"{where}, entry {index}: it needs `obj_id`, `cam_R_m2c` (nine numbers) and `cam_t_m2c` (three)."
        ) from error
    try:
        boxes = [_box(info.get(key)) for key in ("bbox_obj", "bbox_visib")]
        fraction = None if info.get("visib_fract") is None else float(info["visib_fract"])
    except (TypeError, ValueError, AttributeError) as error:
        raise VPOGError(
            f"{where}, entry {index} of scene_gt_info.json: `bbox_obj` and `bbox_visib` are four numbers and "
            "`visib_fract` is one."
        ) from error
    R = T[:3, :3]
    # Published rotations are rounded to a few digits.
    if not np.isfinite(T).all() or np.abs(R @ R.T - np.eye(3)).max() > 1e-2 or np.linalg.det(R) < 0:
        raise VPOGError(f"{where}, entry {index}: `cam_R_m2c` is not a rotation: fix the annotation.")
    extra = {key: value for key, value in entry.items() if key not in KNOWN_FIELDS}
    return BopInstance(obj_id, T, index, *boxes, fraction, extra, files)


def _box(values) -> np.ndarray | None:
    """Turn x, y, w, h (first pixel and counts) into outer edges; BOP writes -1 where nothing is visible."""
    if values is None:
        return None
    x, y, w, h = (float(value) for value in values)
    return box_of_counts(x, y, w, h) if w > 0 and h > 0 else None
