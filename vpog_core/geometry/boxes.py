"""Make, compare, clip and jitter boxes [4] (x0, y0, x1, y1) in an image; pixel centres are at integers."""

from __future__ import annotations

import cv2
import numpy as np

from vpog_core.geometry import pinhole
from vpog_core.geometry.projection import can_project, project
from vpog_core.geometry.se3 import transform_points
from vpog_core.types import Camera, VPOGError

MIN_DEPTH = 1e-6
"""Points nearer than this, metres, are behind the camera."""
SPECK = 0.02
"""Largest area of a speck of a mask, as a fraction of the largest connected part of the mask. Detectors leave
specks of a few pixels. A part that an occluder cuts off is larger, and of one that is not, and lies close by,
a box lacks a seventh of its side at most: templates are tried at shifts and scales that allow for it."""


def box_around(points: np.ndarray) -> np.ndarray:
    """Return the box around points [N, 2]."""
    # Each column in a row of memory: numpy takes the extremes of rows many times faster.
    columns = np.ascontiguousarray(points.T)
    return np.concatenate([columns.min(axis=1), columns.max(axis=1)])


def projected_box(T_cam_obj: np.ndarray, points: np.ndarray, K: np.ndarray) -> np.ndarray | None:
    """Return the box around points [N, 3] (object frame) in a pinhole image; None where one is behind."""
    points = transform_points(T_cam_obj, points)
    if (points[:, 2] <= 0).any():
        return None
    return box_around(pinhole.to_pixels(points, K))


def seen_box(camera: Camera, T_cam_obj: np.ndarray, points: np.ndarray) -> np.ndarray | None:
    """Return the box around those points [N, 3] (object frame) that a camera can project.

    Returns:
        [4] pixels, which may lie outside the image; None where a point is behind the camera, or none lies
        where the camera's distortion holds.
    """
    points = transform_points(T_cam_obj, points)
    if not np.isfinite(points).all() or points[:, 2].min() <= MIN_DEPTH:
        return None
    seen = points[can_project(camera, points)]
    return box_around(project(camera, seen)) if len(seen) else None


def outer_box(mask: np.ndarray) -> np.ndarray | None:
    """Return the box along the outer edges of a mask's pixels [H, W]; None where there are none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return np.array([columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5])


def box_of_mask(mask: np.ndarray) -> np.ndarray | None:
    """Return the box along the outer edges of a detector's mask [H, W] without its specks, see `SPECK`.

    Returns:
        [4] (x0, y0, x1, y1), or None where the mask is empty.
    """
    _, _, stats, _ = cv2.connectedComponentsWithStats(np.asarray(mask != 0, np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if not len(areas):
        return None
    x, y, width, height = stats[1:][areas >= SPECK * areas.max(), : cv2.CC_STAT_AREA].T
    return np.array([x.min(), y.min(), (x + width).max(), (y + height).max()]) - 0.5


def box_of_counts(x: float, y: float, width: float, height: float) -> np.ndarray:
    """Return the outer edges of a box given, as in BOP, by its first pixel and its pixels a side."""
    return np.array([x, y, x + width, y + height]) - 0.5


def counts_of_box(box: np.ndarray) -> tuple[int, int, int, int]:
    """Return first pixel (x, y), width and height of the whole pixels that a box touches, one at least.

    The inverse of `box_of_counts` where the box goes along the edges of pixels.
    """
    first = np.maximum(np.floor(np.asarray(box[:2]) + 0.5), 0)
    last = np.maximum(np.ceil(np.asarray(box[2:]) - 0.5), first)
    x, y, width, height = (int(number) for number in (*first, *(last - first + 1)))
    return x, y, width, height


def shared_area(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the area that two boxes share."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the intersection over union of two boxes [4]; 0 where they do not overlap."""
    shared = shared_area(a, b)
    return float(shared / max((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared, 1e-12))


def clip_box(box: np.ndarray, width: float, height: float, first: float = 0.0) -> np.ndarray:
    """Clip a box to a rectangle of a size, the left and upper edges of which are at `first`."""
    return np.clip(box, first, np.array([width, height, width, height]) + first)


def usable_box(box: np.ndarray, camera: Camera) -> np.ndarray:
    """Return the part of a detector's box that is inside the image; a VPOGError says why there is none.

    The image ends at the outer edges of its pixels, as the boxes of masks do.
    """
    box = np.asarray(box, dtype=np.float64).ravel()
    text = ", ".join(f"{value:g}" for value in box)
    if box.size != 4 or not np.isfinite(box).all():
        raise VPOGError(f"The box ({text}) is not four finite numbers x0, y0, x1, y1: check the detector.")
    if box[2] - box[0] < 2 or box[3] - box[1] < 2:
        raise VPOGError(
            f"The box ({text}) is empty: it needs x1 > x0 and y1 > y0 by two pixels at least, or is it x, y, "
            "width, height?"
        )
    clipped = clip_box(box, camera.width, camera.height, first=-0.5)
    if clipped[2] - clipped[0] < 2 or clipped[3] - clipped[1] < 2:
        raise VPOGError(
            f"The box ({text}) lies outside the {camera.width}x{camera.height} image: "
            "check the detector's image size."
        )
    return clipped


def jitter_box(rng: np.random.Generator, box: np.ndarray, fraction: float) -> np.ndarray:
    """Add a detector's errors to a box: up to `fraction` of its size on each side."""
    return box + rng.uniform(-fraction, fraction, 4) * np.tile(box[2:] - box[:2], 2)


def jitter_box_normal(rng: np.random.Generator, box: np.ndarray, sigma: float, least: float) -> np.ndarray:
    """Add normal errors to a box: of standard deviation `sigma` times its size; no side is under `least`."""
    moved = box + rng.normal(0, sigma, 4) * np.tile(box[2:] - box[:2], 2)
    low, high = np.sort(moved.reshape(2, 2), axis=0)
    return np.concatenate([low, np.maximum(high, low + least)])
