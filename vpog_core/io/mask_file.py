"""Read a mask file: the pixels of the object, or a VPOGError if the file is ambiguous."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np

from vpog_core.io.image_file import open_image, split_alpha
from vpog_core.types import VPOGError

log = logging.getLogger(__name__)

FLAT = np.ones((3, 3), np.uint8)
"""Kernel of an erosion: a value that survives it is an area of its own, and not the soft edge of another."""
SHOWN_LABELS = 6
LARGE = 0.7
"""Fraction of the image above which a mask is reported as unlikely."""


def read_mask(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    """Read a mask file as [H, W] bool.

    The object is what is not transparent where the transparency varies, else what is not black. Soft rims are
    cut at half of the object's value.

    Args:
        size: (height, width) it must have.

    Raises:
        VPOGError: missing, not an image, of another size, all black, nowhere black, or of several labels.
    """
    stored = open_image(path, "mask")
    height, width = stored.pixels.shape[:2]
    if (height, width) != tuple(size):
        raise VPOGError(
            f"The mask '{path}' is {width}x{height} but the image {size[1]}x{size[0]}: "
            "give a mask of the image's size."
        )
    if stored.pixels.dtype not in (np.uint8, np.uint16):
        raise VPOGError(f"The mask '{path}' holds {stored.pixels.dtype} numbers: give a PNG of 8 bits.")
    colours, alpha = split_alpha(stored.pixels)
    values = colours if alpha is None else alpha[..., None]
    labels = _labels(_coarse(values) if stored.lossy else values)
    if len(labels) > 1:
        shown = ", ".join(_text(label) for label in labels[:SHOWN_LABELS])
        more = ", ..." if len(labels) > SHOWN_LABELS else ""
        raise VPOGError(
            f"The mask '{path}' has areas of {len(labels)} values ({shown}{more}) beside black: give one "
            "object alone, white on black."
        )
    brightest = values.max(axis=2)
    top = max(labels[0]) if labels and not stored.lossy else int(brightest.max())
    if top == 0:
        raise VPOGError(f"The mask '{path}' is all black: paint the object white.")
    if stored.lossy and top < 128:
        raise VPOGError(
            f"The mask '{path}' is nowhere brighter than {top} of 255, which a lossy format does not keep: "
            "store it as PNG."
        )
    mask = brightest >= 0.5 * top
    if mask.all():
        raise VPOGError(f"The mask '{path}' is black nowhere: paint all but the object black.")
    if mask.mean() > LARGE:
        log.warning(
            "The mask '%s' covers %.0f %% of the image: is the object white?", path, 100 * mask.mean()
        )
    return mask


def _coarse(values: np.ndarray) -> np.ndarray:
    """Return values [H, W, C] of a lossy format on three levels, so that its noise makes no labels."""
    top = np.iinfo(values.dtype).max
    return np.where(values < 0.25 * top, 0, np.where(values > 0.75 * top, 255, 128)).astype(np.uint8)


def _labels(values: np.ndarray) -> list[tuple[int, ...]]:
    """Return the values of [H, W, C], black apart, that fill areas, in ascending order."""
    values = values.astype(np.uint16)
    flat = (cv2.erode(values, FLAT) == cv2.dilate(values, FLAT)).reshape(values.shape).all(axis=2)
    packed = sum(values[..., n].astype(np.int64) << (16 * n) for n in range(values.shape[2]))
    found = np.unique(packed[flat])
    return [tuple(int(code >> (16 * n)) & 0xFFFF for n in range(values.shape[2])) for code in found if code]


def _text(label: tuple[int, ...]) -> str:
    return str(label[0]) if len(set(label)) == 1 else f"RGB {label[::-1]}"
