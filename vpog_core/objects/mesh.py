"""Triangle meshes in metres, read from the formats CAD and scanning tools write."""

from __future__ import annotations

import io
import logging
import posixpath
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from vpog_core.objects.atlas import pack_tiles
from vpog_core.types import VPOGError

MESH_SUFFIXES = (".ply", ".obj", ".glb", ".stl")
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001}
SMALLEST, LARGEST = 0.005, 5.0
"""Sizes (m) outside of which a mesh is taken to be in another unit than the one it was read in."""


@dataclass
class Mesh:
    """A triangle mesh with its colours.

    Attributes:
        vertices: [V, 3] float64, metres, object frame.
        faces: [F, 3] int32.
        vertex_colors: [V, 3] uint8 RGB, or None.
        uv: [F, 3, 2] float32 texture coordinates of the faces' corners, v up (row = (1 - v) height), or None.
        texture: [h, w, 3] uint8 RGB, or None.
        base_color: [3] uint8 RGB, used where there is neither texture nor vertex colour.
        corner_normals: [F, 3, 3] float32 unit normals of the faces' corners as the file gives them, or None.
        notes: sentences on what the file holds and was left out, or what is doubtful about it.
    """

    vertices: np.ndarray
    faces: np.ndarray
    vertex_colors: np.ndarray | None = None
    uv: np.ndarray | None = None
    texture: np.ndarray | None = None
    base_color: np.ndarray | None = None
    corner_normals: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.vertices = np.ascontiguousarray(self.vertices, dtype=np.float64)
        self.faces = np.ascontiguousarray(self.faces, dtype=np.int32)
        if self.base_color is None:
            self.base_color = np.full(3, 180, dtype=np.uint8)

    @cached_property
    def hull_points(self) -> np.ndarray:
        """[N, 3] vertices of the convex hull: enough for extents, projected boxes and the diameter."""
        used = self.vertices[np.unique(self.faces)]
        try:
            return used[ConvexHull(used).vertices]
        except (QhullError, ValueError):
            # Flat or thin as a line: joggle the input.
            try:
                return used[ConvexHull(used, qhull_options="QJ").vertices]
            except (QhullError, ValueError):
                return used

    @cached_property
    def diameter(self) -> float:
        """Largest distance between two points of the mesh, metres (BOP's diameter)."""
        points = self.hull_points
        if len(points) > 2000:
            far = np.argsort(np.linalg.norm(points - self.center, axis=1))[-2000:]
            points = points[far]
        return float(pdist(points).max())

    @cached_property
    def bounds(self) -> np.ndarray:
        """[2, 3] lowest and highest corner of the axis-aligned box, metres."""
        points = self.hull_points
        return np.stack([points.min(axis=0), points.max(axis=0)])

    @property
    def center(self) -> np.ndarray:
        """[3] middle of the axis-aligned box, metres."""
        return self.bounds.mean(axis=0)


def load_mesh(path: str | Path, unit: str = "auto", assets: str | Path | None = None) -> Mesh:
    """Read a mesh and bring it to metres.

    Scenes are merged into one mesh; several textures are packed into one atlas.

    Args:
        path: a .ply (BOP's with `comment TextureFile`, too), .obj (+ .mtl), .glb or .stl file.
        unit: "m", "cm" or "mm"; "auto" reads the numbers as metres and refuses what cannot be.
        assets: a second folder whose files materials and textures are looked up in, by their bare name.

    Raises:
        VPOGError: no such file, unknown format or unit, nothing in it, a size that shows a wrong
            unit, a texture that is missing or lies outside the mesh's folder.
    """
    path = Path(path)
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise VPOGError(
            f"The mesh '{path}' is not one of {', '.join(MESH_SUFFIXES)}: convert it to one of these."
        )
    if not path.is_file():
        raise VPOGError(f"There is no mesh file '{path}': check the path.")
    if unit not in ("auto", *UNITS):
        raise VPOGError(f"The unit '{unit}' of '{path.name}' is not known: use auto, {', '.join(UNITS)}.")
    mesh = _merge([_Part.of(geometry) for geometry in _parse(path, assets)])
    mesh.vertices = mesh.vertices * UNITS.get(unit, 1.0)
    _check(mesh, path, unit)
    return mesh


