"""Check a mesh before it is used: finite, of a size that fits its unit, near its origin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vpog_core.objects.readers.mesh_file import MeshFile
from vpog_core.objects.readers.part import Part

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}
MIN_DIAMETER, MAX_DIAMETER = 0.005, 5.0
"""Sizes (m) outside of which a mesh is taken to be in another unit than the one it was read in."""
LIKELY_DIAMETERS = (0.01, 2.0)
"""Usual sizes (m) of objects: only a unit that leads to one of these is suggested."""
MAX_ORIGIN_DISTANCE = 10.0
"""Distance of a mesh from its origin, in diameters, above which a note is given."""
MIN_AREA = 1e-9
"""Area of a mesh's triangles, over its diameter squared, below which it has no surface to be seen."""
PRECISE = 10_000.0
"""Distance from the origin, in diameters, up to which 32-bit floats resolve the points of a mesh."""
MAX_REPEATS = 10_000
"""Times a texture may repeat along a mesh; beyond, the coordinates are no coordinates."""


def checked_surface(file: MeshFile, part: Part) -> Part:
    """Return a part whose numbers can be used; a texture whose coordinates cannot be is refused.

    Raises:
        VPOGError: vertices or texture coordinates that are not finite, or far from any texture.
    """
    if not np.isfinite(part.vertices).all():
        raise file.error("has vertices that are not finite: export it again")
    if part.texture is None or part.uv is None:
        return replace(part, uv=None, texture=None)
    if not np.isfinite(part.uv).all():
        raise file.error("has texture coordinates that are not finite: export it again")
    if (largest := np.abs(part.uv).max()) > MAX_REPEATS:
        raise file.error(f"has texture coordinates of {largest:.3g}, where 0 to 1 is usual: export it again")
    return part


def checked_normals(part: Part) -> np.ndarray | None:
    """Return [F, 3, 3] float32 unit normals of the corners; None where most are missing or useless.

    A single corner of no direction takes the normal of its face.
    """
    if part.normals is None:
        return None
    normals = np.asarray(part.normals, dtype=np.float64)
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    good = np.isfinite(length) & (length > 1e-6)
    if good.mean() < 0.99:
        return None
    corners = part.vertices[part.faces]
    of_face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    of_face = np.repeat(of_face[:, None], 3, axis=1)
    normals = np.where(good, normals / np.where(good, length, 1), _unit(of_face))
    return normals.astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors [..., 3] of length 1; z where there is no direction."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 0, vectors / np.where(length > 0, length, 1), [0.0, 0.0, 1.0])


def area_of(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Compute the area of a mesh's triangles, square metres."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def check_size(file: MeshFile, size: float, area: float, center: np.ndarray, unit: str) -> None:
    """Refuse a size that no object has; say of an unlikely one, and of an origin far away.

    Args:
        size: diameter, metres; area: of all triangles, square metres; center: [3] middle, metres.
        unit: the requested one, "auto" for metres.

    Raises:
        VPOGError: a mesh of no extent or no surface, or one smaller or larger than objects are.
    """
    if size == 0:
        raise file.error("has no extent, all its points lie in one place: export it again")
    if area < MIN_AREA * size**2:
        raise file.error("has no surface, all its triangles are lines: export it again")
    read = "m" if unit == "auto" else unit
    if not MIN_DIAMETER <= size <= MAX_DIAMETER:
        raise file.error(f"is {_length(size)} across, read in {read}: {_remedy(size / UNITS[read], read)}")
    if unit == "auto" and size > LIKELY_DIAMETERS[1]:
        file.note(f"is {_length(size)} across, read in m: set its `unit` if that is wrong")
    distance = float(np.linalg.norm(center))
    if distance > MAX_ORIGIN_DISTANCE * size:
        exact = distance < PRECISE * size
        file.note(
            f"lies {_length(distance)} from its origin, {distance / size:.0f} times its size: a pose places "
            f"the origin{'' if exact else ', and cannot be exact so far away'}, so move the mesh to it"
        )


def _remedy(raw: float, read: str) -> str:
    """Return what to do about a mesh `raw` units across that was read in a unit it cannot be in."""
    fits = [
        u
        for u in ("mm", "cm", "m")
        if u != read and LIKELY_DIAMETERS[0] <= raw * UNITS[u] <= LIKELY_DIAMETERS[1]
    ]
    if not fits:
        return f"scale it to {_length(MIN_DIAMETER)} to {_length(MAX_DIAMETER)}"
    return ", or ".join(f"set `unit: {u}` if it is {_length(raw * UNITS[u])} across" for u in fits)


def _length(metres: float) -> str:
    """Return a length as people say it."""
    if metres >= 1e4:
        return f"{metres / 1000:.3g} km" if metres < 1e9 else f"{metres:.3g} m"
    if metres >= 1:
        return f"{metres:.3g} m" if metres < 1000 else f"{metres:.0f} m"
    return f"{metres * 1000:.3g} mm"
