"""Store recorded hypotheses: pairs of image and render as the refiner compares them, and how wrong each is.

`vpog record-hypotheses` writes them, one file for each object, and the scorer of poses is trained on them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from vpog_core.types import VPOGError
from vpog_core.utils.atomic_file import atomic_write

SUFFIX = ".hypotheses.npz"
NORMAL_SCALE = 127.0
"""Factor on the components of unit normals, which are stored as int8."""
TYPES = {
    "image": np.uint8, "render": np.uint8, "normals": np.int8, "mask": np.bool_,
    "error": np.float32, "detection": np.int64,
}  # fmt: skip
UNREADABLE = (OSError, ValueError, KeyError, BadZipFile, EOFError)
"""What numpy raises of files that it cannot read."""


@dataclass
class HypothesisRecords:
    """Holds N hypotheses of one object; P is the side of image and render, pixels.

    Attributes:
        image, render: [N, P, P, 3] uint8 RGB, seen by the same camera.
        normals: [N, P, P, 3] int8, of the render: unit vectors times `NORMAL_SCALE`, camera frame.
        mask: [N, P, P] bool, where the render shows the object.
        error: [N] float32, MSSD of the hypothesis' pose, in diameters; symmetries are taken into account.
        detection: [N] int64, the same number for the hypotheses of one detection.
    """

    image: np.ndarray
    render: np.ndarray
    normals: np.ndarray
    mask: np.ndarray
    error: np.ndarray
    detection: np.ndarray

    def __len__(self) -> int:
        return len(self.error)

    def save(self, path: Path, source: str = "") -> None:
        """Write them to a file that ends with `SUFFIX`; it is whole or not there.

        Args:
            source: name of the mesh file that the object is made of, or "".

        Raises:
            OSError: it cannot be written.
        """
        content = io.BytesIO()
        np.savez_compressed(
            content, source=np.array(source), **{f.name: getattr(self, f.name) for f in fields(self)}
        )
        atomic_write(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> HypothesisRecords:
        """Read a file that `save` has written.

        Raises:
            VPOGError: it cannot be read, or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in TYPES}
        except UNREADABLE as error:
            raise _unreadable(path, error) from error
        records = cls(**arrays)
        records._check(path)
        return records

    @staticmethod
    def source(path: Path) -> str:
        """Return the name of the mesh file that a file's object is made of; "": none, or an older file.

        Raises:
            VPOGError: it cannot be read.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                return str(file["source"]) if "source" in file else ""
        except UNREADABLE as error:
            raise _unreadable(path, error) from error

    @classmethod
    def join(cls, parts: Sequence[HypothesisRecords]) -> HypothesisRecords:
        """Join records of several files; numbers of detections are made different."""
        shift, joined = 0, []
        for part in parts:
            joined.append(cls(**{**vars(part), "detection": part.detection + shift}))
            shift += int(part.detection.max(initial=-1)) + 1
        return cls(**{name: np.concatenate([getattr(p, name) for p in joined]) for name in TYPES})

    def _check(self, path: Path) -> None:
        """Refuse arrays of other shapes or types than the class says."""
        n, side = len(self.error), self.mask.shape[-1]
        shapes = {
            "image": (n, side, side, 3), "render": (n, side, side, 3), "normals": (n, side, side, 3),
            "mask": (n, side, side), "error": (n,), "detection": (n,),
        }  # fmt: skip
        for name, kind in TYPES.items():
            array = getattr(self, name)
            if array.shape != shapes[name] or array.dtype != kind:
                raise VPOGError(
                    f"In '{path}' '{name}' is {array.dtype} {array.shape} where {np.dtype(kind)} "
                    f"{shapes[name]} is needed: record the hypotheses again, by vpog record-hypotheses."
                )


def _unreadable(path: Path, error: Exception) -> VPOGError:
    return VPOGError(
        f"'{path}' holds no recorded hypotheses ({error}): record them again, by vpog record-hypotheses."
    )
