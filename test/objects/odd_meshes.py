"""A corpus of odd but real kinds of mesh files, written by code, each with what is right for it.

All show the same thing unless they say otherwise: a square of 0.1 m in the x, z plane whose four quarters have
colours of their own, so that every flip, turn and shift can be told.
"""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SQUARE = np.array([[-0.05, 0, -0.05], [0.05, 0, -0.05], [0.05, 0, 0.05], [-0.05, 0, 0.05]])
UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
FACES = np.array([[0, 1, 2], [0, 2, 3]])
QUARTERS = {
    "top left": (255, 0, 0),
    "top right": (0, 255, 0),
    "bottom left": (0, 0, 255),
    "bottom right": (250, 250, 0),
}
VERTEX_COLORS = np.array([QUARTERS[k] for k in ("bottom left", "bottom right", "top right", "top left")])
PLAIN = dict.fromkeys(QUARTERS, (180, 180, 180))


@dataclass(frozen=True)
class Odd:
    """One file of the corpus.

    Attributes:
        name: says its kind; write: makes it in a folder and returns its path.
        colors: what is seen at the square's corners, or None where that is not what it is about.
        says: the notes hold this; refused: the error holds this.
        area: of all triangles, m^2, or None.
    """

    name: str
    write: Callable[[Path], Path]
    colors: dict | None = None
    says: str = ""
    refused: str = ""
    area: float | None = 0.01


CORPUS: list[Odd] = []


def odd(name: str, colors=QUARTERS, says: str = "", refused: str = "", area: float | None = 0.01):
    """Put what a function writes into the corpus."""

    def add(write):
        CORPUS.append(Odd(name, write, None if refused else colors, says, refused, area))
        return write

    return add


