"""Read the intrinsics of camera files that hold numbers and no names, such as cam_K.txt and K.npy."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np

from vpog_core.io.file_bytes import read_bytes
from vpog_core.types import VPOGError

NPY = b"\x93NUMPY"
"""First bytes of a file that `np.save` has written."""
COMMENT, BETWEEN = re.compile(r"#.*"), re.compile(r"[\s,;\[\]()]+")


def read_numbers(path: str | Path) -> dict[str, list[float]] | None:
    """Read K, or fx, fy, cx and cy, from a text of numbers alone, nested lists among them, or an .npy file.

    Returns:
        `K` with 9 or 4 numbers, row by row; None for a file that holds more than numbers.

    Raises:
        VPOGError: missing, a broken .npy file, or another number of numbers.
    """
    data = read_bytes(path, "camera file")
    numbers = _of_array(data, path) if data.startswith(NPY) else _of_text(data)
    if numbers and len(numbers) not in (4, 9):
        raise VPOGError(
            f"The camera file '{path}' holds {len(numbers)} numbers: give the 9 of K row by row, or fx, fy, "
            "cx and cy."
        )
    return {"K": numbers} if numbers else None


def _of_array(data: bytes, path: str | Path) -> list[float]:
    try:
        return np.load(io.BytesIO(data), allow_pickle=False).astype(np.float64).ravel().tolist()
    except (ValueError, TypeError, OSError, EOFError, SyntaxError, MemoryError) as error:
        raise VPOGError(
            f"The camera file '{path}' cannot be read as an array of numbers: write it with "
            "np.save('K.npy', K), K [3, 3]."
        ) from error


def _of_text(data: bytes) -> list[float] | None:
    """Return the numbers of a text that holds nothing else, or None."""
    try:
        words = BETWEEN.split(COMMENT.sub("", data.decode("utf-8-sig")))
        # A dash by itself begins an item of a list in YAML.
        return [float(word) for word in words if word not in ("", "-")]
    except ValueError:
        return None
