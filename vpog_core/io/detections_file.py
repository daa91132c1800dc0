"""Read the detections in one image from a file that a person or a script writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from vpog_core.geometry.boxes import box_of_mask
from vpog_core.io.file_bytes import read_bytes
from vpog_core.io.mask_file import read_mask
from vpog_core.types import Detection, VPOGError

WHAT = "detections file"
KEYS = ("object", "box", "mask", "score", "instance")
EXAMPLE = "{object: mug, box: [x0, y0, x1, y1]}"


def read_detections_file(path: str | Path, size: tuple[int, int]) -> list[Detection]:
    """Read a list of detections, YAML or JSON: `{object, box or mask, score, instance}` each.

    Args:
        size: (height, width) of the image, which masks must have. A mask is the path of an image file in the
            folder of this one, or below.

    Returns:
        the detections, in their order; those without an `instance` are numbered by object.

    Raises:
        VPOGError: missing, no such list, or an entry that cannot be used, which is named by its number.
    """
    content = read_bytes(path, WHAT)
    try:
        entries = yaml.safe_load(content.decode("utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise VPOGError(
            f"The {WHAT} '{path}' is neither YAML nor JSON: write a list of {EXAMPLE}."
        ) from error
    if not isinstance(entries, list) or not entries:
        raise VPOGError(f"The {WHAT} '{path}' holds no list of detections: write a list of {EXAMPLE}.")
    found: list[Detection] = []
    for number, entry in enumerate(entries):
        try:
            detection = _detection(entry, Path(path).parent, size)
        except VPOGError as error:
            raise VPOGError(f"In the {WHAT} '{path}', detection {number}: {error}") from error
        if detection.instance < 0:
            before = sum(other.class_id == detection.class_id for other in found)
            detection = replace(detection, instance=before)
        found.append(detection)
    return found


def _detection(entry: object, folder: Path, size: tuple[int, int]) -> Detection:
    if not isinstance(entry, Mapping):
        raise VPOGError(f"It is {str(entry)[:60]!r}: write {EXAMPLE}.")
    unknown = [str(key) for key in entry if key not in KEYS]
    if unknown:
        raise VPOGError(f"The key '{unknown[0][:60]}' is unknown: use {', '.join(KEYS)}.")
    name = entry.get("object")
    if not isinstance(name, (str, int)) or isinstance(name, bool) or name == "":
        raise VPOGError("'object' must be the name of an object.")
    if ("box" in entry) == ("mask" in entry):
        raise VPOGError("Give a box or a mask, one of them.")
    score = _numbers(entry.get("score", 1.0), "score", 1)[0]
    instance = _numbers(entry.get("instance", -1), "instance", 1)[0]
    if "box" in entry:
        box, mask = _numbers(entry["box"], "box", 4), None
    else:
        mask = read_mask(_inside(folder, entry["mask"]), size)
        box = box_of_mask(mask)
    return Detection(str(name), box, float(score), mask, int(instance))


def _numbers(value: object, name: str, count: int) -> np.ndarray:
    try:
        numbers = np.asarray(value, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.size != count or not np.isfinite(numbers).all():
        amount = f"{count} finite numbers" if count > 1 else "a finite number"
        raise VPOGError(f"'{name}' must be {amount}, but is {str(value)[:60]}.")
    return numbers


def _inside(folder: Path, name: object) -> Path:
    """Return the path of a mask, which must lie in the folder of the file that names it."""
    if not isinstance(name, str) or not name:
        raise VPOGError(f"'mask' must be the path of an image, but is {str(name)[:60]}.")
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise VPOGError(f"The mask '{name[:200]}' lies outside of the folder of the file: copy it there.")
    return path
