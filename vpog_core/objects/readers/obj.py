"""Read Wavefront OBJ with its materials: a part for each material."""

from __future__ import annotations

import numpy as np

from vpog_core.objects.readers.mesh_file import MeshFile
from vpog_core.objects.readers.mtl import Material, library_names, read_materials
from vpog_core.objects.readers.obj_lines import ObjLines, read_lines
from vpog_core.objects.readers.part import Part, compact, plain_color
from vpog_core.objects.readers.polygons import triangulate


def read_obj(file: MeshFile) -> list[Part]:
    """Return the triangles of an OBJ file, a part for each material.

    Raises:
        VPOGError: the file is broken, or a material file or texture is missing.
    """
    lines = read_lines(file)
    materials: dict[str, Material] = {}
    for rest in lines.libraries:
        for name in library_names(file, rest):
            materials.update(read_materials(file, name))
    file.check_counts(len(lines.positions), int(np.maximum(lines.counts - 2, 0).sum()))
    if (lines.counts < 3).any():
        file.note(
            f"has {int((lines.counts < 3).sum())} faces of fewer than three corners, which are left out"
        )
    places, polygon = triangulate(lines.positions, lines.counts, lines.corners[:, 0])
    indices = lines.materials[polygon]
    textured = (lines.corners[places, 1] >= 0).all(axis=1)
    parts, textures = [], {}
    for index in np.unique(indices):
        material = _material(file, lines, materials, int(index))
        parts += _parts(file, lines, places[indices == index], textured[indices == index], material, textures)
    if textured.any() and all(part.texture is None for part in parts):
        file.note("has texture coordinates and no texture: it is drawn in plain colours")
    return parts


def _material(file: MeshFile, lines: ObjLines, materials: dict[str, Material], index: int) -> Material:
    """Return the material of faces; without usemtl, the only material there is."""
    plain = Material("")
    if index < 0:
        if len(materials) == 1 and not lines.names:
            return next(iter(materials.values()))
        if materials:
            file.note("has faces before its first `usemtl`: they are drawn in plain grey")
        return plain
    name = lines.names[index]
    if name in materials:
        return materials[name]
    where = "which its MTL file does not hold" if lines.libraries else "and no `mtllib` says what that is"
    file.note(f"uses the material '{name}', {where}: it is drawn in plain grey")
    return plain


def _parts(
    file: MeshFile,
    lines: ObjLines,
    places: np.ndarray,
    has_uv: np.ndarray,
    material: Material,
    textures: dict[str, np.ndarray],
) -> list[Part]:
    """Return the triangles [T, 3] (places of corners) of one material; those without uv are plain."""
    if material.texture is None:
        return [_plain(lines, places, material)]
    if material.texture not in textures:
        image = file.image(file.beside(material.texture), material.texture)
        textures[material.texture] = np.ascontiguousarray(image[..., :3])
    parts = []
    if has_uv.any():
        parts.append(_textured(file, lines, places[has_uv], material, textures))
    if not has_uv.all():
        file.note(
            f"has {int((~has_uv).sum())} faces without texture coordinates for the texture "
            f"'{material.texture}': they are drawn in plain colours"
        )
        parts.append(_plain(lines, places[~has_uv], material))
    return parts


def _textured(
    file: MeshFile, lines: ObjLines, places: np.ndarray, material: Material, textures: dict[str, np.ndarray]
) -> Part:
    uv = lines.uv[lines.corners[places, 1]] * material.scale + material.offset
    if material.clamp:
        if uv.min() < -1e-3 or uv.max() > 1.001:
            file.note(f"has texture coordinates beyond its texture '{material.texture}', clamped to its rim")
        uv = np.clip(uv, 0.0, 1.0)
    key = f"{material.texture}\0{None if material.diffuse is None else material.diffuse.tobytes()}"
    if key not in textures:
        textures[key] = tinted(textures[material.texture], material.diffuse)
    part = Part(lines.positions, lines.corners[places, 0], uv, textures[key], normals=_normals(lines, places))
    return compact(part)


def _plain(lines: ObjLines, places: np.ndarray, material: Material) -> Part:
    color = plain_color()
    if material.diffuse is not None:
        color = np.round(255 * material.diffuse).astype(np.uint8)
    colors = None
    if lines.colors is not None and np.isfinite(lines.colors).any():
        scale = 255 if np.nanmax(lines.colors) <= 1 else 1
        colors = np.where(np.isfinite(lines.colors), np.round(lines.colors * scale), color)
        colors = np.clip(colors, 0, 255).astype(np.uint8)
    faces = lines.corners[places, 0]
    return compact(Part(lines.positions, faces, None, None, colors, color, _normals(lines, places)))


def _normals(lines: ObjLines, places: np.ndarray) -> np.ndarray | None:
    """Return [T, 3, 3] normals of the corners; None where one of them has none."""
    normal = lines.corners[places, 2]
    return lines.normals[normal] if len(normal) and normal.min() >= 0 else None


def tinted(image: np.ndarray, factor: np.ndarray | None) -> np.ndarray:
    """Return an image times its material's colour; a black, grey or missing one means 'as it is'.

    Exporters write a black or mid grey `Kd` beside `map_Kd` out of habit; only a real hue is a tint.
    """
    if factor is None or factor.max() < 0.05 or np.ptp(factor) < 0.02:
        return image
    return np.round(image * factor).astype(np.uint8)
