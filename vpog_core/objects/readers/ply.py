"""Read PLY: triangles, polygons and strips; colours and texture coordinates under their many names."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from vpog_core.objects.readers.mesh_file import MeshFile
from vpog_core.objects.readers.part import Part, split_corners
from vpog_core.objects.readers.ply_elements import Element, Lists, read_elements
from vpog_core.objects.readers.polygons import strips, triangulate

_INDICES = ("vertex_indices", "vertex_index", "vertex_indexes", "vertexindices")
_COLORS = (
    ("red", "green", "blue"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
    ("r", "g", "b"),
)
_UV = (("texture_u", "texture_v"), ("s", "t"), ("u", "v"), ("texture_s", "texture_t"))
_READ = ("vertex", "face", "tristrips")


def read_ply(file: MeshFile) -> list[Part]:
    """Return the triangles of a PLY file, a part for each texture.

    Raises:
        VPOGError: the file is cut or broken, or a texture is missing.
    """
    elements, comments = read_elements(file)
    left_out = [e.name for e in elements.values() if e.rows and e.name not in (*_READ, "edge", "camera")]
    if left_out:
        file.note(f"has elements that are not read from PLY ({', '.join(left_out)[:80]})")
    vertex = elements.get("vertex", Element("vertex", 0))
    if not {"x", "y", "z"} <= set(vertex.values):
        raise file.broken("its vertices have no x, y and z")
    faces, face_of, uv_places = _faces(file, elements, vertex.rows)
    if not len(faces):
        return []
    part = Part(_columns(vertex, ("x", "y", "z")), faces)
    if {"nx", "ny", "nz"} <= set(vertex.values):
        part = replace(part, normals=_columns(vertex, ("nx", "ny", "nz"))[faces])
    plain = _coloured(part, vertex, elements.get("face"), face_of)
    if plain.colors is None:
        _note_other_colors(file, vertex)
    textures = [c.split(None, 1)[1].strip("\"' ") for c in comments if re.match(r"(?i)texturefile\s+\S", c)]
    uv = _texture_coordinates(file, vertex, elements.get("face"), faces, uv_places)
    if not textures or uv is None:
        if textures:
            file.note(f"names the texture '{textures[0]}' and has no texture coordinates: it is left out")
        if uv is not None:
            file.note(
                "has texture coordinates and no texture (`comment TextureFile NAME`): it is drawn without"
            )
        return [plain]
    return _textured(file, replace(part, uv=uv), plain, textures, elements.get("face"), face_of)


def _columns(element: Element, names: tuple[str, ...]) -> np.ndarray:
    return np.stack([np.asarray(element.values[name], dtype=np.float64) for name in names], axis=1)


def _faces(
    file: MeshFile, elements: dict[str, Element], vertices: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return triangles [T, 3], the face [T] of each, and places [T, 3] of corners in the faces' lists."""
    if "tristrips" in elements and "vertex_indices" in elements["tristrips"].values:
        lists = elements["tristrips"].values["vertex_indices"]
        ends = np.cumsum(lists.counts)[:-1]
        runs = [part for row in np.split(lists.values.astype(np.int64), ends) for part in _runs(row)]
        faces = strips(runs)
        _check_indices(file, faces, vertices)
        return faces, np.zeros(len(faces), np.int64), None
    face = elements.get("face", Element("face", 0))
    lists = next((face.values[name] for name in _INDICES if isinstance(face.values.get(name), Lists)), None)
    if lists is None:
        if face.rows:
            raise file.broken("its faces have no list `vertex_indices`")
        return np.zeros((0, 3), np.int64), np.zeros(0, np.int64), None
    file.check_counts(vertices, int(np.maximum(lists.counts - 2, 0).sum()))
    corners = lists.values.astype(np.int64)
    if (corners != lists.values).any():
        raise file.broken("a face asks for a vertex by a number that is not whole")
    _check_indices(file, corners, vertices)
    if (lists.counts < 3).any():
        file.note(
            f"has {int((lists.counts < 3).sum())} faces of fewer than three corners, which are left out"
        )
    positions = _columns(elements["vertex"], ("x", "y", "z"))
    places, face_of = triangulate(positions, lists.counts, corners)
    return corners[places], face_of, places


