"""Write odd STL files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from odd_meshes.base import FACES, PLAIN, SQUARE, odd


def stl(folder: Path, header: bytes = b"", claimed: int = 2) -> Path:
    rows = b"".join(
        struct.pack("<12fH", 0, 0, 0, *SQUARE[face].astype(np.float32).ravel(), 0) for face in FACES
    )
    path = folder / "square.stl"
    path.write_bytes(header.ljust(80, b"\0") + struct.pack("<I", claimed) + rows)
    return path


def stl_text(folder: Path, end: str = "endsolid square\n") -> Path:
    facets = "".join(
        "\tfacet normal 0 0 0\n\touter loop\n"
        + "".join("\t\tvertex\t{} {} {}\n".format(*SQUARE[i]) for i in face)
        + "\tendloop\n\tendfacet\n"
        for face in FACES
    )
    (folder / "square.stl").write_text(f"solid square\n{facets}{end}")
    return folder / "square.stl"


odd("STL, binary that begins with solid", PLAIN)(lambda f: stl(f, b"solid made by a CAD system"))
odd("STL, binary that is cut", refused="ends after 2 of its 900000000")(lambda f: stl(f, claimed=900_000_000))
odd("STL, ASCII", PLAIN)(stl_text)
odd("STL, ASCII that is cut", PLAIN, says="endsolid")(lambda f: stl_text(f, ""))
odd("STL, binary with colours", PLAIN, says="colours")(lambda f: stl(f, b"COLOR=\xff\x00\x00\xff"))
