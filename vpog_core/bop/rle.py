"""Masks as runs of pixels, as COCO writes them."""

from __future__ import annotations

import numpy as np

from vpog_core.types import VPOGError


def decode_rle(rle: dict, name: str) -> np.ndarray:
    """[H, W] bool of a COCO run-length mask: {"size": [H, W], "counts": list or compressed string}.

    Runs go down the columns and start with background; the compressed form is that of `rleFrString` in
    https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c.

    Raises:
        VPOGError: keys are missing, or the runs do not fill the picture.
    """
    try:
        height, width = (int(n) for n in rle["size"])
        counts = rle["counts"]
        counts = _inflate(counts) if isinstance(counts, (str, bytes)) else [int(n) for n in counts]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise VPOGError(
            f"'{name}' holds a mask that is not run-length encoded: write it as COCO does."
        ) from error
    if min(counts, default=0) < 0 or sum(counts) != height * width or height * width > 1 << 28:
        raise VPOGError(
            f"'{name}' holds a mask of {sum(counts)} pixels for a picture of {width}x{height}: "
            "write it again."
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def encode_rle(mask: np.ndarray) -> dict:
    """The uncompressed run-length form of a mask [H, W]: what `decode_rle` reads."""
    flat = np.asarray(mask, dtype=bool).T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat.size and flat[0] else counts}


def _inflate(text: str | bytes) -> list[int]:
    """Run lengths out of COCO's string: five bits a character, differences to the run before the last."""
    data = text.encode("ascii") if isinstance(text, str) else text
    counts: list[int] = []
    position = 0
    while position < len(data):
        value = shift = 0
        more = True
        while more:
            bits = data[position] - 48
            position += 1
            if not 0 <= bits < 64:
                raise ValueError("not a run-length string")
            value |= (bits & 0x1F) << shift
            shift += 5
            more = bool(bits & 0x20)
            if not more and bits & 0x10:
                value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts
