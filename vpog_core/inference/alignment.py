"""Align the rendered object with the image by optical flow, at the full resolution of the image.

The object is rendered at its pose into a look-at crop of the full image (`rendered_view`). Optical flow from
the corners of the render to the crop (Lucas-Kanade in a pyramid: Bouguet, Pyramidal Implementation of the
Lucas Kanade Feature Tracker, 2000), checked by the flow back, carries surface points to where the image shows
them; PnP gives the pose that agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vpog_core.geometry import pinhole
from vpog_core.geometry.pnp import PnPInput, PnPResult, solve_pnp_all
from vpog_core.geometry.se3 import is_within
from vpog_core.inference.observation import Observation
from vpog_core.inference.render_and_compare import RefinedPose
from vpog_core.inference.rendered_view import (
    LOCAL_SIGMA,
    MAX_SIZE,
    RenderedView,
    count_cells,
    count_mask_cells,
    normalised,
)
from vpog_core.objects.view_renderer import ViewRenderer

COARSE_WINDOW, FINE_WINDOW = 31, 15
"""Sides of the flow's window, pixels. A large one finds more, in the first round; a small one is exact."""
PYRAMID_LEVELS = 4
"""Levels of the flow's pyramid above the crop itself, each half as large as the one below."""
MAX_POINTS, MIN_DISTANCE = 300, 4
"""Corners that are followed, at most, and the least distance between two of them, pixels."""
MIN_CORNER = 1e-4
"""Smallest eigenvalue of the normalised render's structure tensor at a corner; fraction of the largest."""
MAX_ROUND_TRIP = 1 / 256
"""Largest error of forward and backward flow in a row; fraction of the crop's side."""
INLIER_THRESHOLD = 2 / 256
"""Largest reprojection error of an inlier; fraction of the crop's side."""
MIN_POINTS, MIN_FRACTION = 20, 0.3
"""Least number, and least fraction, of the points found by flow that must agree with the aligned pose."""
MIN_SPREAD = 0.1
"""Least fraction of the object's cells that inliers cover, see `rendered_view.CELL`."""
MAX_TURN, MAX_SHIFT = np.radians(20.0), 0.15
"""Largest rotation and shift (fraction of the distance) of an alignment; a larger one is rejected."""


@dataclass
class FlowPose:
    """Holds a pose that optical flow leads to, and the N points that agree with it.

    Attributes:
        T_cam_obj: [4, 4].
        rays: [N, 3] camera frame, z > 0 of the virtual camera, where the image shows the points; points:
            [N, 3] metres, object frame; weights: [N].
    """

    T_cam_obj: np.ndarray
    rays: np.ndarray
    points: np.ndarray
    weights: np.ndarray


@dataclass
class Alignment:
    """Holds a pose after its alignment with the image, and how similar its render is.

    Attributes:
        T_cam_obj: [4, 4]; similarity: -1..1, see `RenderedView.similarity`; 0 where it is not known.
        rays, points, weights: as of `FlowPose`; None where the pose was not moved.
        has_flow: optical flow has followed corners that agreed on a pose near this one.
    """

    T_cam_obj: np.ndarray
    similarity: float
    rays: np.ndarray | None = None
    points: np.ndarray | None = None
    weights: np.ndarray | None = None
    has_flow: bool = False

    @property
    def moved(self) -> bool:
        """Tell whether the alignment changed the pose."""
        return self.rays is not None

    def moved_to(self, pose: FlowPose | RefinedPose, similarity: float) -> Alignment:
        """Return the alignment with another pose, of another similarity."""
        return replace(
            self,
            T_cam_obj=pose.T_cam_obj,
            similarity=similarity,
            rays=pose.rays,
            points=pose.points,
            weights=pose.weights,
        )


def align(
    renderer: ViewRenderer,
    observation: Observation,
    T_cam_obj: np.ndarray,
    rounds: int,
    corrected: RefinedPose | None = None,
    should_follow_flow: Callable[[float], bool] | None = None,
    max_size: int = MAX_SIZE,
) -> Alignment:
    """Move a pose T_cam_obj [4, 4] to where its render is more similar to the image, or leave it as it is.

    Each round is kept only if the similarity rises and the pose stays near the one it began from.

    Args:
        rounds: at most; 0 only compares. The first one follows over a wide window.
        corrected: the pose that a refiner made of it, or None; the alignment begins from it, and the refiner
            takes the place of the first round.
        should_follow_flow: tells from the similarity reached whether the flow is followed; None: always.
        max_size: side of the crop, pixels, at most.
    """
    # Render at the refiner's pose, else at the given one, and measure how similar that is to the image.
    is_corrected = corrected is not None and corrected.rays is not None
    start = corrected.T_cam_obj if is_corrected else T_cam_obj
    view = RenderedView.of(renderer, observation, start, max_size)
    if view is None:
        return Alignment(T_cam_obj, 0.0)
    best = Alignment(T_cam_obj, view.similarity)
    if is_corrected:
        best = best.moved_to(corrected, view.similarity)
    if should_follow_flow is not None and not should_follow_flow(best.similarity):
        return best
    # Follow the flow as long as the similarity rises and the pose stays near.
    windows = (COARSE_WINDOW, *[FINE_WINDOW] * (rounds - 1))[:rounds]
    for window in windows[1:] if is_corrected else windows:
        after, found = _one_round(view, window, renderer, observation, start, max_size)
        best = replace(best, has_flow=best.has_flow or found is not None)
        if after is not None and after.similarity > best.similarity:
            view, best = after, best.moved_to(found, after.similarity)
        elif window == FINE_WINDOW:
            break
    return best


