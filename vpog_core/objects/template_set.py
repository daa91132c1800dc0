"""Define templates: the rendered views of one object that a query is compared with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vpog_core import cancellation
from vpog_core.geometry.camera import BOX_PADDING, fit_square, rotation_towards
from vpog_core.geometry.se3 import rotation_z, transform
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.viewpoints import upright_rotation, viewpoint_directions
from vpog_core.types import VPOGError
from vpog_core.utils.atomic_file import atomic_write

TEMPLATE_DISTANCE = 5.0
"""Distance of the camera from the object's centre, in diameters."""

FORMAT = "vpog-templates-3"
"""Version of the file and of the rule its views are rendered by; raise it when either changes."""


def template_camera(
    mesh: Mesh,
    direction: np.ndarray,
    size: int,
    roll: float = 0.0,
    distance: float = TEMPLATE_DISTANCE,
    pad: float = BOX_PADDING,
) -> tuple[np.ndarray, np.ndarray]:
    """Make the virtual camera of a template: a look-at crop of an upright camera 5 diameters away.

    The same rule as `geometry.camera.look_at_crop`: turned towards the middle of the projected box,
    the box's diagonal times 1.05 fills the image; so crop and template agree in scale and place.

    Args:
        direction: [3] object frame, from the object towards the camera.
        size: side of the image, pixels.
        roll: radians the image is turned by, from x towards y.
        distance: of the camera from the object's centre, in diameters.
        pad: side of the image over the diagonal of the projected box.

    Returns:
        K [3, 3] float64, its principal point at ((size - 1) / 2, (size - 1) / 2); T_virt_obj [4, 4] float64.
    """
    direction = np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
    R_upright = upright_rotation(direction)
    camera_obj = mesh.center + distance * mesh.diameter * direction
    points = (mesh.hull_points - camera_obj) @ R_upright.T
    plane = points[:, :2] / points[:, 2:]
    (x0, y0), (x1, y1) = plane.min(axis=0), plane.max(axis=0)
    R_level = rotation_towards(np.array([(x0 + x1) / 2, (y0 + y1) / 2, 1.0]))
    corners = np.array([[x0, y0, 1], [x1, y0, 1], [x1, y1, 1], [x0, y1, 1]])
    K = fit_square(corners @ R_level.T, size, pad)
    R = rotation_z(roll) @ R_level @ R_upright
    return K, transform(R, -R @ camera_obj)


