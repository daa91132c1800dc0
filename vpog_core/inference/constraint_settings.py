"""Declare settings for objects' poses with respect to a plane, and convert them to constraints.

Free of scipy and torch at import, as launch files read the settings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vpog_core.setting import check, setting
from vpog_core.types import VPOGError

if TYPE_CHECKING:
    from vpog_core.inference.constraints import PoseConstraint
    from vpog_core.objects.library import ObjectLibrary

ALL = "*"
AXES = {
    f"{sign}{name}": tuple((-1.0 if sign == "-" else 1.0) * float(n == name) for n in "xyz")
    for sign in ("", "+", "-")
    for name in "xyz"
}


@dataclass(frozen=True)
class ConstraintSettings:
    """Holds what is known of the objects' poses with respect to a plane, such as a table.

    Raises:
        VPOGError: a value that cannot be used.
    """

    upright_objects: str = setting(
        "",
        "Objects that stand upright on the plane, such as 'mug, bottle: y, box: -z'; the axis of the mesh "
        "that points up is z where none is given, and * stands for all objects. Tilted poses are not given.",
    )
    upright_tolerance: float = setting(
        5.0,
        "Largest tilt of an upright object; a pose found may be off by 15 degrees more, and is corrected.",
        unit="degrees",
        minimum=0.1,
        maximum=90.0,
    )
    objects_on_plane: str = setting(
        "",
        "Objects whose lowest point lies on the plane, in any orientation, such as 'mug, box'; * stands for "
        "all objects.",
    )
    plane_normal: str = setting(
        "",
        "Normal of the plane, towards the objects, in plane_frame, or in the camera's frame, whose y points "
        "down, such as '0, -1, 0'; empty: z of plane_frame.",
    )
    plane_height: float = setting(
        0.0,
        "Height of the plane, along its normal, over the origin of plane_frame, or over the camera; matters "
        "to objects_on_plane.",
        unit="m",
        minimum=-100.0,
        maximum=100.0,
    )
    plane_tolerance: float = setting(
        0.01,
        "Largest distance of an object's lowest point from the plane; a pose found may be off by a quarter "
        "of the diameter more, and is corrected.",
        unit="m",
        minimum=0.0001,
        maximum=1.0,
    )
    plane_frame: str = setting(
        "",
        "Frame of plane_normal and plane_height, such as base_link, found by tf2, or in a bag's transforms, "
        "at the image's time; empty: the camera's.",
    )

    def __post_init__(self) -> None:
        check(self)
        upright_axes(self.upright_objects)
        object_names(self.objects_on_plane)
        if self.plane_normal:
            normal_of(self.plane_normal)
        if self.is_used and not (self.plane_normal or self.plane_frame):
            name = "upright_objects" if self.upright_objects else "objects_on_plane"
            raise VPOGError(
                f"{name} is set and the plane is not known: set plane_frame to a frame whose z points up, "
                "such as base_link, or plane_normal in the camera's frame."
            )

    @property
    def is_used(self) -> bool:
        """Tell whether something is known of any object."""
        return bool(self.upright_objects.strip() or self.objects_on_plane.strip())

    def check_objects(self, library: ObjectLibrary) -> None:
        """Check that a library has the objects that are named.

        Raises:
            VPOGError: it has not; the sentence lists those that it has.
        """
        if unknown := self.unknown_objects(library):
            library.resolve(unknown[0])

    def unknown_objects(self, library: ObjectLibrary) -> list[str]:
        """Return the names that no object of a library has."""
        names = [*upright_axes(self.upright_objects), *object_names(self.objects_on_plane)]
        return [name for name in dict.fromkeys(names) if name != ALL and _resolve(name, library) is None]

    def constraints(self, library: ObjectLibrary, T_plane_cam: np.ndarray) -> dict[str, PoseConstraint]:
        """Make the constraints of a library's objects.

        Args:
            T_plane_cam: [4, 4] from the camera's frame to `plane_frame`; the identity where that is empty.

        Returns:
            the constraints, in the camera's frame, by the objects' names; without `unknown_objects`.
        """
        from vpog_core.inference.constraints import PoseConstraint

        ups = _resolved(upright_axes(self.upright_objects), library)
        on_plane = _resolved(dict.fromkeys(object_names(self.objects_on_plane), 0.0), library)
        normal = normal_of(self.plane_normal) if self.plane_normal else np.array([0.0, 0.0, 1.0])
        return {
            name: PoseConstraint(
                T_plane_cam[:3, :3].T @ normal,
                self.plane_height - float(normal @ T_plane_cam[:3, 3]),
                ups.get(name),
                on_plane.get(name),
                np.radians(self.upright_tolerance),
                self.plane_tolerance,
            )
            for name in {**ups, **on_plane}
        }


def normal_of(text: str) -> np.ndarray:
    """Read a direction such as "0, 0, 1" as a unit vector [3].

    Raises:
        VPOGError: it is none.
    """
    try:
        vector = np.array([float(word) for word in re.split(r"[,\s]+", text.strip(" []()"))])
    except ValueError:
        vector = np.zeros(0)
    length = float(np.linalg.norm(vector)) if len(vector) == 3 else 0.0
    if not 1e-6 < length < 1e6:
        raise VPOGError(f"plane_normal is '{text}': give three numbers, not all 0, such as '0, 0, 1'.")
    return vector / length


def object_names(text: str) -> list[str]:
    """Read names with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def upright_axes(text: str) -> dict[str, tuple[float, float, float]]:
    """Read objects with their up axes, such as "mug, bottle: y"; z where none is given.

    Raises:
        VPOGError: an axis that is none.
    """
    found = {}
    for entry in object_names(text):
        name, colon, axis = entry.rpartition(":")
        name, axis = (name.strip(), axis.strip().lower()) if colon else (entry, "z")
        if axis not in AXES or not name:
            raise VPOGError(
                f"upright_objects has '{entry}': give a name, or a name and its up axis, x, y, z, -x, -y or "
                "-z, such as 'bottle: y'."
            )
        found[name] = AXES[axis]
    return found


def _resolved(given: dict, library: ObjectLibrary) -> dict:
    """Return values by the objects' names in the library; those named by themselves go before `*`."""
    found = dict.fromkeys(library.ids, given[ALL]) if ALL in given else {}
    named = {_resolve(name, library): value for name, value in given.items() if name != ALL}
    return found | {name: value for name, value in named.items() if name is not None}


def _resolve(name: str, library: ObjectLibrary) -> str | None:
    try:
        return library.resolve(name)
    except VPOGError:
        return None