def _one_round(
    view: RenderedView,
    window: int,
    renderer: ViewRenderer,
    observation: Observation,
    T_start: np.ndarray,
    max_size: int,
) -> tuple[RenderedView | None, FlowPose | None]:
    """Follow the flow once; return the view at the pose found, and that pose; None where it is not near."""
    (found,) = follow_flow([view], window)
    if found is None or not is_near(T_start, found.T_cam_obj, renderer.mesh.center):
        return None, None
    return RenderedView.of(renderer, observation, found.T_cam_obj, max_size), found


def follow_flow(views: Sequence[RenderedView], window: int = FINE_WINDOW) -> list[FlowPose | None]:
    """Find the poses that the flow from N views leads to; None where too few points agree.

    Args:
        window: side of the flow's window, pixels.
    """
    # Match renders and crops by optical flow.
    matched = [_flow_matches(view, window) for view in views]
    # Solve for the poses that the matches agree on.
    poses = solve_pnp_all([match.problem(view) for match, view in zip(matched, views, strict=True)])
    # Reject those with too few inliers, or inliers that cover too little of the object.
    return [
        _flow_pose(view, match, pnp) if pnp is not None and _is_supported(view, match, pnp) else None
        for view, match, pnp in zip(views, matched, poses, strict=True)
    ]


@dataclass(frozen=True)
class _FlowMatches:
    """Holds pixels [N, 2] int of a view's render, where its crop shows them [N, 2], and weights [N]."""

    pixels: np.ndarray
    matched: np.ndarray
    weights: np.ndarray

    def points(self, view: RenderedView) -> np.ndarray:
        """Return the surface points [N, 3] at the pixels, metres, object frame."""
        return view.render.coords[self.pixels[:, 1], self.pixels[:, 0]].astype(np.float64)

    def problem(self, view: RenderedView) -> PnPInput:
        """Return the matches as 2D-3D correspondences."""
        threshold = INLIER_THRESHOLD * view.virtual.size
        return PnPInput(self.matched, self.points(view), view.virtual.K, self.weights, threshold)


def _is_supported(view: RenderedView, match: _FlowMatches, pnp: PnPResult) -> bool:
    """Tell whether enough matches agree with a pose, and lie all over what the image shows of the object."""
    if pnp.inlier.sum() < max(MIN_POINTS, MIN_FRACTION * len(match.pixels)):
        return False
    cells = count_cells(match.pixels[pnp.inlier], view.virtual.size)
    return cells >= MIN_SPREAD * count_mask_cells(view.visible)


def _flow_pose(view: RenderedView, match: _FlowMatches, pnp: PnPResult) -> FlowPose:
    """Transform a pose and its inliers into the camera frame."""
    rays = pinhole.to_rays(match.matched[pnp.inlier], view.virtual.K) @ view.virtual.R_virt_cam
    T_cam_obj = view.virtual.T_cam_virt @ pnp.T_virt_obj
    return FlowPose(T_cam_obj, rays, match.points(view)[pnp.inlier], match.weights[pnp.inlier])


def _flow_matches(view: RenderedView, window: int) -> _FlowMatches:
    """Match the corners of a view's render with its crop."""
    size = view.virtual.size
    # Put the blurred image behind the object, so that its outline does not bias the flow.
    blur = cv2.blur(view.crop, (size // 8 | 1,) * 2)
    ours = normalised(np.where(view.visible, view.grey, blur), LOCAL_SIGMA * size)
    theirs = normalised(view.crop, LOCAL_SIGMA * size)
    # Choose corners inside the object.
    margin = max(3, size // 36 | 1)
    inside = cv2.erode(view.visible.astype(np.uint8), np.ones((margin, margin)))
    chosen = cv2.goodFeaturesToTrack(
        ours, MAX_POINTS, MIN_CORNER, MIN_DISTANCE, mask=inside, blockSize=margin
    )
    if chosen is None:
        return _FlowMatches(np.zeros((0, 2), int), np.zeros((0, 2)), np.zeros(0))
    pixels = chosen[:, 0].astype(int)
    # Follow them into the crop, and back from there.
    matched, found = _flow(ours, theirs, chosen, window)
    returned, found_back = _flow(theirs, ours, matched, window)
    # Keep those that the backward flow leads back to where they were.
    round_trip = np.linalg.norm(returned - chosen, axis=-1)[:, 0]
    good = found & found_back & (round_trip < MAX_ROUND_TRIP * size)
    corner = cv2.cornerMinEigenVal(ours, margin)[pixels[good, 1], pixels[good, 0]]
    weights = np.sqrt(corner).astype(np.float64)
    return _FlowMatches(pixels[good], matched[good, 0].astype(np.float64), weights)


def _flow(a: np.ndarray, b: np.ndarray, points: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Follow points [N, 1, 2] float32 from image a to b, [P, P] uint8; return them and which are found."""
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        a, b, points, None, winSize=(window, window), maxLevel=PYRAMID_LEVELS
    )
    return there, found[:, 0] > 0


def is_near(T_from: np.ndarray, T_to: np.ndarray, middle: np.ndarray) -> bool:
    """Tell whether a pose [4, 4] is a correction of another, not a different one; middle: of the mesh."""
    return is_within(T_from, T_to, middle, MAX_TURN, MAX_SHIFT)
