"""Read glTF 2.0, binary (.glb) or JSON (.gltf): the triangles of the scene, each node at its pose."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from vpog_core.geometry.se3 import rotation_from_quaternion
from vpog_core.objects.readers.gltf_accessors import Accessors
from vpog_core.objects.readers.gltf_materials import Material, Materials, wrapped
from vpog_core.objects.readers.mesh_file import MeshFile
from vpog_core.objects.readers.part import Part, moved, plain_color
from vpog_core.objects.readers.polygons import strips
from vpog_core.types import VPOGError

READ = (
    "KHR_mesh_quantization", "KHR_texture_transform", "KHR_materials_unlit",
    "KHR_materials_pbrSpecularGlossiness", "EXT_texture_webp", "EXT_texture_avif",
)  # fmt: skip
"""Supported glTF extensions."""
REMEDIES = {
    "KHR_draco_mesh_compression": "is compressed with Draco (KHR_draco_mesh_compression): "
    "export it without compression",
    "EXT_meshopt_compression": "is compressed (EXT_meshopt_compression): export it without compression",
    "KHR_texture_basisu": "has textures in KTX2 (KHR_texture_basisu), which are not read: "
    "export them as PNG or JPEG",
    "EXT_mesh_gpu_instancing": "places copies of its parts by EXT_mesh_gpu_instancing, which is not read: "
    "export them as nodes of their own",
}
_HARMLESS = (
    "KHR_materials_emissive_strength",
    "KHR_materials_ior",
    "KHR_materials_specular",
    "KHR_xmp_json_ld",
)
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_JSON, _BINARY = 0x4E4F534A, 0x004E4942


def read_gltf(file: MeshFile) -> list[Part]:
    """Return the triangles of a glTF file, a part for each primitive of each node.

    Raises:
        VPOGError: the file is broken, needs an extension that is not read, or moves its mesh by a skeleton.
    """
    tree, chunk = _container(file)
    try:
        return _scene(file, tree, chunk)
    except VPOGError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        # Values of wrong types anywhere in the file raise these errors; they are not checked one by one.
        raise file.broken("its JSON does not follow glTF 2.0") from error


def _scene(file: MeshFile, tree: dict, chunk: bytes | None) -> list[Part]:
    _check_extensions(file, tree)
    accessors = Accessors(file, tree, chunk)
    reader = _Primitives(file, tree, accessors)
    parts, triangles, vertices = [], 0, 0
    for node, T in _nodes(file, tree):
        if "skin" in node:
            raise file.error(
                "is moved by a skeleton (skin): export it as a static mesh, in the pose it is to have"
            )
        if "EXT_mesh_gpu_instancing" in node.get("extensions", {}):
            file.note("places copies of its parts by EXT_mesh_gpu_instancing: only one of each is read")
        for part in reader.read(node["mesh"], node.get("weights")):
            parts.append(moved(part, T))
            triangles, vertices = triangles + len(part.faces), vertices + len(part.vertices)
            file.check_counts(vertices, triangles)
    if tree.get("animations"):
        file.note("is animated: it is read as it stands when it rests")
    return parts


def _container(file: MeshFile) -> tuple[dict, bytes | None]:
    """Return (JSON, binary chunk or None)."""
    data = file.data
    chunk = None
    if data[:4] == b"glTF":
        text, chunk = _chunks(file)
    else:
        text = data
    try:
        tree = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise file.broken("its JSON is broken" if data[:4] == b"glTF" else "it is no glTF") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("asset"), dict):
        raise file.broken("it is no glTF")
    if str(tree["asset"].get("version", "2.0")).split(".")[0] != "2":
        raise file.error(f"is glTF {tree['asset'].get('version')!r:.10}: export it as glTF 2.0")
    return tree, chunk


def _chunks(file: MeshFile) -> tuple[bytes, bytes | None]:
    data = file.data
    if len(data) < 20:
        raise file.broken(f"it ends after {len(data)} bytes")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise file.error(f"is glTF {version}: export it as glTF 2.0")
    if length > len(data):
        raise file.broken(f"it ends after {len(data)} of its {length} bytes")
    found: dict[int, bytes] = {}
    offset = 12
    while offset + 8 <= length:
        size, kind = struct.unpack_from("<II", data, offset)
        if offset + 8 + size > length:
            raise file.broken("a chunk ends behind the file")
        found.setdefault(kind, data[offset + 8 : offset + 8 + size])
        offset += 8 + size
    if _JSON not in found:
        raise file.broken("it holds no JSON")
    return found[_JSON], found.get(_BINARY)


def _check_extensions(file: MeshFile, tree: dict) -> None:
    """Refuse what the file requires and is not read; say of what it merely uses that it is left out."""
    required = [str(name) for name in tree.get("extensionsRequired", [])]
    for name in required:
        if name not in READ:
            otherwise = f"asks for the glTF extension {name:.60}, which is not supported: export it without"
            raise file.error(REMEDIES.get(name, otherwise))
    for name in map(str, tree.get("extensionsUsed", [])):
        # Those with a remedy have plain data beside them, which is read, or are refused where they occur.
        if name not in (*READ, *_HARMLESS, *REMEDIES):
            file.note(f"uses the glTF extension {name:.60}, which is left out")


def _nodes(file: MeshFile, tree: dict) -> Iterator[tuple[dict, np.ndarray]]:
    """Yield (node with a mesh, its transform [4, 4] in the scene) in the scene's order."""
    nodes, scenes = tree.get("nodes", []), tree.get("scenes", [])
    if scenes:
        if len(scenes) > 1:
            file.note(f"holds {len(scenes)} scenes: only the one it opens with is read")
        roots = file.item(scenes, tree.get("scene", 0), "scene").get("nodes", [])
    elif nodes:
        children = {child for node in nodes for child in node.get("children", [])}
        roots = [i for i in range(len(nodes)) if i not in children]
    else:
        yield from (({"mesh": i}, np.eye(4)) for i in range(len(tree.get("meshes", []))))
        return
    stack = [(index, np.eye(4)) for index in reversed(roots)]
    seen: set[int] = set()
    while stack:
        index, T_parent = stack.pop()
        node = file.item(nodes, index, "node")
        if index in seen:
            raise file.broken("a node hangs on two others")
        seen.add(index)
        T = T_parent @ _local(file, node)
        if "mesh" in node:
            yield node, T
        stack += [(child, T) for child in reversed(node.get("children", []))]


