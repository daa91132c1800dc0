"""Define parts of a mesh, each with one material, and merge them into one part."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from vpog_core.objects.atlas import pack_tiles

PLAIN = 180
"""Grey level of surfaces without a colour."""


def plain_color() -> np.ndarray:
    """Return [3] uint8, the colour of what a file gives no colour."""
    return np.full(3, PLAIN, dtype=np.uint8)


@dataclass(frozen=True)
class Part:
    """Holds triangles of one material, as `vpog_core.objects.mesh.Mesh` but in the file's unit.

    At most one of `texture` (with `uv`) and `colors` is set.

    Attributes:
        vertices: [V, 3] float64; faces: [F, 3] int64.
        uv: [F, 3, 2] float, v up; texture: [h, w, 3] uint8.
        colors: [V, 3] uint8 of the vertices; base_color: [3] uint8.
        normals: [F, 3, 3] float of the faces' corners, of any length, or None.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None = None
    texture: np.ndarray | None = None
    colors: np.ndarray | None = None
    base_color: np.ndarray = field(default_factory=plain_color)
    normals: np.ndarray | None = None


def split_corners(part: Part, colors: np.ndarray) -> Part:
    """Return a part whose corners are vertices of their own, with colours [F, 3, 3]: for colours by face."""
    vertices = part.vertices[part.faces.reshape(-1)]
    faces = np.arange(len(vertices)).reshape(-1, 3)
    return replace(part, vertices=vertices, faces=faces, colors=colors.reshape(-1, 3))


def compact(part: Part) -> Part:
    """Return a part without the vertices no face uses, the others in their order."""
    used = np.zeros(len(part.vertices), dtype=bool)
    used[part.faces] = True
    if used.all():
        return part
    place = np.cumsum(used) - 1
    colors = None if part.colors is None else part.colors[used]
    return replace(part, vertices=part.vertices[used], faces=place[part.faces], colors=colors)


def moved(part: Part, T: np.ndarray) -> Part:
    """Return a part under an affine transform [4, 4]; a mirrored one keeps its outside outside."""
    if np.array_equal(T, np.eye(4)):
        return part
    determinant = np.linalg.det(T[:3, :3])
    normals = None
    if part.normals is not None and determinant != 0:
        normals = part.normals @ np.linalg.inv(T[:3, :3])
    out = replace(part, vertices=part.vertices @ T[:3, :3].T + T[:3, 3], normals=normals)
    return _turned_over(out) if determinant < 0 else out


def _turned_over(part: Part) -> Part:
    turn = [2, 1, 0]
    return replace(
        part,
        faces=part.faces[:, turn],
        uv=None if part.uv is None else part.uv[:, turn],
        normals=None if part.normals is None else part.normals[:, turn],
    )


def merge(parts: list[Part]) -> Part:
    """Merge all parts: textures are packed into an atlas, colours of parts become vertex colours."""
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts])
    vertices = np.concatenate([part.vertices for part in parts])
    faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets[:-1], strict=True)])
    normals = [part.normals for part in parts]
    whole = Part(
        vertices, faces, normals=None if any(n is None for n in normals) else np.concatenate(normals)
    )
    if any(part.texture is not None for part in parts):
        uv, texture = _atlas(parts)
        return replace(whole, uv=uv, texture=texture)
    if all(part.colors is None for part in parts) and len({bytes(p.base_color) for p in parts}) == 1:
        return replace(whole, base_color=parts[0].base_color)
    colors = [
        part.colors if part.colors is not None else np.tile(part.base_color, (len(part.vertices), 1))
        for part in parts
    ]
    return replace(whole, colors=np.concatenate(colors))


def _atlas(parts: list[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Return (uv [F, 3, 2], texture) of all parts; each texture is packed once, however many parts use it."""
    tiles: dict[object, tuple[list[np.ndarray], np.ndarray]] = {}
    places: list[tuple[object, slice]] = []
    for part in parts:
        uv, texture, key = _as_tile(part)
        taken = tiles.setdefault(key, ([], texture))[0]
        start = sum(len(item) for item in taken)
        taken.append(uv)
        places.append((key, slice(start, start + len(uv))))
    if len(tiles) == 1:
        ((uv, texture),) = tiles.values()
        return np.concatenate(uv), texture
    packed, texture = pack_tiles([(np.concatenate(uv), image) for uv, image in tiles.values()])
    by_tile = dict(zip(tiles, packed, strict=True))
    return np.concatenate([by_tile[key][rows] for key, rows in places]), texture


def _as_tile(part: Part) -> tuple[np.ndarray, np.ndarray, object]:
    """Return (uv [F, 3, 2], texture or a small tile of the mean colour, what tells it from others)."""
    if part.texture is not None:
        return part.uv, part.texture, id(part.texture)
    color = np.asarray(part.base_color if part.colors is None else part.colors.mean(axis=0), dtype=np.uint8)
    inner = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75]])
    return np.tile(inner, (len(part.faces), 1, 1)), np.tile(color, (8, 8, 1)), bytes(color)
