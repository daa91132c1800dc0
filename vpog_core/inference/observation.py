"""Define the observation that poses are compared with: an image with its camera and mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vpog_core.types import Camera


@dataclass(frozen=True)
class Observation:
    """Holds an image, the camera that took it, and the mask of where the object may be visible.

    Attributes:
        image: [H, W, 3] uint8 RGB; camera: that took it.
        mask: [H, W], nonzero where the object is seen, or None: anywhere.
    """

    image: np.ndarray
    camera: Camera
    mask: np.ndarray | None = None

    @cached_property
    def usable(self) -> np.ndarray:
        """The mask [H, W] uint8, 255 where the object may be visible."""
        if self.mask is None:
            return np.full(self.image.shape[:2], 255, np.uint8)
        return (np.asarray(self.mask) != 0).astype(np.uint8) * 255