def save_mesh(mesh: Mesh, path: str | Path) -> None:
    """Write a mesh, in metres: .glb keeps the texture, .ply and .glb keep vertex colours.

    Raises:
        VPOGError: another suffix, or a texture that .ply would lose.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".ply", ".glb"):
        raise VPOGError(f"Meshes are written as .ply or .glb, not as '{path.name}': choose one of these.")
    if mesh.uv is not None and mesh.texture is not None:
        if suffix == ".ply":
            raise VPOGError(f"A textured mesh does not fit into '{path.name}': write it as .glb.")
        out = _textured_trimesh(mesh)
    else:
        colors = mesh.vertex_colors
        if colors is None:
            colors = np.broadcast_to(mesh.base_color, mesh.vertices.shape)
        out = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colors, process=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.export(file_type=suffix[1:]))


def _textured_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    """One vertex for each different (position, uv) pair."""
    from PIL import Image

    corner_uv = mesh.uv.reshape(-1, 2)
    key = np.column_stack([mesh.faces.reshape(-1), np.round(corner_uv * 2**20).astype(np.int64)])
    _, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(mesh.texture), metallicFactor=0.0, roughnessFactor=0.8
    )
    visual = trimesh.visual.TextureVisuals(uv=corner_uv[first], material=material)
    vertices = mesh.vertices[mesh.faces.reshape(-1)[first]]
    return trimesh.Trimesh(vertices, inverse.reshape(-1, 3), visual=visual, process=False)


class _FolderResolver(trimesh.resolvers.Resolver):
    """Gives a mesh file what lies in its own folder or below, and remembers what it did not give.

    What lies in `assets`, a second folder, it gives by bare name, whatever folder the mesh names.
    """

    def __init__(self, folder: Path, assets: Path | None = None):
        self.folder, self.assets = folder, assets
        self.outside: list[str] = []
        self.missing: list[str] = []

    def get(self, key: str) -> bytes:
        name = posixpath.normpath(str(key).strip().replace("\\", "/"))
        if self.assets is not None and (self.assets / posixpath.basename(name)).is_file():
            return (self.assets / posixpath.basename(name)).read_bytes()
        if name.startswith(("/", "..")) or ":" in name:
            self.outside.append(str(key).strip())
            raise ValueError(f"{key} lies outside the mesh's folder")
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            self.missing.append(str(key).strip())
            raise

    def keys(self):
        return [item.name for item in self.folder.iterdir()]

    def namespaced(self, namespace: str) -> _FolderResolver:
        raise ValueError("nested assets are not supported")

    def write(self, name: str, data) -> None:
        raise ValueError("reading a mesh writes nothing")


def _parse(path: Path, assets: str | Path | None = None) -> list[trimesh.Trimesh]:
    """The triangle meshes of a file, in the file's unit and in the scene's frame."""
    resolver = _FolderResolver(path.parent, None if assets is None else Path(assets))
    # trimesh warns of assets it does not get, with a traceback; the resolver knows of them.
    logger = logging.getLogger("trimesh")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        scene = trimesh.load(
            io.BytesIO(path.read_bytes()),
            file_type=path.suffix[1:].lower(),
            resolver=resolver,
            process=False,
            force="scene",
        )
        geometries = [g for g in scene.dump() if isinstance(g, trimesh.Trimesh) and len(g.faces)]
    except Exception as error:  # The readers raise whatever the broken bytes lead them to.
        _check_assets(resolver, path)
        reason = str(error) or type(error).__name__
        raise VPOGError(f"The mesh '{path}' cannot be read ({reason}): export it again.") from error
    finally:
        logger.setLevel(level)
    _check_assets(resolver, path)
    if not geometries:
        raise VPOGError(f"The mesh '{path}' holds no triangles: export a surface, not points or curves.")
    return geometries


def _check_assets(resolver: _FolderResolver, path: Path) -> None:
    if resolver.outside:
        raise VPOGError(
            f"The mesh '{path}' asks for '{resolver.outside[0]}' outside its folder: "
            "put that file beside the mesh."
        )
    if resolver.missing:
        raise VPOGError(
            f"The mesh '{path}' asks for '{resolver.missing[0]}', which is not there: put it beside the mesh."
        )


def _check(mesh: Mesh, path: Path, unit: str) -> None:
    if not np.isfinite(mesh.vertices).all():
        raise VPOGError(f"The mesh '{path}' has vertices that are not finite: export it again.")
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        raise VPOGError(f"The mesh '{path}' has faces without vertices: export it again.")
    size = mesh.diameter
    if SMALLEST <= size <= LARGEST:
        return
    read = "m" if unit == "auto" else unit
    raw = size / UNITS[read]
    fits = [u for u in ("mm", "cm", "m") if SMALLEST <= raw * UNITS[u] <= LARGEST and u != read]
    if raw == 0 or not fits:
        raise VPOGError(f"The mesh '{path}' is {size:.3g} m across, read in {read}: scale it to 5 mm to 5 m.")
    raise VPOGError(
        f"The mesh '{path}' is {size:.3g} m across, read in {read}: set `unit: {fits[0]}` for it."
    )


@dataclass
class _Part:
    """One geometry of a scene. At most one of `texture` and `colors` is set."""

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None
    texture: np.ndarray | None
    colors: np.ndarray | None
    base_color: np.ndarray

    @classmethod
    def of(cls, geometry: trimesh.Trimesh) -> _Part:
        vertices = np.asarray(geometry.vertices, dtype=np.float64)
        faces = np.asarray(geometry.faces, dtype=np.int64)
        base = np.full(3, 180, dtype=np.uint8)
        visual = geometry.visual
        if visual.kind == "texture":
            image, factor = _material(visual.material)
            uv = visual.uv
            if image is not None and uv is not None and len(uv) == len(vertices):
                return cls(vertices, faces, np.asarray(uv)[faces][..., :2], _tint(image, factor), None, base)
            base = np.round(255 * factor).astype(np.uint8) if factor is not None else base
        elif visual.kind in ("vertex", "face"):
            colors = np.asarray(visual.vertex_colors)
            if visual.kind == "face":  # each face with corners of its own, else trimesh would average
                colors = np.repeat(np.asarray(visual.face_colors), 3, axis=0)
                vertices = vertices[faces.reshape(-1)]
                faces = np.arange(len(vertices)).reshape(-1, 3)
            return cls(vertices, faces, None, None, colors[:, :3].astype(np.uint8), base)
        return cls(vertices, faces, None, None, None, base)


def _material(material) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(texture [h, w, 3] uint8 or None, colour factor [3] 0..1 or None) of a trimesh material."""
    image = getattr(material, "baseColorTexture", None)
    factor = getattr(material, "baseColorFactor", None)
    if image is None:
        image = getattr(material, "image", None)
    if factor is None and not hasattr(material, "baseColorFactor"):
        factor = getattr(material, "diffuse", None)
    if image is not None:
        image = np.asarray(image.convert("RGB"), dtype=np.uint8)
    if factor is not None:
        factor = np.asarray(factor, dtype=np.float64).ravel()[:3]
        factor = factor / 255.0 if factor.max() > 1.0 else factor
    return image, factor