@dataclass
class TemplateSet:
    """Holds V rendered views of one object, with the features that the network computed of them.

    Attributes:
        object_id: name of the object in its library.
        images: [V, P, P, 3] uint8 RGB on black.
        coords: [V, P, P, 3] float16, metres, object frame with `center` as origin; see `points`.
        mask: [V, P, P] bool.
        K: [V, 3, 3] float32, pixels.
        T_virt_obj: [V, 4, 4] float32, object to template camera, metres.
        directions: [V, 3] float32 unit, object frame, towards the camera.
        diameter: of the mesh, metres.
        center: [3] float64, of the mesh's box, metres, object frame.
        features: the network's arrays for these views (opaque here), by name.
        features_key: what `features` were made with (a checkpoint's hash); empty when there are none.
    """

    object_id: str
    images: np.ndarray
    coords: np.ndarray
    mask: np.ndarray
    K: np.ndarray
    T_virt_obj: np.ndarray
    directions: np.ndarray
    diameter: float
    center: np.ndarray
    features: dict[str, np.ndarray] = field(default_factory=dict)
    features_key: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """The side of a template, pixels."""
        return self.images.shape[1]

    def points(self, view: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return object points [N, 3] float64 (metres) under pixels of one view; mind `mask`."""
        return self.coords[view, rows, columns].astype(np.float64) + self.center


def build_template_set(
    mesh: Mesh,
    object_id: str,
    size: int = 112,
    directions: np.ndarray | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TemplateSet:
    """Render an object's templates.

    Args:
        size: side of a template, pixels.
        directions: [V, 3]; None takes the 162 of `viewpoint_directions`.
        progress: called with (done, total) now and then.
    """
    directions = viewpoint_directions() if directions is None else np.asarray(directions, dtype=np.float64)
    renderer, count = Renderer(mesh), len(directions)
    out = TemplateSet(
        object_id=object_id,
        images=np.zeros((count, size, size, 3), dtype=np.uint8),
        coords=np.zeros((count, size, size, 3), dtype=np.float16),
        mask=np.zeros((count, size, size), dtype=bool),
        K=np.zeros((count, 3, 3), dtype=np.float32),
        T_virt_obj=np.zeros((count, 4, 4), dtype=np.float32),
        directions=directions.astype(np.float32),
        diameter=mesh.diameter,
        center=mesh.center,
    )
    for index, direction in enumerate(directions):
        cancellation.check()
        K, T = template_camera(mesh, direction, size)
        view = renderer.render(T, K, (size, size))
        out.images[index], out.mask[index] = view.rgb, view.mask
        out.coords[index] = np.where(view.mask[..., None], view.coords - mesh.center, 0)
        out.K[index], out.T_virt_obj[index] = K, T
        if progress is not None and (index % 16 == 15 or index + 1 == count):
            progress(index + 1, count)
    return out


def save_template_set(templates: TemplateSet, path: str | Path) -> None:
    """Write to one safetensors file; readers see the old file or the whole new one, never a part."""
    path = Path(path)
    arrays = {name: getattr(templates, name) for name in _SHAPES}
    arrays["center"] = np.asarray(templates.center, dtype=np.float64)
    for name, value in templates.features.items():
        arrays[f"features.{name}"] = value
    metadata = {
        "format": FORMAT,
        "object_id": templates.object_id,
        "diameter": repr(float(templates.diameter)),
        "features_key": templates.features_key,
    }
    data = save(
        {name: np.ascontiguousarray(value) for name, value in arrays.items()}, {"vpog": json.dumps(metadata)}
    )
    atomic_write(path, data)


def features_key_of(path: str | Path) -> str:
    """Return what the features in a file were made with, read from its head; "" where it cannot be read."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {})["vpog"])
        return str(metadata["features_key"]) if metadata["format"] == FORMAT else ""
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return ""


def load_template_set(path: str | Path) -> TemplateSet:
    """Read what `save_template_set` wrote.

    Raises:
        VPOGError: missing, cut short, of another version, or with arrays that do not fit together.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {})["vpog"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if metadata["format"] != FORMAT:
            raise VPOGError(
                f"The templates '{path}' are of another version: delete the file to build them again."
            )
        _check_arrays(arrays)
        return TemplateSet(
            object_id=metadata["object_id"],
            diameter=float(metadata["diameter"]),
            center=arrays["center"],
            features_key=metadata["features_key"],
            features={n.removeprefix("features."): a for n, a in arrays.items() if n.startswith("features.")},
            **{name: arrays[name] for name in _SHAPES},
        )
    except VPOGError:
        raise
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise VPOGError(
            f"The templates '{path}' cannot be read ({error}): delete the file to build them again."
        ) from error


_SHAPES = {
    "images": ("uint8", "VPP3"),
    "coords": ("float16", "VPP3"),
    "mask": ("bool", "VPP"),
    "K": ("float32", "V33"),
    "T_virt_obj": ("float32", "V44"),
    "directions": ("float32", "V3"),
}


def _check_arrays(arrays: dict[str, np.ndarray]) -> None:
    count, side = arrays["images"].shape[:2]
    for name, (dtype, shape) in _SHAPES.items():
        wanted = tuple({"V": count, "P": side}.get(letter) or int(letter) for letter in shape)
        if arrays[name].dtype != dtype or arrays[name].shape != wanted:
            raise ValueError(f"{name} is {arrays[name].dtype} {arrays[name].shape}, not {dtype} {wanted}")
    if arrays["center"].shape != (3,):
        raise ValueError("center is not three numbers")
