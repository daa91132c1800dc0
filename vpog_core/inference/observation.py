"""Define the observation that poses are compared with: an image with its camera and mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vpog_core.geometry.camera import VirtualCamera, warp_masked
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

    def seen_by(self, virtual: VirtualCamera) -> tuple[np.ndarray, np.ndarray]:
        """Return the image as a virtual camera sees it, and the mask of where the object may be visible.

        Returns:
            [P, P, 3] uint8 and [P, P] uint8: 255 where it may be visible, less along the mask's rim.
        """
        return warp_masked(self.image, self._usable, self.camera, virtual)

    @cached_property
    def _usable(self) -> np.ndarray | None:
        """The mask [H, W] uint8, 255 where the object may be visible; None: everywhere."""
        return None if self.mask is None else (np.asarray(self.mask) != 0).astype(np.uint8) * 255
