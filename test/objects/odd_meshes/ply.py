"""Write odd PLY files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from odd_meshes.base import FACES, PLAIN, QUARTERS, SQUARE, UV, VERTEX_COLORS, odd, skin


def ply(
    folder: Path, form="ascii", uv: tuple | None = ("s", "t"), comment="comment TextureFile skin.png",
    colors: tuple | None = None, color_type="uchar", color_scale=1.0, newline="\n", faces=FACES,
    count="uchar",
) -> Path:  # fmt: skip
    skin(folder)
    kinds = {"uchar": "u1", "ushort": "u2", "float": "f4", "int": "i4", "double": "f8"}
    columns = [("float", n, SQUARE[:, i]) for i, n in enumerate("xyz")]
    if uv:
        columns += [("float", n, UV[:, i]) for i, n in enumerate(uv)]
    if colors:
        columns += [(color_type, n, VERTEX_COLORS[:, i] * color_scale) for i, n in enumerate(colors)]
    head = ["ply", f"format {form} 1.0", *([comment] if comment else []), "element vertex 4"]
    head += [f"property {kind} {name}" for kind, name, _ in columns]
    head += [f"element face {len(faces)}", f"property list {count} int vertex_indices", "end_header"]
    order = ">" if "big" in form else "<"
    if form == "ascii":

        def text(kind, value):
            return f"{value:g}" if kind in ("float", "double") else str(round(value))

        rows = [" ".join(text(kind, column[i]) for kind, _, column in columns) for i in range(4)]
        body = (
            newline.join(rows + [" ".join(map(str, (len(f), *f))) for f in faces]).encode() + newline.encode()
        )
    else:
        row = np.dtype([(name, order + kinds[kind]) for kind, name, _ in columns])
        vertices = np.zeros(4, row)
        for kind, name, column in columns:
            vertices[name] = column if kind in ("float", "double") else np.round(column)
        size = np.dtype(order + kinds[count])
        body = vertices.tobytes() + b"".join(
            np.array([len(f)], size).tobytes() + np.asarray(f, order + "i4").tobytes() for f in faces
        )
    (folder / "square.ply").write_bytes((newline.join(head) + newline).encode() + body)
    return folder / "square.ply"


for _form in ("ascii", "binary_little_endian", "binary_big_endian"):
    for _uv in (("s", "t"), ("u", "v"), ("texture_u", "texture_v")):
        odd(f"PLY {_form}, uv as {', '.join(_uv)}")(lambda f, form=_form, uv=_uv: ply(f, form, uv))
    odd(f"PLY {_form}, a triangle beside a quad", colors=None, area=0.015)(
        lambda f, form=_form: ply(f, form, faces=[[0, 1, 2, 3], [0, 1, 2]])
    )
for _names, _kind, _scale in (
    (("red", "green", "blue"), "uchar", 1), (("diffuse_red", "diffuse_green", "diffuse_blue"), "uchar", 1),
    (("r", "g", "b"), "uchar", 1), (("red", "green", "blue"), "float", 1 / 255),
    (("red", "green", "blue"), "ushort", 257), (("red", "green", "blue"), "float", 1),
    (("red", "green", "blue"), "int", 1), (("red", "green", "blue"), "double", 1 / 255),
):  # fmt: skip
    for _form in ("ascii", "binary_little_endian"):
        odd(f"PLY {_form}, colours {_names[0]} as {_kind} up to {255 * _scale:g}")(
            lambda f, form=_form, n=_names, k=_kind, s=_scale: ply(f, form, None, None, n, k, s)
        )


@odd("PLY, CR LF line ends in a binary file")
def _(folder):
    return ply(folder, "binary_little_endian", newline="\r\n")


@odd("PLY, CR LF line ends in ASCII")
def _(folder):
    return ply(folder, newline="\r\n")


@odd("PLY, texturefile in small letters")
def _(folder):
    return ply(folder, comment="comment texturefile skin.png")


@odd("PLY, uv without TextureFile", PLAIN, says="texture coordinates and no texture")
def _(folder):
    return ply(folder, comment="")


@odd("PLY, TextureFile without uv", PLAIN, says="no texture coordinates")
def _(folder):
    return ply(folder, uv=None)


@odd("PLY, TextureFile that is not there", refused="'gone.png', which is not there")
def _(folder):
    return ply(folder, comment="comment TextureFile gone.png")


@odd("PLY, count of lists as int")
def _(folder):
    return ply(folder, "binary_little_endian", count="int")


def ply_text(folder: Path, head: str, body: str) -> Path:
    skin(folder)
    vertices = "".join(f"{x} {y} {z}\n" for x, y, z in SQUARE)
    start = "element vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    (folder / "square.ply").write_text(f"ply\nformat ascii 1.0\n{start}{head}end_header\n{vertices}{body}")
    return folder / "square.ply"


@odd("PLY, uv of faces in lists texcoord")
def _(folder):
    lists = "property list uchar int vertex_indices\nproperty list uchar float texcoord\n"
    head = f"comment TextureFile skin.png\nelement face 1\n{lists}"
    return ply_text(folder, head, "4 0 1 2 3 8 0 0 1 0 1 1 0 1\n")


@odd("PLY, two textures by texnumber", colors=dict.fromkeys(QUARTERS, QUARTERS["top left"]), area=0.01)
def _(folder):
    skin(folder, "red.png", Image.new("RGB", (16, 16), QUARTERS["top left"]))
    head = "comment TextureFile skin.png\ncomment TextureFile red.png\nelement face 2\n"
    head += (
        "property list uchar int vertex_indices\nproperty list uchar float texcoord\nproperty int texnumber\n"
    )
    return ply_text(folder, head, "3 0 1 2 6 0 0 1 0 1 1 1\n3 0 2 3 6 0 0 1 1 0 1 1\n")


@odd("PLY, colours of faces", colors=dict.fromkeys(QUARTERS, (255, 0, 0)))
def _(folder):
    colors = "".join(f"property uchar {n}\n" for n in ("red", "green", "blue"))
    head = f"element face 1\nproperty list uchar int vertex_indices\n{colors}"
    return ply_text(folder, head, "4 0 1 2 3 255 0 0\n")


@odd("PLY, triangle strips", colors=PLAIN)
def _(folder):
    return ply_text(
        folder, "element tristrips 1\nproperty list int int vertex_indices\n", "8 0 1 3 2 -1 0 1 1\n"
    )


@odd("PLY, cut", refused="ends")
def _(folder):
    path = ply(folder, "binary_little_endian")
    path.write_bytes(path.read_bytes()[:-3])
    return path


@odd("PLY, claims a thousand million faces", refused="ends before the 1000000000 rows")
def _(folder):
    path = ply(folder, "binary_little_endian")
    path.write_bytes(path.read_bytes().replace(b"element face 2", b"element face 1000000000"))
    return path


@odd("PLY, points only", refused="no triangles")
def _(folder):
    return ply_text(folder, "", "")


@odd("PLY, vertices that are NaN", refused="not finite")
def _(folder):
    path = ply(folder)
    path.write_text(path.read_text().replace("-0.05 0 -0.05", "nan 0 0"))
    return path


@odd(
    "PLY, vertex colours under a name that is not known", PLAIN, says="vertex_red, vertex_green, vertex_blue"
)
def _(folder):
    rows = "".join(f"{x} {y} {z} 255 0 0\n" for x, y, z in SQUARE)
    names = "".join(f"property float {a}\n" for a in "xyz")
    names += "".join(f"property uchar vertex_{c}\n" for c in ("red", "green", "blue"))
    head = f"ply\nformat ascii 1.0\nelement vertex 4\n{names}element face 2\n"
    head += "property list uchar int vertex_indices\nend_header\n"
    (folder / "square.ply").write_text(f"{head}{rows}3 0 1 2\n3 0 2 3\n")
    return folder / "square.ply"


@odd("PLY, a face between vertices", refused="number that is not whole")
def _(folder):
    return ply_text(folder, "element face 1\nproperty list uchar int vertex_indices\n", "3 0 1 2.5\n")
