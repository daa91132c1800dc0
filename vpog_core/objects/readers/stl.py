"""Read STL, binary and ASCII: triangles alone; normals of facets and colours are not read."""

from __future__ import annotations

import io

import numpy as np

from vpog_core.objects.readers.mesh_file import MAX_TRIANGLES, MeshFile
from vpog_core.objects.readers.part import Part
from vpog_core.objects.readers.text import decode_text, numbers

_HEADER = 84
_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def read_stl(file: MeshFile) -> list[Part]:
    """Return the triangles of an STL file, each with corners of its own.

    A binary file may begin with "solid" as well; its length tells which it is.

    Raises:
        VPOGError: the file is cut or broken.
    """
    data = file.data
    count = int.from_bytes(data[80:_HEADER], "little")
    whole = len(data) >= _HEADER and _HEADER + count * _FACET.itemsize == len(data)
    corners = _ascii(file) if not whole and _is_text(data) else _binary(file, count)
    faces = np.arange(len(corners)).reshape(-1, 3)
    return [Part(corners, faces)] if len(faces) else []


def _is_text(data: bytes) -> bool:
    head = decode_text(data[:2048]).lower()
    return head.lstrip().startswith("solid") and "\ufffd" not in head and "\0" not in head


def _binary(file: MeshFile, count: int) -> np.ndarray:
    data = file.data
    held = max(0, (len(data) - _HEADER) // _FACET.itemsize)
    if len(data) < _HEADER or count > held:
        raise file.broken(f"it ends after {held} of its {count} triangles")
    if count == 0 and held:
        # Writers that do not know the count beforehand leave it 0.
        count = held
    file.check_counts(3 * count, count)
    facets = np.frombuffer(data, _FACET, count, _HEADER)
    if b"COLOR=" in data[:80]:
        file.note("has colours, which are not read from STL: export it as PLY or GLB to keep them")
    return facets["corners"].reshape(-1, 3).astype(np.float64)


def _ascii(file: MeshFile) -> np.ndarray:
    rows: list[str] = []
    facets, ended = 0, False
    for line in io.StringIO(decode_text(file.data)):
        keyword, rest = (*line.split(None, 1), "", "")[:2]
        keyword = keyword.lower()
        if keyword == "vertex":
            rows.append(rest)
        elif keyword == "facet":
            facets += 1
            file.check_counts(0, facets)
        ended = keyword == "endsolid" or (ended and not keyword)
        if len(rows) > 4 * MAX_TRIANGLES:
            raise file.broken("its facets are no triangles")
    if len(rows) != 3 * facets:
        raise file.broken(f"it has {len(rows)} corners for {facets} triangles")
    if not ended:
        file.note("ends without `endsolid`, as a file does that was cut: see whether it is whole")
    try:
        return numbers(rows, 3)
    except ValueError:
        raise file.broken("a line `vertex` does not hold three numbers") from None
