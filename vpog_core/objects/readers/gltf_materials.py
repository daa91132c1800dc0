"""Read materials of glTF: base colour, its texture and its mapping; the rest is not used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpog_core.objects.readers.gltf_accessors import Accessors
from vpog_core.objects.readers.mesh_file import MeshFile

CLAMP, MIRROR = 33071, 33648
_GLOSSY = "KHR_materials_pbrSpecularGlossiness"
_OPAQUE = 128


@dataclass(frozen=True)
class Material:
    """Holds the base colour of a material.

    Attributes:
        factor: [3] 0..1 or None, multiplies texture and vertex colours.
        texture: [h, w, 3] uint8 or None.
        coordinates: which TEXCOORD belongs to the texture.
        transform: [2, 3] of these coordinates (v down), or None.
        wrap: sampler's way beyond 0..1 for u and v.
    """

    factor: np.ndarray | None = None
    texture: np.ndarray | None = None
    coordinates: int = 0
    transform: np.ndarray | None = None
    wrap: tuple[int, int] = (0, 0)


class Materials:
    """Reads materials of a glTF file, each texture once."""

    def __init__(self, file: MeshFile, tree: dict, accessors: Accessors) -> None:
        self._file, self._tree, self._accessors = file, tree, accessors
        self._images: dict[int, np.ndarray] = {}
        self._tinted: dict[tuple, np.ndarray] = {}

    def read(self, index: int | None) -> Material:
        """Return one material; None is what glTF draws without one.

        Raises:
            VPOGError: it refers to what is not there, or its texture cannot be read.
        """
        if index is None:
            return Material()
        material = self._file.item(self._tree.get("materials", []), index, "material")
        color, texture = self._base_color(material)
        factor = None
        if color is not None:
            factor = np.clip(np.array(color[:3], dtype=np.float64), 0.0, 1.0)
            if factor.shape != (3,) or not np.isfinite(factor).all():
                raise self._file.broken(f"the colour {color!r:.60} of a material is not four numbers")
        if texture is None:
            self._note_emission(material, factor)
            return Material(factor)
        transform = texture.get("extensions", {}).get("KHR_texture_transform", {})
        sampler = self._sampler(texture["index"])
        return Material(
            factor,
            self._texture(texture["index"], factor, material.get("alphaMode", "OPAQUE")),
            int(transform.get("texCoord", texture.get("texCoord", 0))),
            _transform(transform) if transform else None,
            (sampler.get("wrapS", 0), sampler.get("wrapT", 0)),
        )

    def _base_color(self, material: dict) -> tuple[list | None, dict | None]:
        """Return (factor, texture) of the base colour; the older form of a material goes first."""
        glossy = material.get("extensions", {}).get(_GLOSSY)
        if glossy is not None:
            return glossy.get("diffuseFactor"), glossy.get("diffuseTexture")
        rough = material.get("pbrMetallicRoughness", {})
        return rough.get("baseColorFactor"), rough.get("baseColorTexture")

    def _note_emission(self, material: dict, factor: np.ndarray | None) -> None:
        if "emissiveTexture" in material:
            self._file.note("has a texture of emitted light and none of its colour: it is left out")
        elif factor is not None and factor.max() == 0 and any(material.get("emissiveFactor", [])):
            self._file.note("has a black material that emits light: the light is left out")

    def _sampler(self, texture: int) -> dict:
        index = self._file.item(self._tree.get("textures", []), texture, "texture").get("sampler")
        return {} if index is None else self._file.item(self._tree.get("samplers", []), index, "sampler")

    def _texture(self, index: int, factor: np.ndarray | None, alpha_mode: str) -> np.ndarray:
        source = self._source(index)
        if source not in self._images:
            self._images[source] = self._image(source)
        image = self._images[source]
        if image.shape[2] == 4 and alpha_mode != "OPAQUE" and (image[..., 3] < _OPAQUE).any():
            self._file.note("has transparent parts, which are drawn solid")
        key = (source, None if factor is None else factor.tobytes())
        if key not in self._tinted:
            rgb = image[..., :3]
            if factor is not None and not np.allclose(factor, 1.0):
                rgb = np.round(rgb * factor).astype(np.uint8)
            self._tinted[key] = np.ascontiguousarray(rgb)
        return self._tinted[key]

    def _source(self, index: int) -> int:
        """Return the image of a texture: of an extension whose format is read, else its plain one."""
        texture = self._file.item(self._tree.get("textures", []), index, "texture")
        extensions = texture.get("extensions", {})
        for name in ("EXT_texture_webp", "EXT_texture_avif"):
            if "source" in extensions.get(name, {}) and "source" not in texture:
                return extensions[name]["source"]
        if "source" in texture:
            return texture["source"]
        if "KHR_texture_basisu" in extensions:
            raise self._file.error(
                "has textures in KTX2 (KHR_texture_basisu), which are not read: export them as PNG or JPEG"
            )
        if extensions:
            raise self._file.error(
                f"has textures by {next(iter(extensions)):.60}, which are not read: "
                "export them as PNG or JPEG"
            )
        raise self._file.broken(f"its texture {index} has no image")

    def _image(self, index: int) -> np.ndarray:
        image = self._file.item(self._tree.get("images", []), index, "image")
        name = str(image.get("name") or image.get("uri", "")[:60] or f"image {index}")
        data = (
            self._accessors.uri(image["uri"]) if "uri" in image else self._accessors.view(image["bufferView"])
        )
        return self._file.image(bytes(data), name)


def _transform(values: dict) -> np.ndarray:
    """Return [2, 3] of KHR_texture_transform: scaled, turned, then moved."""
    angle = float(values.get("rotation", 0.0))
    scale, offset = values.get("scale", [1.0, 1.0]), values.get("offset", [0.0, 0.0])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn * np.array(scale, dtype=np.float64), np.array(offset, dtype=np.float64)])


def wrapped(
    file: MeshFile, uv: np.ndarray, texture: np.ndarray, wrap: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return (uv, texture) that look alike where a texture only ever repeats; uv [F, 3, 2], v up."""
    for axis in (0, 1):
        along = uv[..., axis]
        if along.min(initial=0.0) >= -1e-3 and along.max(initial=1.0) <= 1.001:
            continue
        if wrap[axis] == CLAMP:
            file.note("has texture coordinates beyond its texture, clamped to its rim")
            uv = uv.copy()
            uv[..., axis] = np.clip(along, 0.0, 1.0)
        elif wrap[axis] == MIRROR:
            uv = uv.copy()
            uv[..., axis] = along / 2
            pair = [texture, np.flip(texture, 1 - axis)]
            texture = np.concatenate(pair if axis == 0 else pair[::-1], axis=1 - axis)
    return uv, texture
