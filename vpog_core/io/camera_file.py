"""Read a camera from the files that ROS, OpenCV, Kalibr, BOP and people write."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vpog_core.geometry.camera_checks import camera_doubts
from vpog_core.geometry.camera_models import NO_PINHOLES, published_camera
from vpog_core.io.camera_numbers import read_numbers
from vpog_core.io.storage import Fields, plain_key, read_mapping
from vpog_core.types import MODEL_NAMES, Camera, VPOGError

log = logging.getLogger(__name__)

MATRIX_KEYS = ("cameramatrix", "k", "camk", "intrinsicmatrix", "mtx", "intrinsics")
DISTORTION_KEYS = (
    "distortioncoefficients",
    "distortioncoeffs",
    "distcoeffs",
    "distortion",
    "dist",
    "d",
)
COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
"""Names of single coefficients, in OpenCV's order; those of the equidistant model are k1 to k4."""
KNOWN_UNUSED = (
    "header", "cameraname", "r", "p", "rectificationmatrix", "projectionmatrix",
    "depthscale", "camrw2c", "camtw2c",
)  # fmt: skip
"""Keys of these formats, normalised, that are not needed: they do not describe the unrectified image."""
SHOWN_CAMERAS = 4


def read_camera(path: str | Path, image_size: tuple[int, int]) -> Camera:
    """Read a camera from a YAML, JSON or XML file, or K alone from a text or .npy file of numbers.

    Understood: ROS calibration files (`camera_matrix`, `image_width`, ...), a printed `CameraInfo` message
    (`k`, `d`, `width`, ...) with `binning_x`, `binning_y` and `roi`, what OpenCV's `FileStorage` writes, a
    `camchain` of Kalibr with one camera, BOP's `camera.json` and `scene_camera.json`, and plain `fx, fy, cx,
    cy` with, where needed, `width`, `height`, `distortion` and `distortion_model`. A file without a size is
    for images of this size. Says in the log which keys are not used, and what is unlikely.

    Args:
        image_size: (height, width) of the image the camera is for.

    Raises:
        VPOGError: missing, of another format, numbers missing or impossible, or made for another image size.
    """
    content = read_numbers(path) or read_mapping(path, "camera file")
    fields = Fields(_one_camera(content, path), path)
    height, width = image_size
    K = _intrinsics(fields)
    model, distortion = _distortion(fields)
    file_width, file_height = _size(fields, width, height)
    camera = published_camera(
        K, file_width, file_height, distortion, model, binning=_binning(fields), roi=_roi(fields)
    )
    if (camera.height, camera.width) != (height, width):
        raise VPOGError(
            f"The camera file '{path}' is for {camera.width}x{camera.height} images, this one is "
            f"{width}x{height}: give the image as the camera took it."
        )
    unused = fields.unused(KNOWN_UNUSED)
    if unused:
        log.warning("Of the camera file '%s', these keys are not used: %s.", path, ", ".join(unused))
    for doubt in camera_doubts(camera):
        log.warning("The camera file '%s': %s", path, doubt)
    return camera


def _one_camera(data: Mapping, path) -> Mapping:
    """Return the mapping that describes the camera: the file's, or the one it holds under another name."""
    if _describes_camera(data):
        return data
    inner = {name: value for name, value in data.items() if _describes_camera(value)}
    if not inner:
        return data
    cameras = [
        {name: value for name, value in camera.items() if plain_key(name) not in KNOWN_UNUSED}
        for camera in inner.values()
    ]
    if any(camera != cameras[0] for camera in cameras[1:]):
        names = ", ".join(str(name) for name in list(inner)[:SHOWN_CAMERAS])
        more = ", ..." if len(inner) > SHOWN_CAMERAS else ""
        raise VPOGError(
            f"The camera file '{path}' holds {len(inner)} different cameras ({names}{more}): give a file "
            "with the one of this image."
        )
    return cameras[0]


