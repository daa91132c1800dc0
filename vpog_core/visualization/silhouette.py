"""Compute the mask and the outline of a mesh in a camera image."""

from __future__ import annotations

import cv2
import numpy as np

from vpog_core.geometry.projection import NEAREST, can_project, project
from vpog_core.geometry.se3 import transform_points
from vpog_core.types import Camera

SHIFT = 4
"""Fractional bits of the fixed-point pixels handed to OpenCV's drawing."""
FINEST, MANY_FACES = 4, 8000
"""Most mask pixels per image pixel that an outline is computed with; half of that for a mesh of many faces,
which takes half the time and looks the same."""

_MARGIN = 8


def silhouette(
    camera: Camera, T_cam_obj: np.ndarray, vertices: np.ndarray, faces: np.ndarray, scale: int = 1
) -> tuple[np.ndarray, tuple[int, int]]:
    """Compute the mask [h, w] uint8 (0, 255) of a mesh, and the pixel (x, y) of its upper left corner.

    Only the part in and just around the image is kept; both sizes are 0 when nothing is.

    Args:
        vertices: [V, 3] metres, object frame.
        faces: [F, 3] vertex indices.
        scale: mask pixels per image pixel. The corner stays in image pixels; the centre of mask pixel m lies
            at image pixel `corner + (m + 0.5) / scale - 0.5`.
    """
    # Leave out faces that the camera cannot project.
    nothing = np.zeros((0, 0), np.uint8), (0, 0)
    points = transform_points(T_cam_obj, np.asarray(vertices, np.float64))
    drawable = can_project(camera, points)
    faces = np.asarray(faces)
    if not drawable.all():
        faces = faces[drawable[faces].all(axis=1)]
    if not len(faces):
        return nothing
    # Project the others, and find the window they lie in.
    pixels = np.zeros((len(points), 2))
    pixels[drawable] = project(camera, points[drawable])
    used = pixels[np.unique(faces)]
    limit = np.array([camera.width, camera.height]) + _MARGIN
    low = np.maximum(np.floor(used.min(axis=0)) - 2, -_MARGIN).astype(int)
    high = np.minimum(np.ceil(used.max(axis=0)) + 3, limit).astype(int)
    if (high <= low).any():
        return nothing
    # Fill them.
    mask = np.zeros(((high - low) * scale)[::-1], np.uint8)
    _fill_triangles(mask, ((pixels - low + 0.5) * scale - 0.5)[faces])
    return mask, (int(low[0]), int(low[1]))


def outline(
    camera: Camera, T_cam_obj: np.ndarray, vertices: np.ndarray, faces: np.ndarray
) -> list[np.ndarray]:
    """Compute closed curves [N, 2] (x, y), sub-pixel, around a mesh's silhouette and its holes.

    Specks of less than four pixels are left out; the list is empty where nothing is in the image.
    """
    # Choose a resolution by the size of the object in the image.
    vertices = np.asarray(vertices)
    size = float(np.linalg.norm(np.ptp(vertices, axis=0)))
    pixels = camera.K[0, 0] * size / max(float(T_cam_obj[2, 3]), NEAREST)
    finest = FINEST if len(faces) < MANY_FACES else FINEST // 2
    scale = int(np.clip(1200 / min(max(pixels, 1.0), float(max(camera.width, camera.height))), 1, finest))
    # Fill the silhouette, and smooth its rim.
    mask, corner = silhouette(camera, T_cam_obj, vertices, faces, scale)
    if not mask.any():
        return []
    mask = cv2.GaussianBlur(mask, (0, 0), 0.6 * scale)
    _, mask = cv2.threshold(mask, 127, 255, cv2.THRESH_BINARY)
    # Follow the rim.
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    kept = [c.reshape(-1, 2).astype(np.float64) for c in contours if cv2.contourArea(c) >= 4 * scale**2]
    return [(_smooth(curve, scale) + 0.5) / scale - 0.5 + corner for curve in kept]


def _fill_triangles(mask: np.ndarray, triangles: np.ndarray) -> None:
    """Set the pixels of triangles [F, 3, 2] (x, y): small ones all at once by samples, large ones singly."""
    height, width = mask.shape
    # Written out for the three corners: numpy's reductions over short axes take ten times as long.
    low, high = (f(f(triangles[:, 0], triangles[:, 1]), triangles[:, 2]) for f in (np.minimum, np.maximum))
    inside = (high[:, 0] >= 0) & (high[:, 1] >= 0) & (low[:, 0] <= width) & (low[:, 1] <= height)
    triangles, size = triangles[inside], (high - low)[inside]
    extent = np.maximum(size[:, 0], size[:, 1])
    for limit, steps in ((1.0, 1), (4.0, 5)):
        small = extent <= limit
        _splat(mask, triangles[small], steps)
        triangles, extent = triangles[~small], extent[~small]
    for corners in np.rint(np.clip(triangles, -8192, 8192) * 2**SHIFT).astype(np.int32):
        cv2.fillConvexPoly(mask, corners, 255, cv2.LINE_8, SHIFT)


def _splat(mask: np.ndarray, triangles: np.ndarray, steps: int) -> None:
    """Set the pixels under a grid of samples of each triangle [F, 3, 2]."""
    grid = [(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]
    barycentric = np.array(grid, np.float32).T / steps
    # One matrix product for x and one for y: einsum over the triangles takes five times as long.
    x, y = (
        np.rint(triangles[:, :, axis].astype(np.float32) @ barycentric).astype(np.int32) for axis in (0, 1)
    )
    keep = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
    mask[y[keep], x[keep]] = 255


def _smooth(curve: np.ndarray, reach: int) -> np.ndarray:
    """Average a closed curve [N, 2] over `reach` neighbours on each side, to remove pixel steps."""
    if len(curve) < 4 * reach + 2:
        return curve
    window = 2 * reach + 1
    closed = np.concatenate([curve[-reach:], curve, curve[:reach]])
    total = np.cumsum(np.concatenate([np.zeros((1, 2)), closed]), axis=0)
    return (total[window:] - total[:-window]) / window
