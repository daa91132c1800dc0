"""Compare a calibration with its image: refuse what cannot be, doubt what is unlikely."""

from __future__ import annotations

import numpy as np

from vpog_core.geometry.projection import pixel_rays
from vpog_core.types import Camera, Region, VPOGError

FIELD_OF_VIEW_DEG = (5.0, 170.0)
"""Limits for the wider side of a whole image; narrower and wider ones are wrong numbers."""
FISHEYE_FIELD_OF_VIEW_DEG = (5.0, 280.0)
"""The same for the equidistant model; 280 degrees is the widest fisheye lens that is made."""
CENTRE_TOLERANCE = 0.12
"""Fraction of a side that the principal point of a real camera stays within, about the middle."""
SCALES = (
    1 / 8,
    1 / 4,
    1 / 3,
    3 / 8,
    1 / 2,
    5 / 8,
    2 / 3,
    3 / 4,
    4 / 5,
    1,
    5 / 4,
    4 / 3,
    3 / 2,
    8 / 5,
    2,
    3,
    4,
    8,
)
"""Ratios of the sides of two resolutions of one camera."""
SCALE_TOLERANCE = 0.035
"""How far twice the principal point's place may be from a ratio of `SCALES`, as a fraction of it."""
INNER = 0.5
"""Fraction of the way to the image's corners within which a usable distortion can be undone."""
FOCAL_RATIO = 1.3
"""Between fx and fy; the pixels of today's cameras are square."""


def check_camera(camera: Camera) -> None:
    """Refuse a calibration that cannot belong to its image.

    Raises:
        VPOGError: principal point outside of the image, or a field of view that no camera has.
    """
    cx, cy, width, height = _uncropped(camera)
    if not (0 < cx < width - 1 and 0 < cy < height - 1):
        raise VPOGError(
            f"The principal point ({cx:g}, {cy:g}) lies outside of the {width:g}x{height:g} image: "
            f"{_is_k_for_another_resolution(camera)}"
        )
    degrees = field_of_view_deg(camera)
    low, high = FISHEYE_FIELD_OF_VIEW_DEG if camera.model == "equidistant" else FIELD_OF_VIEW_DEG
    if not low <= degrees <= high:
        raise VPOGError(
            f"With a focal length of ({camera.K[0, 0]:g}, {camera.K[1, 1]:g}) pixels the "
            f"{width:g}x{height:g} image spans {degrees:.3g} degrees, which cannot be: "
            "give the focal length in pixels."
        )
    if not np.isfinite(pixel_rays(camera, _pixels_on_the_way(camera, INNER))).any():
        raise VPOGError(
            f"The distortion {camera.distortion.tolist()} has no solution within the image: check the "
            "coefficients, their order and the distortion model."
        )


def camera_doubts(camera: Camera) -> list[str]:
    """Return sentences about a calibration that is unlikely to belong to its image; empty for a usual one."""
    return [*_centre_doubts(camera), *_focal_doubts(camera), *_distortion_doubts(camera)]


def field_of_view_deg(camera: Camera) -> float:
    """Return the degrees that the wider side of the whole image spans, without distortion."""
    cx, cy, width, height = _uncropped(camera)
    sides = ((cx, width, camera.K[0, 0]), (cy, height, camera.K[1, 1]))
    edges = np.array([((centre + 0.5) / f, (side - 0.5 - centre) / f) for centre, side, f in sides])
    angles = edges if camera.model == "equidistant" else np.arctan(edges)
    return float(np.rad2deg(angles.sum(axis=1).max()))


def _uncropped(camera: Camera) -> tuple[float, float, float, float]:
    """Return principal point and size of the whole image that the camera's image is or is a region of."""
    region = camera.region or Region(0, 0, camera.width, camera.height)
    return (
        camera.K[0, 2] + region.x,
        camera.K[1, 2] + region.y,
        region.whole_width,
        region.whole_height,
    )


def _places(camera: Camera) -> tuple[float, float]:
    """Return where the principal point lies along both sides, as a fraction of them."""
    cx, cy, width, height = _uncropped(camera)
    return (cx + 0.5) / width, (cy + 0.5) / height


def _scales(camera: Camera) -> list[float]:
    """Return the ratios of the sides of the image K seems to be for to this one; empty where none fits."""
    found = []
    for place in _places(camera):
        nearest = min(SCALES, key=lambda scale: abs(2 * place - scale) / scale)
        if abs(2 * place - nearest) < SCALE_TOLERANCE * nearest:
            found.append(nearest)
    return found if len(found) == 2 else []


def _is_k_for_another_resolution(camera: Camera) -> str:
    """Return a sentence with the resolution, where it is known, and the remedy."""
    scales = _scales(camera)
    _, _, width, height = _uncropped(camera)
    seems = f" ({scales[0] * width:.0f}x{scales[1] * height:.0f})" if scales else ""
    return (
        f"is K for another resolution{seems}? Give K of the images as they are sent; with binning, K of the "
        "whole sensor."
    )


def _centre_doubts(camera: Camera) -> list[str]:
    cx, cy, width, height = _uncropped(camera)
    far = max(abs(place - 0.5) for place in _places(camera)) > CENTRE_TOLERANCE
    scales = _scales(camera)
    scaled = bool(scales) and scales[0] == scales[1] != 1
    if not far and not scaled:
        return []
    return [
        f"The principal point ({cx:g}, {cy:g}) is far from the middle of the {width:g}x{height:g} image: "
        f"{_is_k_for_another_resolution(camera)}"
    ]


def _focal_doubts(camera: Camera) -> list[str]:
    fx, fy = camera.K[0, 0], camera.K[1, 1]
    if max(fx, fy) < FOCAL_RATIO * min(fx, fy):
        return []
    return [
        f"The focal lengths fx {fx:g} and fy {fy:g} differ by a factor of {max(fx, fy) / min(fx, fy):.3g}: "
        "check the order of the numbers in K."
    ]


def _distortion_doubts(camera: Camera) -> list[str]:
    if not camera.distortion.any():
        return []
    # The corners of a fisheye lens's image may show what is behind the camera.
    fractions = (INNER,) if camera.model == "equidistant" else (INNER, 0.75, 1.0)
    folded = [
        fraction
        for fraction in fractions
        if not np.isfinite(pixel_rays(camera, _pixels_on_the_way(camera, fraction))).all()
    ]
    if not folded:
        return []
    return [
        f"The distortion {camera.distortion.tolist()} ({camera.model}) cannot be undone within the image, at "
        f"{folded[0]:.0%} of the way to its corners: objects there are refused. Check the order of the "
        "coefficients and the model, or calibrate with the board in the corners, too."
    ]


def _pixels_on_the_way(camera: Camera, fraction: float) -> np.ndarray:
    """Return pixels [8, 2] on a rectangle about the image's middle: its corners and the middles of its sides.

    Args:
        fraction: of its sides to the image's.
    """
    steps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    half = np.array([camera.width - 1, camera.height - 1]) / 2
    return half + fraction * half * np.array(steps)
