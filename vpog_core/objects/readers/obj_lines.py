"""Read the lines of an OBJ file as arrays: positions, colours, texture coordinates, normals, polygons."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from vpog_core.objects.readers.mesh_file import MAX_TRIANGLES, MAX_VERTICES, MeshFile
from vpog_core.objects.readers.text import decode_text, joined_lines, numbers, unquoted

_INDEX = r"[-+]?\d+"
_FORMS = tuple(
    (re.compile(rf"{corner}(?:\s+{corner})*"), slots)
    for corner, slots in (
        (_INDEX, (0,)),
        (f"{_INDEX}/{_INDEX}", (0, 1)),
        (f"{_INDEX}//{_INDEX}", (0, 2)),
        (f"{_INDEX}/{_INDEX}/{_INDEX}", (0, 1, 2)),
    )
)
"""Ways to write the corners of a face, and what their numbers index: position, texture, normal."""
_AT_ONCE = 1 << 16
_SURFACES = ("curv", "curv2", "surf")


@dataclass
class ObjLines:
    """Holds the content of an OBJ file.

    Attributes:
        positions: [V, 3] float64; colors: [V, 3] float64 as written, NaN where there is none, or None.
        uv: [T, 2]; normals: [N, 3].
        counts: [P] corners of each polygon; materials: [P] place in `names`, -1 before the first usemtl.
        corners: [sum of counts, 3] position, texture and normal of each corner, -1 for none.
        names: materials in the order of their first usemtl; libraries: what follows each mtllib.
    """

    positions: np.ndarray
    colors: np.ndarray | None
    uv: np.ndarray
    normals: np.ndarray
    counts: np.ndarray
    materials: np.ndarray
    corners: np.ndarray
    names: list[str]
    libraries: list[str]


@dataclass
class _Sorted:
    """Holds lines by keyword; for each face also its material and how many v, vt, vn stand before it."""

    v: list[str] = field(default_factory=list)
    vt: list[str] = field(default_factory=list)
    vn: list[str] = field(default_factory=list)
    faces: list[str] = field(default_factory=list)
    materials: list[int] = field(default_factory=list)
    before: list[tuple[int, int, int]] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    libraries: list[str] = field(default_factory=list)


def read_lines(file: MeshFile) -> ObjLines:
    """Read an OBJ file.

    Raises:
        VPOGError: a line that does not follow the format, or too many of them.
    """
    if b"#MRGB" in file.data:
        file.note("has vertex colours in comments (ZBrush's #MRGB), which are not read: export it as PLY")
    found = _sort(file)
    positions, colors = _positions(file, found.v)
    uv = _rows(file, "vt", found.vt, 1, 2)
    uv = np.pad(uv, ((0, 0), (0, 2 - uv.shape[1])))
    normals = _rows(file, "vn", found.vn, 3, 3)
    counts, corners = _polygons(file, found)
    corners = _resolved(file, found, counts, corners, (len(positions), len(uv), len(normals)))
    return ObjLines(
        positions, colors, uv, normals, counts, np.array(found.materials, dtype=np.int64), corners,
        list(found.names), found.libraries,
    )  # fmt: skip


def _sort(file: MeshFile) -> _Sorted:
    found = _Sorted()
    material = -1
    before = (0, 0, 0)
    for line in joined_lines(decode_text(file.data)):
        keyword, rest = (*line.split(None, 1), "", "")[:2]
        if keyword in ("v", "vt", "vn"):
            getattr(found, keyword).append(rest.partition("#")[0])
            before = None
        elif keyword in ("f", "fo"):
            before = before or (len(found.v), len(found.vt), len(found.vn))
            found.faces.append(rest.partition("#")[0])
            found.materials.append(material)
            found.before.append(before)
        elif keyword == "usemtl":
            material = found.names.setdefault(unquoted(rest.strip()), len(found.names))
        elif keyword == "mtllib":
            found.libraries.append(rest)
        elif keyword in _SURFACES:
            file.note("has free-form surfaces, which are not read: export it as triangles")
        if len(found.v) > MAX_VERTICES or len(found.faces) > MAX_TRIANGLES:
            file.check_counts(len(found.v), len(found.faces))
    return found


def _rows(file: MeshFile, keyword: str, rows: list[str], fewest: int, most: int) -> np.ndarray:
    """Return [len(rows), fewest..most] numbers of lines; what stands behind them is not read."""
    if not rows:
        return np.zeros((0, most))
    columns = min(most, len(rows[0].split()))
    try:
        if columns >= fewest and all(len(row.split()) == columns for row in rows):
            return numbers(rows, columns)
        return numbers([" ".join((row.split() + ["0"] * (most - fewest))[:most]) for row in rows], most)
    except ValueError:
        raise file.broken(f"a line `{keyword}` does not hold {fewest} numbers") from None


def _positions(file: MeshFile, rows: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return positions [V, 3] and colours [V, 3] or None, of lines x y z [w] or x y z r g b [a]."""
    widths = np.array([len(row.split()) for row in rows], dtype=np.int64)
    positions, colors = np.empty((len(rows), 3)), None
    for width in np.unique(widths):
        chosen = np.flatnonzero(widths == width)
        values = _rows(file, "v", [rows[i] for i in chosen], 3, int(max(width, 3)))
        positions[chosen] = values[:, :3]
        if width >= 6:
            colors = np.full((len(rows), 3), np.nan) if colors is None else colors
            colors[chosen] = values[:, 3:6]
    return positions, colors