def quarters(mode: str = "RGB") -> Image.Image:
    """The square's texture."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32], image[:32, 32:] = QUARTERS["top left"], QUARTERS["top right"]
    image[32:, :32], image[32:, 32:] = QUARTERS["bottom left"], QUARTERS["bottom right"]
    return Image.fromarray(image).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return out.getvalue()


def skin(folder: Path, name: str = "skin.png", image: Image.Image | None = None) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(image or quarters()))


# OBJ


def obj(
    folder: Path, head: str = "mtllib square.mtl\nusemtl skin\n", faces: str = "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n",
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


# PLY


def ply(
    folder: Path, form="ascii", uv: tuple | None = ("s", "t"), comment="comment TextureFile skin.png",
    colors: tuple | None = None, color_type="uchar", color_scale=1.0, newline="\n", faces=FACES, count="uchar",
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


@odd("PLY, two textures by texnumber", colors={k: QUARTERS["top left"] for k in QUARTERS}, area=0.01)
def _(folder):
    skin(folder, "red.png", Image.new("RGB", (16, 16), QUARTERS["top left"]))
    head = "comment TextureFile skin.png\ncomment TextureFile red.png\nelement face 2\n"
    head += (
        "property list uchar int vertex_indices\nproperty list uchar float texcoord\nproperty int texnumber\n"
    )
    return ply_text(folder, head, "3 0 1 2 6 0 0 1 0 1 1 1\n3 0 2 3 6 0 0 1 1 0 1 1\n")


@odd("PLY, colours of faces", colors={k: (255, 0, 0) for k in QUARTERS})
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


# STL


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


# glTF


class Gltf:
    """A glTF file in the making: the square, with what a case changes."""

    _KINDS = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}

    def __init__(self) -> None:
        self.data = b""
        self.tree: dict = {
            "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": [{"attributes": {}, "material": 0}]}], "accessors": [], "bufferViews": [],
            "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
            "textures": [{"source": 0}], "images": [],
        }  # fmt: skip
        self.primitive = self.tree["meshes"][0]["primitives"][0]
        self.attributes = self.primitive["attributes"]
        self.attributes["POSITION"] = self.accessor(SQUARE.astype("f4"))
        self.attributes["TEXCOORD_0"] = self.accessor(np.stack([UV[:, 0], 1 - UV[:, 1]], 1).astype("f4"))
        self.primitive["indices"] = self.accessor(FACES.ravel().astype("u2"))
        self.tree["images"].append({"mimeType": "image/png", "bufferView": self.view(encoded(quarters()))})

    def view(self, data: bytes, **more) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        where = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.tree["bufferViews"].append({**where, **more})
        self.data += data
        return len(self.tree["bufferViews"]) - 1

    def accessor(self, array: np.ndarray, stride: int = 0, **more) -> int:
        count, columns = len(array), 1 if array.ndim == 1 else array.shape[1]
        data = array.tobytes()
        if stride:
            rows = [array[i].tobytes().ljust(stride, b"\0") for i in range(count)]
            data, more_view = b"".join(rows), {"byteStride": stride}
        else:
            more_view = {}
        self.tree["accessors"].append(
            {
                "bufferView": self.view(data, **more_view), "componentType": self._KINDS[array.dtype.str[1:]],
                "count": count, "type": ("SCALAR", "VEC2", "VEC3", "VEC4")[columns - 1], **more,
            }
        )  # fmt: skip
        return len(self.tree["accessors"]) - 1

    def extensions(self, *names: str, required: bool = True) -> None:
        self.tree["extensionsUsed"] = list(names)
        if required:
            self.tree["extensionsRequired"] = list(names)

    def plain(self) -> None:
        """No texture and no texture coordinates."""
        for key in ("textures", "images", "materials"):
            del self.tree[key]
        del self.primitive["material"], self.attributes["TEXCOORD_0"]

    def write(self, folder: Path, suffix: str = ".glb") -> Path:
        path = folder / f"square{suffix}"
        self.tree["buffers"] = [{"byteLength": len(self.data)}]
        if suffix == ".gltf":
            (folder / "my data.bin").write_bytes(self.data)
            self.tree["buffers"][0]["uri"] = "my%20data.bin"
            path.write_text(json.dumps(self.tree))
            return path
        text = json.dumps(self.tree).encode()
        text += b" " * (-len(text) % 4)
        data = self.data + b"\0" * (-len(self.data) % 4)
        chunks = (
            struct.pack("<II", len(text), 0x4E4F534A)
            + text
            + struct.pack("<II", len(data), 0x004E4942)
            + data
        )
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
        return path


@odd("GLB, as plain as it gets")
def _(folder):
    return Gltf().write(folder)


@odd("GLB, quantized positions and uv")
def _(folder):
    g = Gltf()
    g.extensions("KHR_mesh_quantization")
    positions = np.round(SQUARE / 0.05 * 32767).astype("i2")
    g.attributes["POSITION"] = g.accessor(positions, stride=8, normalized=True)
    uv = np.round(np.stack([UV[:, 0], 1 - UV[:, 1]], 1) * 65535).astype("u2")
    g.attributes["TEXCOORD_0"] = g.accessor(uv, normalized=True)
    g.tree["nodes"][0]["scale"] = [0.05, 0.05, 0.05]
    return g.write(folder)


@odd("GLB, quantized positions that are not normalized")
def _(folder):
    g = Gltf()
    g.extensions("KHR_mesh_quantization", "KHR_texture_transform")
    g.attributes["POSITION"] = g.accessor(np.round(SQUARE * 1000).astype("i1"), stride=4)
    uv = np.round(np.stack([UV[:, 0], 1 - UV[:, 1]], 1) * 4095).astype("u2")
    g.attributes["TEXCOORD_0"] = g.accessor(uv)
    place = g.tree["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]
    place["extensions"] = {"KHR_texture_transform": {"scale": [1 / 4095, 1 / 4095]}}
    g.tree["nodes"][0]["scale"] = [0.001, 0.001, 0.001]
    return g.write(folder)


@odd("GLB, uv as normalized bytes")
def _(folder):
    g = Gltf()
    uv = np.round(np.stack([UV[:, 0], 1 - UV[:, 1]], 1) * 255).astype("u1")
    g.attributes["TEXCOORD_0"] = g.accessor(uv, stride=4, normalized=True)
    return g.write(folder)


@odd("GLB, uv as integers that stand for nothing", refused="texture coordinates of 6.55e[+]04")
def _(folder):
    g = Gltf()
    g.attributes["TEXCOORD_0"] = g.accessor(np.round(UV * 65535).astype("u2"))
    return g.write(folder)


@odd("GLB, Draco", refused="is compressed with Draco .KHR_draco_mesh_compression.: export it without")
def _(folder):
    g = Gltf()
    g.extensions("KHR_draco_mesh_compression")
    for accessor in g.tree["accessors"]:
        del accessor["bufferView"]
    g.primitive["extensions"] = {
        "KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {"POSITION": 0}}
    }
    return g.write(folder)


@odd("GLB, Draco that is not called required", refused="compressed with Draco")
def _(folder):
    g = Gltf()
    g.extensions("KHR_draco_mesh_compression", required=False)
    for accessor in g.tree["accessors"]:
        del accessor["bufferView"]
    g.primitive["extensions"] = {
        "KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {"POSITION": 0}}
    }
    return g.write(folder)


@odd("GLB, Draco beside plain data")
def _(folder):
    g = Gltf()
    g.extensions("KHR_draco_mesh_compression", required=False)
    g.primitive["extensions"] = {
        "KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {"POSITION": 0}}
    }
    return g.write(folder)


for _name in ("EXT_meshopt_compression", "KHR_texture_basisu", "EXT_mesh_gpu_instancing", "VENDOR_new_thing"):

    @odd(f"GLB, requires {_name}", refused=_name)
    def _(folder, name=_name):
        g = Gltf()
        g.extensions(name)
        return g.write(folder)


@odd("GLB, uses an extension it does not require", says="uses the glTF extension VENDOR_new_thing")
def _(folder):
    g = Gltf()
    g.extensions("VENDOR_new_thing", required=False)
    return g.write(folder)


@odd("GLB, KTX2 without anything beside it", refused="KHR_texture_basisu")
def _(folder):
    g = Gltf()
    g.extensions("KHR_texture_basisu", required=False)
    g.tree["textures"] = [{"extensions": {"KHR_texture_basisu": {"source": 0}}}]
    return g.write(folder)


@odd("GLB, WebP texture by extension")
def _(folder):
    g = Gltf()
    g.extensions("EXT_texture_webp")
    g.tree["images"] = [{"mimeType": "image/webp", "bufferView": g.view(encoded(quarters(), "WEBP"))}]
    g.tree["textures"] = [{"extensions": {"EXT_texture_webp": {"source": 0}}}]
    return g.write(folder)


@odd("GLB, texture transform")
def _(folder):
    # A quarter turn about the texture's upper left corner, counter-clockwise: (u, v) becomes (v, -u).
    g = Gltf()
    g.extensions("KHR_texture_transform")
    uv = np.stack([UV[:, 0], 1 - UV[:, 1]], 1)
    turned_back = np.stack([1 - uv[:, 1], uv[:, 0]], 1) * 2
    g.attributes["TEXCOORD_0"] = g.accessor(turned_back.astype("f4"))
    place = g.tree["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]
    transform = {"rotation": np.pi / 2, "scale": [0.5, 0.5], "offset": [0, 1]}
    place["extensions"] = {"KHR_texture_transform": transform}
    return g.write(folder)


@odd("GLB, specular and glossiness")
def _(folder):
    g = Gltf()
    g.extensions("KHR_materials_pbrSpecularGlossiness")
    glossy = {
        "diffuseTexture": {"index": 0},
        "diffuseFactor": [1, 1, 1, 1],
        "specularFactor": [0.5, 0.5, 0.5],
    }
    g.tree["materials"] = [{"extensions": {"KHR_materials_pbrSpecularGlossiness": glossy}}]
    return g.write(folder)


@odd("GLB, second set of uv")
def _(folder):
    g = Gltf()
    g.attributes["TEXCOORD_1"] = g.attributes["TEXCOORD_0"]
    g.attributes["TEXCOORD_0"] = g.accessor(np.zeros((4, 2), "f4"))
    g.tree["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]["texCoord"] = 1
    return g.write(folder)


@odd("GLB, sampler that mirrors")
def _(folder):
    g = Gltf()
    g.tree["samplers"] = [{"wrapS": 33648, "wrapT": 33648}]
    g.tree["textures"][0]["sampler"] = 0
    uv = np.stack([2 - UV[:, 0], 1 + UV[:, 1]], 1)
    g.attributes["TEXCOORD_0"] = g.accessor(uv.astype("f4"))
    return g.write(folder)


for _kind, _top in (("u1", 255), ("u2", 65535), ("f4", 1)):

    @odd(f"GLB, vertex colours as {_kind}")
    def _(folder, kind=_kind, top=_top):
        g = Gltf()
        g.plain()
        colors = np.column_stack([VERTEX_COLORS / 255 * top, np.full(4, top)])
        colors = (np.round(colors) if top > 1 else colors).astype(kind)
        g.attributes["COLOR_0"] = g.accessor(colors, **({} if kind == "f4" else {"normalized": True}))
        return g.write(folder)


@odd("GLB, vertex colours with a material")
def _(folder):
    g = Gltf()
    colors = (VERTEX_COLORS / 255).astype("f4")
    g.attributes["COLOR_0"] = g.accessor(colors)
    del g.attributes["TEXCOORD_0"]
    g.tree["materials"] = [{"pbrMetallicRoughness": {"roughnessFactor": 0.5}}]
    return g.write(folder)


@odd("GLB, sparse positions")
def _(folder):
    g = Gltf()
    wrong = SQUARE.copy()
    wrong[2] = 0
    g.attributes["POSITION"] = g.accessor(wrong.astype("f4"))
    g.tree["accessors"][-1]["sparse"] = {
        "count": 1,
        "indices": {"bufferView": g.view(np.array([2], "u2").tobytes()), "componentType": 5123},
        "values": {"bufferView": g.view(SQUARE[2].astype("f4").tobytes())},
    }
    return g.write(folder)


@odd("GLB, a strip")
def _(folder):
    g = Gltf()
    g.primitive.update(mode=5, indices=g.accessor(np.array([0, 1, 3, 2], "u2")))
    return g.write(folder)


@odd("GLB, a fan")
def _(folder):
    g = Gltf()
    g.primitive.update(mode=6, indices=g.accessor(np.arange(4).astype("u1")))
    return g.write(folder)


@odd("GLB, no indices")
def _(folder):
    g = Gltf()
    del g.primitive["indices"]
    g.attributes["POSITION"] = g.accessor(SQUARE[FACES.ravel()].astype("f4"))
    uv = np.stack([UV[:, 0], 1 - UV[:, 1]], 1)
    g.attributes["TEXCOORD_0"] = g.accessor(uv[FACES.ravel()].astype("f4"))
    return g.write(folder)


@odd("GLB, nodes within nodes, far apart and back")
def _(folder):
    g = Gltf()
    move = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1_000_000.1, 0, 0, 1]
    g.tree["nodes"] = [{"matrix": move, "children": [1]}, {"translation": [-1_000_000.1, 0, 0], "mesh": 0}]
    return g.write(folder)


@odd("GLB, a skin", refused="skeleton")
def _(folder):
    g = Gltf()
    g.tree["nodes"] = [{"mesh": 0, "skin": 0}, {}]
    g.tree["skins"] = [{"joints": [1]}]
    return g.write(folder)


@odd("GLB, morph targets in use", refused="morph targets")
def _(folder):
    g = Gltf()
    g.primitive["targets"] = [{"POSITION": 0}]
    g.tree["meshes"][0]["weights"] = [0.5]
    return g.write(folder)


@odd("GLB, transparent parts", says="drawn solid")
def _(folder):
    g = Gltf()
    image = np.asarray(quarters("RGBA")).copy()
    image[20:30, 20:30, 3] = 0
    g.tree["images"] = [{"mimeType": "image/png", "bufferView": g.view(encoded(Image.fromarray(image)))}]
    g.tree["materials"][0]["alphaMode"] = "MASK"
    return g.write(folder)


@odd("GLB, cut", refused="ends after")
def _(folder):
    path = Gltf().write(folder)
    path.write_bytes(path.read_bytes()[:-20])
    return path


@odd("GLB, an accessor behind the end", refused="ends behind")
def _(folder):
    g = Gltf()
    g.tree["accessors"][0]["count"] = 100_000
    return g.write(folder)


@odd("GLB, claims a thousand million vertices", refused="1000000000 vertices")
def _(folder):
    g = Gltf()
    g.tree["accessors"][0]["count"] = 1_000_000_000
    return g.write(folder)


@odd("GLB, a texture and no uv", PLAIN, says="no texture coordinates")
def _(folder):
    g = Gltf()
    del g.attributes["TEXCOORD_0"]
    return g.write(folder)


@odd("glTF with a data file and an image beside it")
def _(folder):
    g = Gltf()
    skin(folder, "textures/my skin.png")
    g.tree["images"] = [{"uri": "textures/my%20skin.png"}]
    return g.write(folder, ".gltf")


@odd("glTF with all data within")
def _(folder):
    g = Gltf()
    path = g.write(folder, ".gltf")
    g.tree["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(g.data).decode()
    path.write_text(json.dumps(g.tree))
    (folder / "my data.bin").unlink()
    return path


@odd("glTF that asks for a file outside its folder", refused="outside its folder")
def _(folder):
    g = Gltf()
    g.tree["images"] = [{"uri": "../skin.png"}]
    skin(folder.parent)
    return g.write(folder, ".gltf")
