"""Assemble glTF files from arrays."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np

from odd_meshes.base import FACES, SQUARE, UV, encoded, quarters


class Gltf:
    """Assembles a glTF file of the square, with what a case changes."""

    _KINDS: ClassVar = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}

    def __init__(self) -> None:
        self.data = b""
        self.tree: dict = {
            "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": [{"attributes": {}, "material": 0}]}], "accessors": [],
            "bufferViews": [],
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
        """Remove texture and texture coordinates."""
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
