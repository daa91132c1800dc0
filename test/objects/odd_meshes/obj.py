"""Write odd OBJ files and their materials."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from odd_meshes.base import PLAIN, QUARTERS, SQUARE, UV, VERTEX_COLORS, encoded, odd, quarters, skin


def obj(
    folder: Path, head: str = "mtllib square.mtl\nusemtl skin\n",
    faces: str = "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n",
    mtl: str | None = "newmtl skin\nKd 1 1 1\nmap_Kd skin.png\n", encoding: str = "utf-8", scale=1.0, uv=UV,
) -> Path:  # fmt: skip
    skin(folder)
    text = head + "".join(f"v {x} {y} {z}\n" for x, y, z in SQUARE * scale)
    text += "".join(f"vt {u} {v}\n" for u, v in uv) + faces
    if mtl is not None:
        (folder / "square.mtl").write_bytes(mtl.encode(encoding))
    path = folder / "square.obj"
    path.write_bytes(text.encode(encoding))
    return path


@odd("OBJ, negative indices between its vertices")
def _(folder):
    rows = [f"v {x} {y} {z}\nvt {u} {v}\n" for (x, y, z), (u, v) in zip(SQUARE, UV, strict=True)]
    faces = "f -3/-3 -2/-2 -1/-1\n"
    first, second = "".join(rows[:3]) + faces, "".join(rows[i] for i in (0, 2, 3)) + faces
    obj(folder)
    (folder / "square.obj").write_text("mtllib square.mtl\nusemtl skin\n" + first + second)
    return folder / "square.obj"


@odd("OBJ, mtllib of one material without usemtl")
def _(folder):
    return obj(folder, head="mtllib square.mtl\n")


@odd("OBJ, usemtl of a material that is not there", PLAIN, says="material 'skim'")
def _(folder):
    return obj(folder, head="mtllib square.mtl\nusemtl skim\n")


@odd("OBJ, uv without any material", PLAIN, says="texture coordinates and no texture")
def _(folder):
    return obj(folder, head="")


@odd("OBJ, several materials and faces before usemtl", PLAIN, says="before its first `usemtl`")
def _(folder):
    two = "newmtl skin\nmap_Kd skin.png\nnewmtl other\nKd 1 0 0\n"
    return obj(folder, head="mtllib square.mtl\n", mtl=two)


@odd("OBJ, options of map_Kd")
def _(folder):
    options = "newmtl skin\nmap_Kd -s 0.5 0.5 1 -o 0.25 0.25 -clamp off -bm 0.2 skin.png\n"
    return obj(folder, mtl=options, uv=(UV - 0.25) * 2)


@odd("OBJ, material and texture with spaces, in quotes")
def _(folder):
    skin(folder, "my skin.png")
    mtl = 'newmtl my skin\nmap_Kd "my skin.png"\n'
    path = obj(folder, head='mtllib "square mat.mtl"\nusemtl my skin\n', mtl=mtl)
    (folder / "square.mtl").rename(folder / "square mat.mtl")
    return path


@odd("OBJ, material names with a number sign", colors=None)
def _(folder):
    mtl = "newmtl Mat #1\nKd 1 0 0\nnewmtl Mat #2\nKd 0 1 0\n"
    return obj(folder, "mtllib square.mtl\n", "usemtl Mat #1\nf 1 2 3\nusemtl Mat #2\nf 1 3 4\n", mtl)


@odd("OBJ, UTF-16 with a mark")
def _(folder):
    return obj(folder, encoding="utf-16")


@odd("OBJ, Latin-1 names")
def _(folder):
    skin(folder, "häutung.png")
    mtl = "newmtl häutung\nmap_Kd häutung.png\n"
    return obj(folder, head="mtllib square.mtl\nusemtl häutung\n", mtl=mtl, encoding="latin-1")


@odd("OBJ, a concave polygon", colors=None, area=0.0075)
def _(folder):
    corner = "v 0 0 0\nf 5 3 4 1 2\n"  # The square with the triangle at its right cut out.
    return obj(folder, "", corner, None)


@odd("OBJ, lines that go on after a backslash")
def _(folder):
    return obj(folder, faces="f 1/1 2/2 \\\n  3/3 4/4\n")


@odd("OBJ, CR line ends")
def _(folder):
    path = obj(folder)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r"))
    return path


@odd("OBJ, colours of vertices", colors=QUARTERS)
def _(folder):
    rows = "".join(
        f"v {x} {y} {z} {r / 255} {g / 255} {b / 255}\n"
        for (x, y, z), (r, g, b) in zip(SQUARE, VERTEX_COLORS, strict=True)
    )
    (folder / "square.obj").write_text(rows + "f 1 2 3 4\n")
    return folder / "square.obj"


@odd("OBJ, two textures")
def _(folder):
    left, right = quarters().crop((0, 0, 32, 64)), quarters().crop((32, 0, 64, 64))
    skin(folder, "left.png", left)
    skin(folder, "right.png", right)
    text = "mtllib square.mtl\n"
    for x in (-0.05, 0.0):
        text += "".join(f"v {x + 0.05 * u} 0 {0.1 * v - 0.05}\nvt {u} {v}\n" for u, v in UV)
    text += "usemtl left\nf 1/1 2/2 3/3 4/4\nusemtl right\nf 5/5 6/6 7/7 8/8\n"
    (folder / "square.obj").write_text(text)
    (folder / "square.mtl").write_text("newmtl left\nmap_Kd left.png\nnewmtl right\nmap_Kd right.png\n")
    return folder / "square.obj"


@odd("OBJ, other case of the texture's name")
def _(folder):
    return obj(folder, mtl="newmtl skin\nmap_Kd Skin.PNG\n")


@odd("OBJ, a texture that is no image", refused="skin.png.*cannot be decoded")
def _(folder):
    path = obj(folder)
    (folder / "skin.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return path


@odd("OBJ, a texture that is cut", refused="skin.png.*cannot be decoded")
def _(folder):
    path = obj(folder)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    whole = encoded(Image.fromarray(noise))
    (folder / "skin.png").write_bytes(whole[: len(whole) // 2])
    return path


@odd("OBJ, a texture of 16 bits", PLAIN)
def _(folder):
    path = obj(folder)
    Image.fromarray(np.full((8, 8), 180 * 257, np.uint16)).save(folder / "skin.png")
    return path


@odd("OBJ, a face of a vertex that is not there", refused="`v` number 5, of 4")
def _(folder):
    return obj(folder, faces="f 1/1 2/2 5/3\n")


@odd("OBJ, in millimetres", refused="set `unit: mm` if it is 141 mm across")
def _(folder):
    return obj(folder, scale=1000)


@odd("OBJ, of no likely unit", refused="1.41e[+]06 m across, read in m: scale it|1.41e[+]03 km across")
def _(folder):
    return obj(folder, scale=1e7)


@odd("OBJ, all points in one place", refused="no extent")
def _(folder):
    return obj(folder, scale=0)


@odd("OBJ, origin 500 km away", colors=None, says="lies 500 km from its origin", area=0.01)
def _(folder):
    path = obj(folder)
    text = path.read_text()
    for x, y, z in SQUARE:
        text = text.replace(f"v {x} {y} {z}\n", f"v {x + 500_000} {y} {z}\n")
    path.write_text(text)
    return path


@odd("OBJ, an unused vertex far away")
def _(folder):
    return obj(folder, faces="v 9e9 0 0\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\n")


@odd("OBJ, ZBrush's colours in comments", PLAIN, says="#MRGB")
def _(folder):
    return obj(folder, head="#MRGB ffff0000ff00ff00ff0000ffffffff00\n", faces="f 1 2 3\nf 1 3 4\n", uv=[])


@odd("OBJ, not fetched from Git LFS", refused="pointer of Git LFS")
def _(folder):
    (folder / "square.obj").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    return folder / "square.obj"
