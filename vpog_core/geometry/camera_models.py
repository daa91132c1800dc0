"""Compute the camera of published images from a calibration as drivers and tools write it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vpog_core.geometry.camera_checks import check_camera
from vpog_core.types import CAMERA_MODELS, COEFFICIENT_COUNTS, MODEL_NAMES, Camera, Region, VPOGError

NO_PINHOLES = ("omni", "mei", "double_sphere", "ds", "eucm", "ucm", "fov", "equirectangular", "spherical")
"""Models that differ from a pinhole camera even if all coefficients are zero."""


def published_camera(
    K: np.ndarray,
    width: int,
    height: int,
    distortion: Sequence[float] | np.ndarray = (),
    model: str = "",
    binning: tuple[int, int] = (1, 1),
    roi: tuple[int, int, int, int] | None = None,
) -> Camera:
    """Return the camera of the images as they are sent: with binning and region, and checked.

    Args:
        K: [3, 3] of the whole sensor, pixels, as are width, height and roi.
        distortion: coefficients in OpenCV's order, with or without zeros at the end.
        model: `CAMERA_MODELS` or another name of them; of no matter where all coefficients are zero.
        binning: pixels of the sensor in a pixel of the image, along x and y; 0 is 1.
        roi: (x, y, width, height) of the part that is sent, pixels of the sensor; None or no size: all.

    Raises:
        VPOGError: not calibrated, a distortion model that is not known, a region outside of the sensor, or a
            calibration that cannot belong to the image.
    """
    model, distortion = distortion_model(model, distortion)
    x, y, roi_width, roi_height = roi if roi is not None and roi[2] and roi[3] else (0, 0, width, height)
    if x < 0 or y < 0 or x + roi_width > width or y + roi_height > height:
        raise VPOGError(
            f"The region of {roi_width}x{roi_height} pixels at ({x}, {y}) does not lie in the "
            f"{width}x{height} image: set width and height of the camera's info to those of the whole sensor."
        )
    K = np.array(K, dtype=np.float64).reshape(3, 3)
    across, down = (max(int(b), 1) for b in binning)
    # The centre of a binned pixel lies between the centres of the pixels it is made of.
    K[0, 2] = (K[0, 2] - x + 0.5) / across - 0.5
    K[1, 2] = (K[1, 2] - y + 0.5) / down - 0.5
    K[0, :2] /= across
    K[1, :2] /= down
    part = (roi_width, roi_height) != (width, height)
    region = Region(x / across, y / down, width // across, height // down) if part else None
    camera = Camera(K, roi_width // across, roi_height // down, distortion, model, region, checked=True)
    check_camera(camera)
    return camera


def distortion_model(name: str, coefficients: Sequence[float] | np.ndarray) -> tuple[str, np.ndarray]:
    """Return (one of `CAMERA_MODELS`, its coefficients) of a model under any of its names.

    Coefficients of zero need no model, except where its rays are not a pinhole's. Zeros at the end, beyond
    what a model takes, are left out.

    Raises:
        VPOGError: an unknown model, or a number of coefficients that it does not take.
    """
    coefficients = np.asarray(coefficients, dtype=np.float64).ravel()
    key = name.strip().lower().replace("-", "_").replace(" ", "_")
    model = MODEL_NAMES.get(key, key)
    if not coefficients.any() and model != "equidistant" and model not in NO_PINHOLES:
        return "plumb_bob", np.zeros(0)
    if model not in CAMERA_MODELS:
        raise VPOGError(f"Distortion model {name!r} is not known: use one of {', '.join(CAMERA_MODELS)}.")
    if key == "none":
        raise VPOGError(
            f"The distortion model is 'none', but the coefficients are {coefficients.tolist()}: "
            "name the model."
        )
    used = int(np.flatnonzero(coefficients)[-1]) + 1 if coefficients.any() else 0
    counts = COEFFICIENT_COUNTS[model]
    if coefficients.size not in counts:
        fitting = [count for count in counts if used <= count <= coefficients.size]
        coefficients = coefficients[: max(fitting, default=coefficients.size)]
    return model, coefficients
