"""Convert the values of a dump to JSON and back, and refuse invalid ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from vpog_core.geometry.symmetry import Symmetry
from vpog_core.inference.constraints import PoseConstraint
from vpog_core.inference.query import Prior
from vpog_core.types import Camera, Detection, PoseEstimate, Region


def plain(value):
    """Make a value ready for JSON: arrays as lists, numbers that are not finite as text."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def camera_values(camera: Camera) -> dict:
    """Describe a camera."""
    names = ("K", "width", "height", "distortion", "model", "region")
    return plain({name: getattr(camera, name) for name in names})


def read_camera_values(values: Mapping) -> Camera:
    """Make a camera of what `camera_values` wrote.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    region = values["region"]
    return Camera(
        np.array(values["K"], np.float64),
        int(values["width"]),
        int(values["height"]),
        np.array(values["distortion"], np.float64),
        str(values["model"]),
        None if region is None else Region(*region),
        checked=True,
    )


def detection_values(detection: Detection) -> dict:
    """Describe a detection; its mask is a file of its own."""
    return plain(
        {
            "class_id": detection.class_id,
            "instance": detection.instance,
            "score": detection.score,
            "box": detection.box,
            "mask": detection.mask is not None,
        }
    )


def read_detection_values(values: Mapping, mask: np.ndarray | None) -> Detection:
    """Make a detection of what `detection_values` wrote."""
    box = np.array(values["box"], np.float64).reshape(4)
    return Detection(str(values["class_id"]), box, float(values["score"]), mask, int(values["instance"]))


def prior_values(prior: Prior | None) -> dict | None:
    """Convert a prior to plain values."""
    if prior is None:
        return None
    return plain({f.name: getattr(prior, f.name) for f in dataclasses.fields(prior)})


def read_prior_values(values: Mapping | None) -> Prior | None:
    """Make a prior of what `prior_values` wrote."""
    if values is None:
        return None
    prior = Prior(**{name: _numbers(value) for name, value in values.items()})
    if prior.T_cam_obj.shape != (4, 4):
        raise ValueError(f"a pose is {prior.T_cam_obj.shape}")
    return prior


def constraint_values(constraint: PoseConstraint) -> dict:
    """Convert a constraint to plain values."""
    return plain({f.name: getattr(constraint, f.name) for f in dataclasses.fields(constraint)})


def read_constraint_values(values: Mapping) -> PoseConstraint:
    """Make a constraint of what `constraint_values` wrote."""
    return PoseConstraint(**values)


def _numbers(value):
    """Make an array of a list, and a number of the text that `plain` writes for one that is not finite."""
    if isinstance(value, list):
        return np.array(value, np.float64)
    return float(value) if isinstance(value, str) else value


def estimate_values(estimate: PoseEstimate) -> dict:
    """Convert a pose estimate to JSON values."""
    names = ("class_id", "instance", "T_cam_obj", "score", "covariance", "inliers")
    names += ("reprojection_error", "reason", "aligned", "tracked")
    return plain({name: getattr(estimate, name) for name in names})


def read_pose(values: Mapping) -> np.ndarray | None:
    """Read the pose [4, 4] of an estimate, or None."""
    T = values["T_cam_obj"]
    return None if T is None else np.array(T, np.float64).reshape(4, 4)


def symmetry_values(symmetry: Symmetry) -> dict:
    """Describe an object's symmetries, metres."""
    return plain({"discrete": symmetry.discrete, "continuous": symmetry.continuous})


def read_symmetry_values(values: Mapping) -> Symmetry:
    """Make symmetries of what `symmetry_values` wrote."""
    discrete = np.array(values["discrete"], np.float64).reshape(-1, 4, 4)
    axes = [(np.array(a, np.float64).reshape(3), np.array(o, np.float64).reshape(3))
            for a, o in values["continuous"]]  # fmt: skip
    if not np.isfinite(discrete).all() or not len(discrete):
        raise ValueError("symmetries that are not finite")
    return Symmetry(discrete, tuple(axes))
