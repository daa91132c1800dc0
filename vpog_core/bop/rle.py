"""Decode masks that are run lengths, in COCO's format."""

from __future__ import annotations

import numpy as np

from vpog_core.types import VPOGError

LARGEST = 1 << 28
"""Largest number of pixels of a mask."""
MOST_CHARACTERS = 10
"""Largest number of characters of a run after its first; more do not fit into 64 bits."""


def decode_rle(rle: dict, name: str) -> np.ndarray:
    """Decode a COCO run-length mask {"size": [H, W], "counts": list or compressed string} to [H, W] bool.

    Runs go down the columns and start with background; the compressed form is that of `rleFrString` in
    https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c.

    Raises:
        VPOGError: keys are missing, or the runs do not fill the image.
    """
    counts, (height, width) = rle_counts(rle, name)
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def rle_counts(rle: dict, name: str) -> tuple[np.ndarray, tuple[int, int]]:
    """Return (run lengths [N], (H, W)) of a COCO run-length mask, checked without drawing it.

    Raises:
        VPOGError: as `decode_rle`.
    """
    try:
        height, width = (int(n) for n in rle["size"])
        counts = rle["counts"]
        if isinstance(counts, (str, bytes)):
            counts = _inflate(counts)
        counts = np.asarray(counts, dtype=np.int64).reshape(-1)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise VPOGError(
            f"'{name}' holds a mask that is not run-length encoded: write it as COCO does."
        ) from error
    # Sums of broken counts may overflow: each count is checked by itself.
    total = int(counts.sum()) if counts.size and counts.min() >= 0 and counts.max() <= LARGEST else -1
    if total != height * width or min(height, width) < 0 or total > LARGEST:
        raise VPOGError(
            f"'{name}' holds a mask whose runs do not fill its {width}x{height} pixels: write it again."
        )
    return counts, (height, width)


def _inflate(text: str | bytes) -> np.ndarray:
    """Read run lengths of COCO's string: five bits a character, differences to the run before the last."""
    data = text.encode("ascii") if isinstance(text, str) else text
    bits = np.frombuffer(data, dtype=np.uint8).astype(np.int64) - 48
    last = (bits & 0x20) == 0
    if not bits.size or bits.min() < 0 or bits.max() > 63 or not last[-1]:
        raise ValueError("not a run-length string")
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    place = np.arange(len(bits)) - np.repeat(starts, ends - starts + 1)
    if place.max() > MOST_CHARACTERS:
        raise ValueError("not a run-length string")
    values = np.add.reduceat((bits & 0x1F) << (5 * place), starts)
    values -= np.where(bits[ends] & 0x10, np.int64(1) << (5 * (place[ends] + 1)), 0)
    # From the fourth run on a count is the difference to the one two before: sum every second one.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
