"""Read a detector's file in BOP's format, and report what is left out of it and why.

https://bop.felk.cvut.cz/challenges/bop-challenge-2022/, section 5.1
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vpog_core.bop.files import parse_json
from vpog_core.bop.rle import decode_rle, rle_counts
from vpog_core.evaluation.benchmark import BenchmarkFrame, FrameKey
from vpog_core.geometry.boxes import box_of_counts
from vpog_core.types import Detection, VPOGError

IDS = ("scene_id", "image_id", "category_id")
GZIP = b"\x1f\x8b"


class _Unusable(Exception):
    """Raised for an entry that is left out; holds the reason, as in "2 with a box of no width or height".

    Args:
        reason: the same for all entries of a kind; detail: of this one.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.detail = detail


@dataclass
class _Entry:
    """Holds one detection: its number in the file, box [4] (x0, y0, x1, y1) pixels, mask as in the file."""

    number: int
    key: FrameKey
    obj_id: int
    box: np.ndarray
    score: float
    segmentation: dict | None


class DetectionFile:
    """Reads a list of {scene_id, image_id, category_id, bbox [x, y, w, h], score, segmentation, time}.

    Of each object the best-scored are taken, as many as targets. A segmentation is a COCO run-length
    mask, or missing; a time is not read. An entry that cannot be used is left out.

    Args:
        objects: those with a model; frames: those with targets.

    Attributes:
        notes: sentences on what is left out.

    Raises:
        VPOGError: a file that cannot be read, without a usable entry, or of other images.
    """

    def __init__(
        self, path: str | Path, objects: Collection[int], frames: Collection[FrameKey], name: str
    ) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        entries = _read(self.path)
        self._by_frame: dict[FrameKey, list[_Entry]] = {}
        left_out: dict[str, list[str]] = {}
        used, elsewhere = 0, []
        for number, entry in enumerate(entries):
            try:
                found = _parse(entry, number, objects)
            except _Unusable as reason:
                first = f"number {number}{reason.detail and ', '}{reason.detail}"
                left_out.setdefault(str(reason), []).append(first)
                continue
            if found.key not in frames:
                elsewhere.append(found)
                continue
            used += 1
            self._by_frame.setdefault(found.key, []).append(found)
        self._report(len(entries), left_out, elsewhere, used, name)
        for found in self._by_frame.values():
            found.sort(key=lambda entry: -entry.score)

    def __call__(self, frame: BenchmarkFrame) -> list[tuple[int, Detection]]:
        """Return the detections of a frame, (obj_id, detection) each."""
        entries = self._by_frame.get(frame.key, [])
        found = []
        for obj_id, count in frame.targets.items():
            mine = [entry for entry in entries if entry.obj_id == obj_id]
            found += [(obj_id, self._detection(entry)) for entry in mine[:count]]
        return [(obj_id, replace(d, instance=n)) for n, (obj_id, d) in enumerate(found)]

    def _detection(self, entry: _Entry) -> Detection:
        rle = entry.segmentation
        mask = None if rle is None else decode_rle(rle, f"{self.path}, detection {entry.number}")
        return Detection("", entry.box, entry.score, mask)

    def _report(
        self, total: int, left_out: dict[str, list[str]], elsewhere: list[_Entry], used: int, name: str
    ) -> None:
        """Store the notes, or raise if no entry can be used.

        Raises:
            VPOGError: no entry can be used.
        """
        reasons = ", ".join(f"{len(each)} {reason} (first: {each[0]})" for reason, each in left_out.items())
        if not used and not elsewhere:
            raise VPOGError(
                f"'{self.path}' has no detection that can be used, of {total}: {reasons or 'it is empty'}; "
                f"write {{{', '.join(IDS)}, bbox [x, y, w, h], score}} for each."
            )
        if not used:
            first = elsewhere[0]
            raise VPOGError(
                f"None of the {len(elsewhere)} detections in '{self.path}' is of an image of '{name}' (the "
                f"first: scene {first.key[0]}, image {first.key[1]}): give those of this dataset and split."
            )
        count = sum(len(each) for each in left_out.values())
        if count:
            self.notes.append(
                f"{count} of {total} detections left out of '{self.path.name}', numbered from 0: {reasons}."
            )
        if elsewhere:
            self.notes.append(
                f"{len(elsewhere)} of {total} detections in '{self.path.name}' are of images that are not "
                f"asked for (first: number {elsewhere[0].number})."
            )


def _read(path: Path) -> list:
    """Read the entries of a file, which may be compressed by gzip.

    Raises:
        VPOGError: no such file, no JSON, or no list.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data.startswith(GZIP) else data
    except (OSError, EOFError, zlib.error) as error:
        raise VPOGError(f"The detections '{path}' cannot be read ({error}): check the path.") from error
    entries = parse_json(data, str(path))
    if not isinstance(entries, list):
        raise VPOGError(
            f"'{path}' holds no list of detections but a {type(entries).__name__}: write it in BOP's format."
        )
    return entries


def _parse(entry, number: int, objects: Collection[int]) -> _Entry:
    """Parse one entry of the file.

    Raises:
        _Unusable: why it is left out.
    """
    if not isinstance(entry, dict):
        raise _Unusable("that are no mapping")
    for key in (*IDS, "bbox", "score"):
        if entry.get(key) is None:
            raise _Unusable(f"without {key}")
    scene_id, image_id, obj_id = (_parse_integer(entry[key], key) for key in IDS)
    if obj_id not in objects:
        raise _Unusable("of a category without a model", f"category_id {obj_id}")
    score = entry["score"]
    if not _is_finite(score):
        raise _Unusable("with a score that is no finite number")
    rle = entry.get("segmentation") or None
    if rle is not None:
        _check_mask(rle)
    return _Entry(number, (scene_id, image_id), obj_id, _box(entry["bbox"]), float(score), rle)


def _parse_integer(value, key: str) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or isinstance(value, bool) or (isinstance(value, float) and number != value):
        raise _Unusable(f"with a {key} that is no whole number")
    return number


def _is_finite(value) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # A whole number of hundreds of digits.
        return False


def _box(value) -> np.ndarray:
    """Convert a box [x, y, w, h] of first pixel and counts to its outer edges [4]."""
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_finite, value)):
        raise _Unusable("with a bbox that is not four finite numbers")
    x, y, w, h = (float(v) for v in value)
    if w <= 0 or h <= 0:
        raise _Unusable("with a box of no width or height")
    return box_of_counts(x, y, w, h)


def _check_mask(rle) -> None:
    if not isinstance(rle, dict):
        raise _Unusable("with a segmentation that is not run-length encoded")
    try:
        counts, _ = rle_counts(rle, "")
    except VPOGError:
        raise _Unusable("with a segmentation that is not run-length encoded") from None
    if not counts[1::2].sum():
        raise _Unusable("with an empty mask")
