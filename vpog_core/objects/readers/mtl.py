"""Read MTL, the materials of OBJ: colours, and textures with their options."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

import numpy as np

from vpog_core.objects.readers.mesh_file import MeshFile
from vpog_core.objects.readers.text import decode_text, joined_lines, unquoted

_VALUES = {
    "-s": (1, 3), "-o": (1, 3), "-t": (1, 3), "-mm": (2, 2), "-clamp": (1, 1), "-blendu": (1, 1),
    "-blendv": (1, 1), "-boost": (1, 1), "-bm": (1, 1), "-texres": (1, 1), "-imfchan": (1, 1),
    "-type": (1, 1), "-cc": (1, 1), "-colorspace": (1, 1),
}  # fmt: skip
"""Options of a texture map: the fewest and most values that follow each."""


@dataclass
class Material:
    """Holds one material.

    Attributes:
        name: as usemtl calls it.
        diffuse: [3] 0..1, or None.
        texture: the file of its colours, or None.
        scale, offset: [2] of the texture coordinates: uv * scale + offset.
        clamp: coordinates outside 0..1 stay at the texture's rim.
    """

    name: str
    diffuse: np.ndarray | None = None
    texture: str | None = None
    scale: np.ndarray = field(default_factory=lambda: np.ones(2))
    offset: np.ndarray = field(default_factory=lambda: np.zeros(2))
    clamp: bool = False


def read_materials(file: MeshFile, name: str) -> dict[str, Material]:
    """Return the materials of an MTL file beside a mesh, by name.

    Raises:
        VPOGError: the file is missing, or a line in it that matters cannot be followed.
    """
    materials: dict[str, Material] = {}
    current = Material("")
    ambient: dict[str, str] = {}
    for line in joined_lines(decode_text(file.beside(name))):
        keyword, rest = (*line.split(None, 1), "", "")[:2]
        keyword, rest = keyword.lower(), rest.strip()
        if keyword == "newmtl":
            current = materials.setdefault(unquoted(rest), Material(unquoted(rest)))
        elif keyword == "kd":
            current.diffuse = _color(file, current, rest)
        elif keyword == "map_kd" and rest:
            _set_texture(file, current, rest)
        elif keyword == "map_ka" and rest:
            ambient[current.name] = rest
        elif keyword in ("map_d", "map_opacity"):
            file.note(f"has a map of opacity in its material '{current.name}': it is drawn solid")
    for material in materials.values():
        if material.texture is None and material.name in ambient:
            _set_texture(file, material, ambient[material.name])
    return materials


def _color(file: MeshFile, material: Material, rest: str) -> np.ndarray | None:
    words = rest.split()
    if words and words[0].lower() in ("spectral", "xyz"):
        file.note(f"gives the colour of its material '{material.name}' as {words[0]}, which is not read")
        return None
    try:
        values = [float(word) for word in words[:3]]
    except ValueError:
        values = []
    if len(values) not in (1, 3) or not np.isfinite(values).all():
        raise file.broken(
            f"the colour `Kd {rest[:40]}` of its material '{material.name}' is not three numbers"
        )
    color = np.array(values if len(values) == 3 else values * 3)
    return np.clip(color / 255 if color.max() > 1 else color, 0, 1)


def _set_texture(file: MeshFile, material: Material, rest: str) -> None:
    """Set a material's texture and its options from what follows `map_Kd`."""
    while rest.startswith("-"):
        option, rest = (*rest.split(None, 1), "")[:2]
        if option.lower() not in _VALUES:
            rest = f"{option} {rest}"
            break
        fewest, most = _VALUES[option.lower()]
        values: list[str] = []
        while len(values) < most and rest:
            word, after = (*rest.split(None, 1), "")[:2]
            if len(values) >= fewest and not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", word):
                break
            values.append(word)
            rest = after
        _apply(file, material, option.lower(), values)
    material.texture = unquoted(rest.strip())
    if not material.texture:
        raise file.broken(f"`map_Kd` of its material '{material.name}' names no file")


def _apply(file: MeshFile, material: Material, option: str, values: list[str]) -> None:
    if option in ("-s", "-o"):
        try:
            numbers = [float(value) for value in values]
        except ValueError:
            raise file.broken(f"`{option} {' '.join(values)[:40]}` of a map_Kd holds no numbers") from None
        default = 1.0 if option == "-s" else 0.0
        pair = np.array((numbers + [default] * 2)[:2])
        if option == "-s":
            material.scale = pair
        else:
            material.offset = pair
    elif option == "-clamp":
        material.clamp = values[0].lower() == "on" if values else False
    elif option in ("-mm", "-t", "-imfchan"):
        file.note(f"asks for `{option} {' '.join(values)}` in a map_Kd, which is left out")


def library_names(file: MeshFile, rest: str) -> list[str]:
    """Return file names of a line `mtllib`: one name, perhaps with spaces in it, or several."""
    rest = rest.strip()
    if file.has(unquoted(rest)):
        return [unquoted(rest)]
    try:
        names = shlex.split(rest.replace("\\", "/"))
    except ValueError:
        names = rest.split()
    several = len(names) > 1 and any(file.has(name) for name in names)
    return names if several else [unquoted(rest)]