def _runs(row: np.ndarray) -> list[np.ndarray]:
    """Return strips of one list; -1 ends a strip."""
    return [run[run >= 0] for run in np.split(row, np.flatnonzero(row < 0))]


def _check_indices(file: MeshFile, indices: np.ndarray, count: int) -> None:
    if len(indices) and (indices.min() < 0 or indices.max() >= count):
        wrong = indices.min() if indices.min() < 0 else indices.max()
        raise file.broken(f"a face asks for vertex {wrong} of {count}")


def _coloured(part: Part, vertex: Element, face: Element | None, face_of: np.ndarray) -> Part:
    """Return a part with the colours of its vertices or, without any, of its faces."""
    of_vertices, of_faces = _colors(vertex), None if face is None else _colors(face)
    uniform = of_vertices is None or (of_vertices == of_vertices[:1]).all()
    if of_faces is not None and uniform:
        return split_corners(part, np.repeat(of_faces[face_of], 3, axis=0))
    return part if of_vertices is None else replace(part, colors=of_vertices)


def _note_other_colors(file: MeshFile, vertex: Element) -> None:
    """Add a note on properties of vertices that look like a colour but are not read as one."""
    others = [name for name in vertex.values if re.search(r"red|green|blue|rgb|colou?r|f_dc_", name)]
    if others:
        file.note(
            f"has vertex colours that are not read ({', '.join(others)[:80]}): call them red, green and blue"
        )


def _colors(element: Element) -> np.ndarray | None:
    """Return [rows, 3] uint8 of an element's colours, of whatever name, type and range; None without any."""
    names = next((n for n in _COLORS if set(n) <= set(element.values)), None)
    if names is None or not element.rows:
        return None
    values = np.nan_to_num(_columns(element, names))
    integer = all(element.kind(name).kind in "iu" for name in names)
    if {element.kind(name).itemsize for name in names} == {1} and integer:
        return values.astype(np.int64).astype(np.uint8)
    largest = values.max()
    if largest > 255:
        values = values / 257
    elif largest <= 1 and not integer:
        values = values * 255
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _texture_coordinates(
    file: MeshFile, vertex: Element, face: Element | None, faces: np.ndarray, places: np.ndarray | None
) -> np.ndarray | None:
    """Return [T, 3, 2] of the triangles' corners, from the faces' lists or from the vertices."""
    lists = None if face is None else face.values.get("texcoord")
    if isinstance(lists, Lists) and places is not None and lists.counts.any():
        sides = next(face.values[name] for name in _INDICES if name in face.values).counts
        if not ((lists.counts == 2 * sides) | (lists.counts == 0)).all():
            raise file.broken("lists `texcoord` do not hold two numbers for each corner of their faces")
        # Faces without coordinates get zeros, so that places in both lists stay in step.
        given = np.repeat(lists.counts > 0, sides)
        uv = np.zeros((len(given), 2))
        uv[given] = lists.values.reshape(-1, 2)
        return uv[places]
    names = next((n for n in _UV if set(n) <= set(vertex.values)), None)
    return None if names is None else _columns(vertex, names)[faces]


def _textured(
    file: MeshFile, part: Part, plain: Part, textures: list[str], face: Element | None, face_of: np.ndarray
) -> list[Part]:
    """Return a part for each `texnumber`; faces that ask for no texture keep their colours."""
    numbers = None if face is None else face.values.get("texnumber")
    if numbers is None or isinstance(numbers, Lists):
        if len(textures) > 1:
            file.note(
                f"names {len(textures)} textures and does not say where each belongs: only the first is read"
            )
        return [replace(part, texture=_texture(file, textures[0]))]
    number = np.asarray(numbers).astype(np.int64)[face_of]
    if number.max() >= len(textures):
        raise file.broken(f"a face asks for texture {number.max()} of {len(textures)}")
    out = []
    for n in np.unique(np.maximum(number, -1)):
        chosen = np.maximum(number, -1) == n
        source = part if n >= 0 else plain
        picked = replace(
            source,
            faces=source.faces[chosen],
            uv=source.uv[chosen] if n >= 0 else None,
            normals=None if source.normals is None else source.normals[chosen],
            texture=_texture(file, textures[n]) if n >= 0 else None,
        )
        out.append(picked)
    return out


def _texture(file: MeshFile, name: str) -> np.ndarray:
    return np.ascontiguousarray(file.image(file.beside(name), name)[..., :3])