def _polygons(file: MeshFile, found: _Sorted) -> tuple[np.ndarray, np.ndarray]:
    """Return corners of each face [P], and their numbers as written [sum, 3], 0 for none."""
    counts = np.empty(len(found.faces), dtype=np.int64)
    corners = []
    for start in range(0, len(found.faces), _AT_ONCE):
        rows = found.faces[start : start + _AT_ONCE]
        form = next((form for form in _FORMS if form[0].fullmatch(rows[0].strip())), None)
        read = _same_form(rows, form) if form else None
        chunk_counts, chunk = read if read else _one_by_one(file, rows)
        counts[start : start + len(rows)] = chunk_counts
        corners.append(chunk)
    return counts, np.concatenate(corners) if corners else np.zeros((0, 3), np.int64)


def _same_form(rows: list[str], form) -> tuple[np.ndarray, np.ndarray] | None:
    """Return faces that are all written in one form; None where they are not, or a number is too large."""
    pattern, slots = form
    if not all(pattern.fullmatch(row.strip()) for row in rows):
        return None
    values = " ".join(rows).replace("/", " ").split()
    try:
        values = np.array(values, dtype=np.int64).reshape(-1, len(slots))
    except (ValueError, OverflowError):
        return None
    corners = np.zeros((len(values), 3), dtype=np.int64)
    corners[:, slots] = values
    return np.array([len(row.split()) for row in rows]), corners


def _one_by_one(file: MeshFile, rows: list[str]) -> tuple[np.ndarray, np.ndarray]:
    counts, corners = [], []
    for row in rows:
        words = row.split()
        counts.append(len(words))
        for word in words:
            parts = word.split("/")
            try:
                values = [int(part) if part else 0 for part in parts]
                if len(values) > 3 or not parts[0] or max(map(abs, values)) > 1 << 40:
                    raise ValueError
            except ValueError:
                raise file.broken(f"a face asks for the corner '{word[:40]}'") from None
            corners.append(values + [0] * (3 - len(values)))
    return np.array(counts, dtype=np.int64), np.array(corners, dtype=np.int64).reshape(-1, 3)


def _resolved(
    file: MeshFile, found: _Sorted, counts: np.ndarray, corners: np.ndarray, sizes: tuple[int, int, int]
) -> np.ndarray:
    """Return corners as places from 0, -1 for none; numbers below 0 count back from the face's own line."""
    before = np.repeat(np.array(found.before, dtype=np.int64).reshape(-1, 3), counts, axis=0)
    places = np.where(corners < 0, corners + before, corners - 1)
    for column, (size, what) in enumerate(zip(sizes, ("v", "vt", "vn"), strict=True)):
        given = corners[:, column] != 0 if column else np.ones(len(corners), bool)
        wrong = given & ((places[:, column] < 0) | (places[:, column] >= size))
        if wrong.any():
            raise file.broken(f"a face asks for `{what}` number {corners[wrong, column][0]}, of {size}")
    return places
