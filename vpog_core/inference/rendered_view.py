"""Render an object at a pose, crop the image in the same way, and tell how similar the two are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from vpog_core.geometry import pinhole
from vpog_core.geometry.boxes import seen_box
from vpog_core.geometry.camera import VirtualCamera, look_at_crop, pixels_inside
from vpog_core.geometry.se3 import invert, transform_points
from vpog_core.inference.observation import Observation
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Render
from vpog_core.objects.view_renderer import ViewRenderer
from vpog_core.types import Camera, VPOGError

MAX_SIZE, MIN_SIZE = 256, 48
"""Sides of the crop, pixels; an object that would need a smaller one is left as it is."""
MAX_ENLARGEMENT = 1.5
"""Largest scale of the crop: its pixels over those of the image."""
PADDING = 1.15
LOCAL_SIGMA = 1 / 32
"""Size of the neighbourhood that brightness and contrast are normalised over; fraction of the crop's side."""
COARSE_SIGMA = 1 / 8
"""The wider neighbourhood that similarity is measured over as well: it sees shapes that survive blur."""
DOWNSAMPLE_SIGMA = 6.0
"""Standard deviation, pixels, above which the image is scaled down before a Gaussian filter."""
MIN_CONTRAST = 6.0
"""Grey levels: contrast fainter than this is noise, and is not amplified."""
CELL = 1 / 16
"""Side of the cells that the object is divided into; fraction of the crop's side."""
MIN_PIXELS = 100
"""Least number of pixels that are compared; with fewer, the similarity is unknown."""


@dataclass
class RenderedView:
    """Holds an object rendered at a pose, and the image cropped in the same way; P is the side of the crop.

    Attributes:
        camera: that took the image; virtual: camera of the crop; T_virt_obj: [4, 4].
        render: the object; crop: [P, P] uint8 grey, the image; visible: [P, P] bool, the object is rendered
            and the image may be used.
    """

    camera: Camera
    virtual: VirtualCamera
    T_virt_obj: np.ndarray
    render: Render
    crop: np.ndarray
    visible: np.ndarray

    @classmethod
    def of(
        cls,
        renderer: ViewRenderer,
        observation: Observation,
        T_cam_obj: np.ndarray,
        max_size: int = MAX_SIZE,
    ) -> RenderedView | None:
        """Render the view at a pose, in a crop of `max_size` pixels at most.

        Returns:
            None when the object is out of the image, or too small in it.
        """
        virtual = _framed(renderer.mesh, observation.camera, T_cam_obj, max_size)
        if virtual is None:
            return None
        T_virt_obj = invert(virtual.T_cam_virt) @ T_cam_obj
        render = renderer.render(T_virt_obj, virtual.K, (virtual.size, virtual.size))
        image, usable = observation.seen_by(virtual)
        visible = render.mask & (usable > 250)
        if visible.sum() < MIN_PIXELS:
            return None
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return cls(observation.camera, virtual, T_virt_obj, render, grey, visible)

    @cached_property
    def grey(self) -> np.ndarray:
        """The render in grey, [P, P] uint8."""
        return cv2.cvtColor(self.render.rgb, cv2.COLOR_RGB2GRAY)

    @cached_property
    def inside(self) -> np.ndarray:
        """The pixels of the crop that see the image, [P, P] uint8: 1, and 0 beyond its border."""
        return pixels_inside(self.camera, self.virtual)

    @cached_property
    def similarity(self) -> float:
        """Compute the correlation -1..1 of render and image after local normalisation; 0: not known.

        The mean of two: over small neighbourhoods and over wide ones.
        """
        inside = cv2.erode(self.visible.astype(np.uint8), np.ones((3, 3))) > 0
        if inside.sum() < MIN_PIXELS:
            return 0.0
        return 0.5 * sum(
            self._similarity_over(fraction * self.virtual.size, inside)
            for fraction in (LOCAL_SIGMA, COARSE_SIGMA)
        )

    def coverage(self, points: np.ndarray) -> float:
        """Compute the fraction 0..1 of the rendered object's cells that points [N, 3] of it lie in."""
        pixels = pinhole.to_pixels(transform_points(self.T_virt_obj, points), self.virtual.K)
        return min(1.0, count_cells(pixels, self.virtual.size) / count_mask_cells(self.render.mask))

    def _similarity_over(self, sigma: float, inside: np.ndarray) -> float:
        a, b = normalised_inside((self.grey, self.crop), inside, sigma)
        spread = np.sqrt(float((a * a).sum()) * float((b * b).sum()))
        return float((a * b).sum()) / spread if spread > 1e-6 else 0.0


def _framed(mesh: Mesh, camera: Camera, T_cam_obj: np.ndarray, max_size: int) -> VirtualCamera | None:
    """Make the camera that looks at the object; its crop is as large as the image's resolution allows."""
    box = seen_box(camera, T_cam_obj, mesh.hull_points)
    if box is None:
        return None
    try:
        virtual = look_at_crop(camera, box, max_size, pad=PADDING)
        size = min(max_size, int(MAX_ENLARGEMENT * max_size * camera.resolution / virtual.K[0, 0]))
        if size < MIN_SIZE:
            return None
        return virtual if size == max_size else look_at_crop(camera, box, size, pad=PADDING)
    except VPOGError:
        return None


def count_cells(pixels: np.ndarray, size: int) -> int:
    """Count the cells of a crop of `size` pixels that the pixels [N, 2] lie in."""
    return len(np.unique(pixels // (CELL * size) @ [1.0, 1e4]))


def count_mask_cells(mask: np.ndarray) -> int:
    """Count the cells of a crop that a mask [P, P] of its pixels has a pixel in; as `count_cells` would."""
    size = len(mask)
    first = np.unique(np.arange(size) // (CELL * size), return_index=True)[1]
    rows = np.logical_or.reduceat(mask, first, axis=0)
    return int(np.logical_or.reduceat(rows, first, axis=1).sum())


def normalised(grey: np.ndarray, sigma: float) -> np.ndarray:
    """Normalise local brightness and contrast, [P, P] uint8."""
    grey = grey.astype(np.float32)
    away = grey - cv2.GaussianBlur(grey, (0, 0), sigma)
    spread = np.sqrt(cv2.GaussianBlur(away * away, (0, 0), sigma) + MIN_CONTRAST**2)
    return np.clip(away / spread * 48 + 128, 0, 255).astype(np.uint8)


def normalised_inside(images: Sequence[np.ndarray], inside: np.ndarray, sigma: float) -> list[np.ndarray]:
    """Normalise local brightness and contrast inside a mask: float32 images, 0 outside, which is ignored.

    Args:
        images: grey, [P, P] uint8; inside: [P, P] bool; sigma: of the neighbourhoods, pixels.
    """
    weight = inside.astype(np.float32)
    # The part of each neighbourhood that is inside.
    fraction = _blurred(weight, sigma) + 1e-3
    aways = [(grey - _blurred(grey * weight, sigma) / fraction) * weight for grey in images]
    return [away / np.sqrt(_blurred(away * away, sigma) / fraction + MIN_CONTRAST**2) for away in aways]


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """Blur by a Gaussian, [P, P] float32; for a wide one the image is scaled down first, to save time."""
    factor = round(sigma / DOWNSAMPLE_SIGMA)
    if factor < 2:
        return cv2.GaussianBlur(values, (0, 0), sigma)
    small = cv2.resize(values, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    wide = cv2.GaussianBlur(small, (0, 0), sigma / factor)
    return cv2.resize(wide, values.shape[::-1], interpolation=cv2.INTER_LINEAR)
