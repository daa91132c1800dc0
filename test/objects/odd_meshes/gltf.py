"""Write odd glTF files, binary and as JSON."""

from __future__ import annotations

import base64
import json

import numpy as np
from PIL import Image

from odd_meshes.base import FACES, PLAIN, SQUARE, UV, VERTEX_COLORS, encoded, odd, quarters, skin
from odd_meshes.gltf_writer import Gltf


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


@odd("GLB, faces that count in signed numbers", refused="in numbers of the type int16")
def _(folder):
    g = Gltf()
    g.primitive["indices"] = g.accessor(np.array([0, 1, -1], "i2"))
    return g.write(folder)


@odd("GLB, positions in a plane", refused="positions have 2 numbers")
def _(folder):
    g = Gltf()
    g.attributes["POSITION"] = g.accessor(SQUARE[:, ::2].astype("f4"))
    return g.write(folder)


@odd("GLB, a node's matrix written row after row", refused="`matrix` does not end with 0 0 0 1")
def _(folder):
    g = Gltf()
    g.tree["nodes"][0]["matrix"] = [1, 0, 0, 0.2, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    return g.write(folder)


@odd("GLB, a texture only by an extension that is not read", refused="textures by MSFT_texture_dds")
def _(folder):
    g = Gltf()
    g.extensions("MSFT_texture_dds", required=False)
    g.tree["textures"] = [{"extensions": {"MSFT_texture_dds": {"source": 0}}}]
    return g.write(folder)
