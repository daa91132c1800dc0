"""Triangulate polygons of any shape."""

from __future__ import annotations

import mapbox_earcut
import numpy as np


def triangulate(
    vertices: np.ndarray, counts: np.ndarray, corners: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cut polygons into triangles: convex ones as fans, others by ear clipping.

    Args:
        vertices: [V, 3] float64.
        counts: [P] corners of each polygon; those of fewer than three give no triangle.
        corners: [sum of counts] vertex of each corner, polygon after polygon.

    Returns:
        [T, 3] places in `corners`, in the polygons' order and sense of rotation, and [T] polygon of each.
    """
    starts = np.cumsum(counts) - counts
    if len(counts) and (counts == 3).all():
        return np.arange(len(corners)).reshape(-1, 3), np.arange(len(counts))
    triangles, polygons = [np.zeros((0, 3), np.int64)], [np.zeros(0, np.int64)]
    for sides in np.unique(counts[counts >= 3]):
        which = np.flatnonzero(counts == sides)
        convex = np.ones(len(which), bool) if sides == 3 else np.zeros(len(which), bool)
        for first in range(0, 0 if sides == 3 else len(which), step := max(1, 4_000_000 // int(sides))):
            rows = which[first : first + step]
            places = starts[rows][:, None] + np.arange(sides)
            convex[first : first + step] = _convex(vertices[corners[places]])
        fan = np.stack([np.zeros(sides - 2, int), np.arange(1, sides - 1), np.arange(2, sides)], axis=1)
        triangles.append((starts[which[convex]][:, None, None] + fan).reshape(-1, 3))
        polygons.append(np.repeat(which[convex], sides - 2))
        for polygon in which[~convex]:
            ears = _ears(vertices[corners[starts[polygon] : starts[polygon] + sides]])
            triangles.append(starts[polygon] + ears)
            polygons.append(np.full(len(ears), polygon))
    triangles, polygons = np.concatenate(triangles), np.concatenate(polygons)
    order = np.argsort(polygons, kind="stable")
    return triangles[order], polygons[order]


def strips(runs: list[np.ndarray]) -> np.ndarray:
    """Cut strips [n] of vertices into triangles [T, 3], every other one turned over, without empty ones."""
    out = [np.zeros((0, 3), np.int64)]
    for run in runs:
        faces = np.stack([run[:-2], run[1:-1], run[2:]], axis=1) if len(run) >= 3 else out[0]
        faces[1::2] = faces[1::2, [1, 0, 2]]
        out.append(faces)
    faces = np.concatenate(out)
    a, b, c = faces.T
    return faces[(a != b) & (b != c) & (c != a)]


def _normals(polygons: np.ndarray) -> np.ndarray:
    """Return [P, 3] unit normals of polygons [P, n, 3] by Newell's method; zero where there is none."""
    here = polygons - polygons[:, :1]
    normals = np.cross(here, np.roll(here, -1, axis=1)).sum(axis=1)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)


def _convex(polygons: np.ndarray) -> np.ndarray:
    """Return [P] whether polygons [P, n, 3] turn one way all along, and once; what is not finite does."""
    normals = _normals(polygons)
    edges = np.roll(polygons, -1, axis=1) - polygons
    turns = np.cross(edges, np.roll(edges, -1, axis=1))
    sides = np.einsum("pni,pi->pn", turns, normals)
    scale = np.abs(turns).max(axis=(1, 2), initial=0)[:, None]
    # Newell's normal of a fan that turns once is the sum of its triangles' areas, none of them negative.
    here = polygons - polygons[:, :1]
    fan = np.einsum("pni,pi->pn", np.cross(here[:, 1:-1], here[:, 2:]), normals)
    convex = (sides >= -1e-9 * scale).all(axis=1) & (fan >= -1e-9 * scale).all(axis=1)
    return convex | ~np.isfinite(scale[:, 0])


def _ears(polygon: np.ndarray) -> np.ndarray:
    """Return [T, 3] places of corners of one polygon [n, 3], cut in the plane it is nearest to."""
    normal = _normals(polygon[None])[0]
    axis = int(np.abs(normal).argmax())
    # The two other axes in the order that makes it counter-clockwise, as the triangles come out.
    plane = [(axis + 1) % 3, (axis + 2) % 3][:: 1 if normal[axis] >= 0 else -1]
    flat = np.ascontiguousarray(polygon[:, plane], dtype=np.float64)
    flat = (flat - flat.min(axis=0)) / max(np.ptp(flat, axis=0).max(), 1e-300)
    found = mapbox_earcut.triangulate_float64(flat, np.array([len(flat)], dtype=np.uint32))
    return found.astype(np.int64).reshape(-1, 3)
