"""Scale sixteen-bit pixels to eight: cameras of 10, 12 or 14 bits leave the upper bits of a pixel empty."""

from __future__ import annotations

import numpy as np

from vpog_core.types import VPOGError

SENSOR_BITS = (8, 10, 12, 14, 16)
MAX_STRAY_FRACTION = 1e-4
"""Fraction of the values that may lie above the bits in use: hot pixels, numbers written into the image."""

SAME_MEAN_RATIO = 1.3
"""Factor between the mean brightness of two frames that show the same in another number of bits."""


def bits_in_use(pixels: np.ndarray) -> int:
    """Return the smallest of `SENSOR_BITS` that holds all pixels (uint16, any shape) but a few outliers."""
    allowed = MAX_STRAY_FRACTION * pixels.size
    for bits in SENSOR_BITS[:-1]:
        if np.count_nonzero(pixels >= 1 << bits) <= allowed:
            return bits
    return SENSOR_BITS[-1]


class BitDepth:
    """Scales the sixteen-bit images of one camera to eight bits, equally from frame to frame.

    The bits in use are found from the frames: a brighter frame may add bits, a darker one takes none away, so
    that the brightness does not follow what the camera sees. Only where all of a frame is darker by just the
    bits it lacks has the camera changed its bits.

    Attributes:
        found: the bits in use so far; 0 before the first image of sixteen bits.
        note: what was found or does not fit, one sentence; "" before the first image of sixteen bits.
    """

    def __init__(self, bits: int = 0) -> None:
        """Take `bits` of each pixel as used (8 to 16), or find them from the frames (0).

        Raises:
            VPOGError: another number of bits.
        """
        if bits != 0 and not 8 <= bits <= 16:
            raise VPOGError(f"image_bits is {bits}: set 0 (found from the images) or 8 to 16.")
        self.note = ""
        self._given = bits
        self.found = 0
        self._encoding = ""
        self._mean = 0.0

    def shift(self, pixels: np.ndarray, encoding: str) -> np.ndarray:
        """Return eight bits of sixteen-bit pixels.

        Args:
            pixels: [H, W] or [H, W, C] uint16 in this machine's byte order.
            encoding: the message's; its alpha channel, the fourth, says nothing about the bits. Another
                encoding than before is another camera, whose bits are determined again.

        Returns:
            The same shape, uint8; what is brighter than the bits in use is white.
        """
        colours = pixels[..., :3] if pixels.ndim == 3 else pixels
        found, mean = bits_in_use(colours), float(colours[::4, ::4].mean())
        if encoding != self._encoding:
            self._encoding, self.found = encoding, 0
        if found > self.found or self._is_rescaled(found, mean):
            self.found = found
            self.note = self._note()
        self._mean = mean
        bits = self._given or self.found
        return np.minimum(pixels >> (bits - 8), 255).astype(np.uint8)

    def _is_rescaled(self, found: int, mean: float) -> bool:
        """Tell whether a frame is like the last one, but in fewer bits."""
        scaled = mean * 2 ** (self.found - found)
        return found < self.found and self._mean < SAME_MEAN_RATIO * scaled < SAME_MEAN_RATIO**2 * self._mean

    def _note(self) -> str:
        if not self._given:
            return (
                f"The {self._encoding} images use {self.found} of 16 bits: if the camera has another number "
                "of bits, set image_bits."
            )
        if self.found > self._given:
            return (
                f"The {self._encoding} images use {self.found} bits, but image_bits is {self._given}: what "
                f"is brighter is white; set image_bits to {self.found}, or to 0 to have it found."
            )
        return ""
