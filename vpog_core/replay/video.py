"""Write images as a video."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from vpog_core.types import VPOGError

CODEC = "mp4v"
"""MPEG-4 part 2: every build of OpenCV writes it, a hundred times as fast as VP9; browsers do not play it."""

FPS_RANGE = (1.0, 60.0)


class VideoWriter:
    """Writes an MP4 file; images [H, W, 3] uint8 RGB of another size than the first are fitted into it."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._fps = float(np.clip(fps, *FPS_RANGE))
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def write(self, image: np.ndarray) -> None:
        """Append an image.

        Raises:
            VPOGError: the file cannot be written.
        """
        if self._writer is None:
            # Codecs halve the colours' resolution: sides must be even.
            self._size = (image.shape[1] + image.shape[1] % 2, image.shape[0] + image.shape[0] % 2)
            self._writer = cv2.VideoWriter(
                str(self._path), cv2.VideoWriter_fourcc(*CODEC), self._fps, self._size
            )
            if not self._writer.isOpened():
                raise VPOGError(f"The video '{self._path}' cannot be written: choose another --output.")
        self._writer.write(cv2.cvtColor(_fitted(image, self._size), cv2.COLOR_RGB2BGR))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()


def _fitted(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale an image that is too large, and pad one that is too small, to (width, height)."""
    scale = min(1.0, size[0] / image.shape[1], size[1] / image.shape[0])
    if scale < 1.0:
        shape = (max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale)))
        image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
    right, below = size[0] - image.shape[1], size[1] - image.shape[0]
    return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT)
