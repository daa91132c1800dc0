"""Refine poses by a network in rounds of render, compare and solve, many poses in one batch.

Every pose of a batch, whatever its detection or object, goes through a round together. A pose that cannot be
rendered in the image stays as it was, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from vpog_core import cancellation
from vpog_core.geometry import pinhole
from vpog_core.geometry.camera import VirtualCamera
from vpog_core.geometry.framing import frame_hull
from vpog_core.geometry.se3 import invert, is_within, transform_points
from vpog_core.inference.comparison_solver import Fit, fit_poses
from vpog_core.inference.observation import Observation
from vpog_core.models.precision import inference_context
from vpog_core.models.refiner import Comparison, RefinerNet
from vpog_core.models.refiner_config import FINE_STRIDE
from vpog_core.objects.mesh import Mesh
from vpog_core.objects.renderer import Render
from vpog_core.objects.view_renderer import ViewRenderer

BATCH = 16
"""Poses that go through the network at once."""
MIN_CELLS = 12
"""Least number of cells of the object's render that lie in the image, for a comparison."""
MIN_SIDE_PX = 10.0
"""Least side of the crop in pixels of the image: a smaller one shows no shape."""
MAX_TURN, MAX_SHIFT = np.radians(60.0), 0.3
"""Largest rotation and shift (fraction of the distance) of a refinement; a larger one is rejected."""


@dataclass(frozen=True)
class PoseToRefine:
    """Holds a pose T_cam_obj [4, 4] in an image, and the renderer of its object."""

    renderer: ViewRenderer
    observation: Observation
    T_cam_obj: np.ndarray


@dataclass
class RefinedPose:
    """Holds a refined pose and what the last comparison of render and image says of it.

    Attributes:
        T_cam_obj: [4, 4].
        visible: fraction of the object's cells that the image shows; agreement: fraction that is visible and
            agrees with the pose; precision: mean logarithm of the flow's scale (pixels) over visible cells.
        rays: [N, 3] camera frame, z > 0 of the crop's camera, where the image shows the cells that agree;
            points: [N, 3] metres, object frame; weights: [N] inverse variances up to a factor. None where
            the pose is as it was.
        score: logit that the pose is correct, from all cells of the last comparison together.
        step: how far the last round moved the pose: the mean over the hull's points, in diameters.
        reason: why the pose is as it was, or "".
    """

    T_cam_obj: np.ndarray
    visible: float = 0.0
    agreement: float = 0.0
    precision: float = 4.0
    rays: np.ndarray | None = None
    points: np.ndarray | None = None
    weights: np.ndarray | None = None
    score: float = 0.0
    step: float = 0.0
    reason: str = ""


@dataclass
class Pair:
    """Holds one pose's render and the image warped to the same camera; P is the side of both, pixels.

    Attributes:
        frame: the virtual camera that sees both; T_virt_obj: [4, 4], the pose in its frame.
        render: the object at the pose; crop: [P, P, 3] uint8, the image.
        usable: [P, P] bool, where the image is, and its mask.
    """

    frame: VirtualCamera
    T_virt_obj: np.ndarray
    render: Render
    crop: np.ndarray
    usable: np.ndarray

    @property
    def normals(self) -> np.ndarray:
        """The render's unit normals [P, P, 3] float32 in the virtual camera's frame, 0 in the background."""
        return self.render.normals @ self.T_virt_obj[:3, :3].T.astype(np.float32)


def refine(refiner: RefinerNet, poses: Sequence[PoseToRefine], rounds: int) -> list[RefinedPose]:
    """Refine poses in rounds of render, compare and solve.

    Args:
        refiner: the network, on its device.
        poses: N, of any images and objects; rounds: at most; a pose that cannot be compared leaves early.

    Returns:
        N refined poses, in their order.
    """
    found = [RefinedPose(np.array(p.T_cam_obj, dtype=np.float64)) for p in poses]
    for _ in range(rounds):
        cancellation.check()
        active = [n for n, result in enumerate(found) if not result.reason]
        for start in range(0, len(active), BATCH):
            rows = active[start : start + BATCH]
            after = _one_round(refiner, [poses[n] for n in rows], [found[n] for n in rows])
            for n, result in zip(rows, after, strict=True):
                found[n] = result
    return found


def _one_round(
    refiner: RefinerNet, poses: Sequence[PoseToRefine], before: Sequence[RefinedPose]
) -> list[RefinedPose]:
    """Refine poses once; one that cannot be refined is returned unchanged, with the reason."""
    size = refiner.config.image_size
    # Render each pose, and warp the image to the same camera.
    made = [make_pair(pose, b.T_cam_obj, size) for pose, b in zip(poses, before, strict=True)]
    after = [
        replace(b, reason=pair) if isinstance(pair, str) else b for pair, b in zip(made, before, strict=True)
    ]
    pairs = {n: pair for n, pair in enumerate(made) if isinstance(pair, Pair)}
    if not pairs:
        return after
    # Compare all pairs by the network, and solve for the poses that explain its outputs.
    compared = _compare(refiner, list(pairs.values()))
    fits = fit_poses(compared, *_grids(list(pairs.values()), size))
    # Keep the poses that are plausible.
    for fit, score, (n, pair) in zip(fits, compared.score.tolist(), pairs.items(), strict=True):
        after[n] = _refined(poses[n], before[n], pair, fit, score)
    return after