def _describes_camera(value) -> bool:
    keys = {plain_key(name) for name in value} if isinstance(value, Mapping) else set()
    return bool(keys & {*MATRIX_KEYS, "fx", "fy", "cx", "cy"})


def _intrinsics(fields: Fields) -> np.ndarray:
    value = fields.first(*MATRIX_KEYS)
    if value is None:
        fx, fy, cx, cy = _four_numbers(fields)
    elif isinstance(value, Mapping) and "fx" in value:
        fx, fy, cx, cy = _four_numbers(Fields(value, fields.path))
    else:
        numbers = fields.numbers(value, fields.used_name(MATRIX_KEYS), (9, 4))
        if numbers.size == 9:
            K = numbers.reshape(3, 3)
            # Open3D and MATLAB store the columns of K one after the other.
            return K.T if not K[:2, 2].any() and (K[2, :2] > 0).all() else K
        fx, fy, cx, cy = numbers
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def _four_numbers(fields: Fields) -> list[float]:
    numbers = {key: fields.number(key) for key in ("fx", "fy", "cx", "cy")}
    missing = [key for key, number in numbers.items() if number is None]
    if missing:
        raise VPOGError(
            f"The camera file '{fields.path}' has no {missing[0]}: give fx, fy, cx and cy, or a ROS "
            "camera_matrix."
        )
    return list(numbers.values())


def _distortion(fields: Fields) -> tuple[str, np.ndarray]:
    """Return (name of the model, coefficients)."""
    name = _model_name(fields)
    value = fields.first(*DISTORTION_KEYS)
    by_name = isinstance(value, Mapping) and "data" not in value
    if value is None or by_name:
        source = Fields(value, fields.path) if by_name else fields
        found = [source.number(key) for key in COEFFICIENTS]
        if MODEL_NAMES.get(name.lower(), name) == "equidistant":
            found = [found[n] for n in (0, 1, 4, 5)]
        coefficients = np.array([number or 0.0 for number in found])
        coefficients = coefficients if coefficients[5:].any() else coefficients[:5]
    else:
        coefficients = fields.numbers(value, fields.used_name(DISTORTION_KEYS))
    if not name:
        name = "rational_polynomial" if coefficients.size > 5 else "plumb_bob"
    return name, coefficients


def _model_name(fields: Fields) -> str:
    """Return what the file calls its model of rays and distortion; "" where it has none."""
    rays = str(fields.first("cameramodel") or "").lower()
    if rays in NO_PINHOLES:
        return rays
    name = fields.first("distortionmodel", "model")
    if name is None and str(fields.first("fisheyemodel")).lower() in ("1", "true"):
        return "equidistant"
    return rays if name is None else str(name)


def _size(fields: Fields, width: int, height: int) -> tuple[int, int]:
    """Return (width, height) that the file is for; the image's where it has none."""
    both = fields.first("resolution", "imagesize")
    if both is not None:
        numbers = fields.numbers(both, fields.used_name(("resolution", "imagesize")), (2,))
        # Kalibr writes width and height, HappyPose height and width.
        swapped = tuple(numbers) == (height, width)
        return (width, height) if swapped else (int(numbers[0]), int(numbers[1]))
    sizes = []
    for keys, size in ((("imagewidth", "width"), width), (("imageheight", "height"), height)):
        counts = (fields.count(key) for key in keys)
        sizes.append(next((count for count in counts if count is not None), size))
    return sizes[0], sizes[1]


def _binning(fields: Fields) -> tuple[int, int]:
    return fields.count("binningx") or 1, fields.count("binningy") or 1


def _roi(fields: Fields) -> tuple[int, int, int, int] | None:
    value = fields.first("roi")
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise VPOGError(
            f"In the camera file '{fields.path}', roi must be {{x_offset, y_offset, width, height}}, but is "
            f"{str(value)[:60]}."
        )
    roi = Fields(value, fields.path)
    x, y, width, height = (roi.count(key) or 0 for key in ("xoffset", "yoffset", "width", "height"))
    return x, y, width, height
