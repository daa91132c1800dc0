"""Compute errors of pose estimates against the truth, as BOP Challenge 2019 does.

https://bop.felk.cvut.cz/challenges/bop-challenge-2019/ and https://arxiv.org/abs/2009.07378, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vpog_core.evaluation.benchmark import BenchmarkFrame, BenchmarkObject, FrameKey, Truth
from vpog_core.evaluation.pose_error import add_or_adds, distance_error, mspd, mssd, rotation_error
from vpog_core.evaluation.vsd import TAUS, vsd_of_poses
from vpog_core.types import VPOGError

WIDTH = 640.0
"""Image width (pixels) that projection errors are brought to."""
ARRAYS = ("visible", "scores", "mssd", "mspd", "add", "rotation", "distance", "vsd")
"""The arrays of `TargetErrors`."""


@dataclass(frozen=True)
class Estimate:
    """Holds one pose of one object in one frame.

    Attributes:
        T_cam_obj: [4, 4] metres.
        score: higher is surer; seconds: of the whole frame, -1 where not known.
    """

    obj_id: int
    T_cam_obj: np.ndarray
    score: float
    seconds: float = -1.0


@dataclass
class TargetErrors:
    """Holds the errors of one object in one frame: E estimates, best score first, against G instances.

    Attributes:
        count: instances to find.
        visible: [G] fraction, NaN where not known.
        scores: [E].
        vsd: [E, G, 10], or None without depth; mssd, add: [E, G] over the diameter; mspd: [E, G] pixels at
            an image width of 640.
        rotation: [E, G] radians to the nearest pose that looks alike.
        distance: [E, G, 2] error of the object's distance from the camera, over that distance and over the
            diameter.
    """

    key: FrameKey
    obj_id: int
    count: int
    visible: np.ndarray
    scores: np.ndarray
    mssd: np.ndarray
    mspd: np.ndarray
    add: np.ndarray
    rotation: np.ndarray
    distance: np.ndarray
    vsd: np.ndarray | None = None

    @property
    def targeted(self) -> np.ndarray:
        """The `count` most visible instances, [G] bool."""
        order = sorted(range(len(self.visible)), key=lambda g: -_known(self.visible[g]))
        targeted = np.zeros(len(self.visible), dtype=bool)
        targeted[order[: self.count]] = True
        return targeted

    def to_json(self) -> dict:
        """Return plain values, which `from_json` reads."""
        values = {name: getattr(self, name) for name in ARRAYS}
        plain = {name: None if value is None else value.tolist() for name, value in values.items()}
        return {"key": list(self.key), "obj_id": self.obj_id, "count": self.count, **plain}

    @classmethod
    def from_json(cls, value: dict) -> TargetErrors:
        """Read what `to_json` returned."""
        value = dict(value)
        grid = (len(value["scores"]), len(value["visible"]))
        shapes = dict.fromkeys(("mssd", "mspd", "add", "rotation"), grid)
        shapes |= {"distance": (*grid, 2), "vsd": (*grid, len(TAUS))}
        for name in ARRAYS:
            if value[name] is not None:
                array = np.array(value[name], dtype=np.float64)
                value[name] = array.reshape(shapes.get(name, array.shape))
        return cls(**{**value, "key": tuple(value["key"])})


def frame_errors(
    frame: BenchmarkFrame,
    objects: dict[int, BenchmarkObject],
    estimates: Sequence[Estimate],
    with_vsd: bool = True,
) -> list[TargetErrors]:
    """Compute the errors of a frame's estimates, for each target object.

    Args:
        objects: by number, all with targets.
        with_vsd: needs the frame's depth.

    Raises:
        VPOGError: the frame has no depth map where one is needed.
    """
    if with_vsd and frame.depth is None:
        raise VPOGError(
            f"The image {frame.key[1]} of scene {frame.key[0]} has no depth map where others have: add it."
        )
    found = []
    for obj_id, count in frame.targets.items():
        mine = sorted((e for e in estimates if e.obj_id == obj_id), key=lambda e: e.score, reverse=True)
        mine = mine[:count]
        truths = [truth for truth in frame.truths if truth.obj_id == obj_id]
        cells = [[_pair(frame, objects[obj_id], e, t, with_vsd) for t in truths] for e in mine]
        grid = np.array(cells, dtype=np.float64).reshape(len(mine), len(truths), 6 + len(TAUS))
        found.append(
            TargetErrors(
                key=frame.key,
                obj_id=obj_id,
                count=count,
                visible=np.array([truth.visible_fraction for truth in truths]),
                scores=np.array([e.score for e in mine]),
                mssd=grid[..., 0],
                mspd=grid[..., 1],
                add=grid[..., 2],
                rotation=grid[..., 3],
                distance=grid[..., 4:6],
                vsd=grid[..., 6:] if with_vsd else None,
            )
        )
    return found


def _pair(
    frame: BenchmarkFrame, target: BenchmarkObject, estimate: Estimate, truth: Truth, with_vsd: bool
) -> list[float]:
    """Compute MSSD, MSPD, ADD(-S), rotation, two of the distance and ten VSD of an estimate and a truth."""
    T, T_gt, K, diameter = estimate.T_cam_obj, truth.T_cam_obj, frame.camera.K, target.diameter
    near = np.linalg.norm(T[:3, 3] - T_gt[:3, 3]) < diameter
    surface = mssd(T, T_gt, target.hull, target.symmetries) / diameter if near else np.inf
    distance = np.inf
    if near:
        distance = add_or_adds(T, T_gt, target.points, not target.symmetry.is_trivial) / diameter
    projection = mspd(T, T_gt, target.points, K, target.symmetries) * WIDTH / frame.camera.width
    visible = np.full(len(TAUS), np.nan)
    if with_vsd:
        visible = vsd_of_poses(target.renderer, T, T_gt, frame.depth, K, diameter, frame.vsd_delta)
    turned = rotation_error(T, T_gt, target.symmetries)
    true, off = distance_error(T, T_gt, target.mesh.center)
    return [surface, projection, distance, turned, off / true, off / diameter, *visible]


def _known(fraction: float) -> float:
    return 1.0 if np.isnan(fraction) else float(fraction)