def _tint(image: np.ndarray, factor: np.ndarray | None) -> np.ndarray:
    """An image times its material's colour; a black or missing factor means 'as it is'."""
    if factor is None or factor.max() < 0.05 or np.allclose(factor, 1.0) or factor.size < 3:
        return image
    # Exporters write a mid grey `Kd` beside `map_Kd` out of habit; only a real hue is a tint.
    if np.ptp(factor) < 0.02:
        return image
    return np.round(image * factor).astype(np.uint8)


def _merge(parts: list[_Part]) -> Mesh:
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts])
    vertices = np.concatenate([part.vertices for part in parts])
    faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets[:-1], strict=True)])
    textured = [part.texture is not None for part in parts]
    if not any(textured):
        if (
            all(part.colors is None for part in parts)
            and len({bytes(part.base_color) for part in parts}) == 1
        ):
            return Mesh(vertices, faces, base_color=parts[0].base_color)
        colors = [
            part.colors if part.colors is not None else np.tile(part.base_color, (len(part.vertices), 1))
            for part in parts
        ]
        return Mesh(vertices, faces, vertex_colors=np.concatenate(colors))
    first = parts[0].texture
    if all(textured) and all(np.array_equal(part.texture, first) for part in parts[1:]):
        uv, texture = np.concatenate([part.uv for part in parts]), first
    else:
        uv, texture = pack_tiles([_as_tile(part) for part in parts])
    return Mesh(vertices, faces, uv=uv.astype(np.float32), texture=np.ascontiguousarray(texture))


def _as_tile(part: _Part) -> tuple[np.ndarray, np.ndarray]:
    """(uv [F, 3, 2], texture) of a part; one without a texture becomes a small tile of its mean colour."""
    if part.texture is not None:
        return part.uv, part.texture
    color = part.base_color if part.colors is None else part.colors.mean(axis=0)
    tile = np.tile(np.asarray(color, dtype=np.uint8), (8, 8, 1))
    inner = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75]])
    return np.tile(inner, (len(part.faces), 1, 1)), tile