def _local(file: MeshFile, node: dict) -> np.ndarray:
    """Return [4, 4] of a node in its parent."""
    if "matrix" in node:
        T = np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
        if not np.allclose(T[3], [0, 0, 0, 1], atol=1e-6):
            raise file.broken("a node's `matrix` does not end with 0 0 0 1, column after column")
    else:
        T = np.eye(4)
        quaternion = np.array(node.get("rotation", [0, 0, 0, 1]), dtype=np.float64)  # x, y, z, w
        # A quaternion of no length, as some exporters write, turns nothing.
        R = rotation_from_quaternion(quaternion) if np.linalg.norm(quaternion) > 0 else np.eye(3)
        T[:3, :3] = R * np.array(node.get("scale", [1, 1, 1]), dtype=np.float64).reshape(3)
        T[:3, 3] = np.array(node.get("translation", [0, 0, 0]), dtype=np.float64)
    if not np.isfinite(T).all():
        raise file.broken("a node's transform is not finite")
    return T


class _Primitives:
    """Reads the primitives of meshes; one that several nodes show is read once."""

    def __init__(self, file: MeshFile, tree: dict, accessors: Accessors) -> None:
        self._file, self._tree, self._accessors = file, tree, accessors
        self._materials = Materials(file, tree, accessors)
        self._read: dict[int, list[Part]] = {}

    def read(self, index: int, weights: list | None) -> list[Part]:
        mesh = self._file.item(self._tree.get("meshes", []), index, "mesh")
        if any(weights or mesh.get("weights", [])):
            raise self._file.error(
                "is bent by morph targets: export it as a static mesh, in the shape it is to have"
            )
        if index not in self._read:
            parts = [self._part(primitive) for primitive in mesh["primitives"]]
            self._read[index] = [part for part in parts if part is not None and len(part.faces)]
        return self._read[index]

    def _part(self, primitive: dict) -> Part | None:
        attributes = primitive["attributes"]
        mode = primitive.get("mode", _TRIANGLES)
        if mode not in (_TRIANGLES, _STRIP, _FAN):
            self._file.note("holds points or lines, which are left out")
            return None
        if "POSITION" not in attributes:
            return None
        if primitive.get("targets"):
            self._file.note("has morph targets, which are left out")
        self._refuse_without_data(primitive)
        vertices = self._accessors.floats(attributes["POSITION"]).astype(np.float64)
        if vertices.shape[1] != 3:
            raise self._file.broken(f"its positions have {vertices.shape[1]} numbers each")
        self._file.check_counts(len(vertices), 0)
        faces = self._faces(primitive, mode, len(vertices))
        part = Part(vertices, faces, normals=self._normals(attributes, faces, len(vertices)))
        return self._coloured(part, primitive)

    def _refuse_without_data(self, primitive: dict) -> None:
        """Refuse compressed geometry without an uncompressed copy."""
        if "KHR_draco_mesh_compression" not in primitive.get("extensions", {}):
            return
        position = self._tree.get("accessors", [])[primitive["attributes"]["POSITION"]]
        if "bufferView" not in position:
            raise self._file.error(REMEDIES["KHR_draco_mesh_compression"])

    def _faces(self, primitive: dict, mode: int, vertices: int) -> np.ndarray:
        order = np.arange(vertices)
        if "indices" in primitive:
            order = self._accessors.raw(primitive["indices"]).reshape(-1)
            if order.dtype.kind != "u":
                raise self._file.broken(f"its faces count vertices in numbers of the type {order.dtype}")
            order = order.astype(np.int64)
            if len(order) and order.max() >= vertices:
                raise self._file.broken(f"a face asks for vertex {order.max()} of {vertices}")
        if mode == _STRIP:
            return strips([order])
        if mode == _FAN:
            hub = np.broadcast_to(order[:1], max(len(order) - 2, 0))
            return np.stack([order[1:-1], order[2:], hub], axis=1) if len(hub) else np.zeros((0, 3), np.int64)
        if len(order) % 3:
            raise self._file.broken(f"{len(order)} corners make no triangles")
        return order.reshape(-1, 3)

    def _normals(self, attributes: dict, faces: np.ndarray, vertices: int) -> np.ndarray | None:
        if "NORMAL" not in attributes:
            return None
        normals = self._accessors.floats(attributes["NORMAL"])[:, :3].astype(np.float64)
        return normals[faces] if len(normals) == vertices else None

    def _coloured(self, part: Part, primitive: dict) -> Part:
        attributes = primitive["attributes"]
        material = self._materials.read(primitive.get("material"))
        colors = self._colors(attributes, len(part.vertices))
        if material.texture is not None:
            name = f"TEXCOORD_{material.coordinates}"
            if name in attributes:
                if colors is not None and (colors < 255).any():
                    self._file.note("has vertex colours beside a texture, which are left out")
                return self._textured(part, material, self._accessors.floats(attributes[name]))
            self._file.note(f"has a texture and no texture coordinates ({name}) for it: it is drawn without")
        elif "TEXCOORD_0" in attributes and colors is None and material.factor is None:
            self._file.note("has texture coordinates and no texture: it is drawn in plain grey")
        factor = np.ones(3) if material.factor is None else material.factor
        if colors is not None:
            return replace(part, colors=np.round(colors * factor).astype(np.uint8))
        base = plain_color() if material.factor is None else np.round(255 * factor).astype(np.uint8)
        return replace(part, base_color=base)

    def _colors(self, attributes: dict, vertices: int) -> np.ndarray | None:
        """Return [V, 3] uint8 of COLOR_0, as bytes, 16 bits or floats; None where there is none."""
        if "COLOR_0" not in attributes:
            return None
        raw, colors = (
            self._accessors.raw(attributes["COLOR_0"]),
            self._accessors.floats(attributes["COLOR_0"]),
        )
        if colors.shape[0] != vertices or colors.shape[1] < 3:
            raise self._file.broken("its vertex colours do not belong to its vertices")
        if raw.dtype.kind == "u" and raw.dtype == colors.dtype:
            # Integers here are always normalized, also if the file does not set it.
            colors = raw / np.iinfo(raw.dtype).max
        return np.clip(np.round(np.nan_to_num(colors[:, :3]) * 255.0), 0, 255).astype(np.uint8)

    def _textured(self, part: Part, material: Material, uv: np.ndarray) -> Part:
        if len(uv) != len(part.vertices) or uv.shape[1] != 2:
            raise self._file.broken("its texture coordinates do not belong to its vertices")
        if material.transform is not None:
            uv = uv @ material.transform[:, :2].T + material.transform[:, 2]
        uv = np.stack([uv[:, 0], 1.0 - uv[:, 1]], axis=1)
        uv, texture = wrapped(self._file, uv[part.faces], material.texture, material.wrap)
        return replace(part, uv=uv, texture=texture)