def make_pair(pose: PoseToRefine, T_cam_obj: np.ndarray, size: int) -> Pair | str:
    """Render a pose and warp the image to it, as the network compares them.

    Args:
        pose: the object and the image; T_cam_obj: [4, 4], the pose to render in place of its own.
        size: side of render and crop, pixels.

    Returns:
        The pair, or the reason why the pose cannot be compared with the image.
    """
    camera, hull = pose.observation.camera, pose.renderer.mesh.hull_points
    if not np.isfinite(T_cam_obj).all():
        return "The pose is not finite."
    frame = frame_hull(transform_points(T_cam_obj, hull), size)
    if frame is None:
        return "The pose puts the object behind the camera, or right before it."
    if size * camera.resolution < MIN_SIDE_PX * frame.K[0, 0]:
        return "The pose puts the object so far away that it is too small to be compared."
    T_virt_obj = invert(frame.T_cam_virt) @ T_cam_obj
    render = pose.renderer.render(T_virt_obj, frame.K, (size, size))
    crop, usable = pose.observation.seen_by(frame)
    usable = usable > 127
    if (render.mask & usable)[_CELLS].sum() < MIN_CELLS:
        return "The pose puts the object outside of the image or of its mask."
    return Pair(frame, T_virt_obj, render, crop, usable)


_CELLS = np.s_[FINE_STRIDE // 2 :: FINE_STRIDE, FINE_STRIDE // 2 :: FINE_STRIDE]
"""The pixels in the middle of the network's cells."""


def _compare(refiner: RefinerNet, pairs: Sequence[Pair]) -> Comparison:
    """Run the network on B pairs; the result is float32 on the CPU."""
    device = refiner.mean.device

    def images(values) -> torch.Tensor:
        return torch.from_numpy(np.stack(values)).to(device).permute(0, 3, 1, 2)

    masks = torch.from_numpy(np.stack([p.render.mask for p in pairs])).to(device)
    with torch.inference_mode(), inference_context(refiner):
        found = refiner(
            images([p.crop for p in pairs]),
            images([p.render.rgb for p in pairs]),
            images([p.normals for p in pairs]),
            masks,
        )
    return Comparison(*(v.float().cpu() for v in vars(found).values()))


def _grids(pairs: Sequence[Pair], size: int) -> tuple[np.ndarray, ...]:
    """Return pixels [g, g, 2], points [B, g, g, 3], mask [B, g, g], K [B, 3, 3] and T [B, 4, 4] of pairs."""
    v, u = np.mgrid[0:size, 0:size].astype(np.float64)
    pixels = np.stack([u[_CELLS], v[_CELLS]], axis=-1)
    points = np.stack([p.render.coords[_CELLS] for p in pairs]).astype(np.float64)
    mask = np.stack([(p.render.mask & p.usable)[_CELLS] for p in pairs])
    return pixels, points, mask, np.stack([p.frame.K for p in pairs]), np.stack([p.T_virt_obj for p in pairs])


def _refined(pose: PoseToRefine, before: RefinedPose, pair: Pair, fit: Fit, score: float) -> RefinedPose:
    """Return the pose after a round; unchanged, with a reason, if the round's result is not usable."""
    T_cam_obj = pair.frame.T_cam_virt @ fit.T
    if not fit.valid:
        return replace(before, reason="The image shows too little of the object.")
    if not is_within(pose.T_cam_obj, T_cam_obj, pose.renderer.mesh.center, MAX_TURN, MAX_SHIFT):
        return replace(before, reason="The refinement leads to quite another pose.")
    return RefinedPose(
        T_cam_obj,
        fit.visible,
        fit.agreement,
        fit.precision,
        pinhole.to_rays(fit.pixels, pair.frame.K) @ pair.frame.R_virt_cam,
        fit.points,
        fit.weights,
        score,
        mean_displacement(pose.renderer.mesh, before.T_cam_obj, T_cam_obj),
    )


def mean_displacement(mesh: Mesh, T_from: np.ndarray, T_to: np.ndarray) -> float:
    """Compute the mean displacement of a mesh's hull points between two poses [4, 4], in diameters."""
    move = T_to - T_from
    displacement = np.linalg.norm(mesh.hull_points @ move[:3, :3].T + move[:3, 3], axis=1)
    return float(displacement.mean() / mesh.diameter)
