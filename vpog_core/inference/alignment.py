"""Align the rendered object with the image by dense optical flow, at the full resolution of the image.

The object is rendered at its pose into a look-at crop of the full image. Optical flow from the render to
the crop (DIS: Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016), checked by the flow
back, carries each rendered surface point to where the image shows it; PnP gives the pose that agrees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from vpog_core.geometry import pinhole
from vpog_core.geometry.camera import VirtualCamera, look_at_crop, project, warp_all
from vpog_core.geometry.pnp import solve_pnp
from vpog_core.geometry.se3 import invert, rotation_angle, transform_points
from vpog_core.inference.observation import Observation
from vpog_core.inference.render_and_compare import RefinedPose
from vpog_core.objects.renderer import Render, Renderer
from vpog_core.types import Camera, VPOGError

MAX_SIZE, MIN_SIZE = 256, 48
"""Sides of the crop, pixels; an object that would need a smaller one is left as it is."""
MAX_ENLARGEMENT = 2.0
"""Pixels of the crop over those of the image, at most."""
PADDING = 1.15
LOCAL_SIGMA = 1 / 32
"""Size of the neighbourhood that brightness and contrast are normalised over; fraction of the crop's side."""
COARSE_SIGMA = 1 / 8
"""The wider neighbourhood that similarity is measured over as well: it sees shapes that survive blur."""
DOWNSAMPLE_SIGMA = 6.0
"""Pixels: for a wider Gaussian the image is scaled down first, by whole factors."""
MIN_CONTRAST = 6.0
"""Grey levels: contrast fainter than this is noise, and is not amplified."""
MAX_ROUND_TRIP = 1 / 256
"""Largest error of forward and backward flow in a row; fraction of the crop's side."""
MIN_CORNER = 6e-4
"""Smallest eigenvalue of the normalised render's structure tensor at a pixel whose flow is used."""
INLIER_THRESHOLD = 2 / 256
"""Largest reprojection error of an inlier; fraction of the crop's side."""
MIN_POINTS, MIN_FRACTION = 50, 0.3
"""Least number, and least fraction, of the points found by flow that must agree with the aligned pose."""
MIN_SPREAD, CELL = 0.2, 1 / 16
"""Least fraction of the object's cells (side: fraction of the crop's) that inliers cover."""
MAX_TURN, MAX_SHIFT = np.radians(20.0), 0.15
"""Largest rotation and shift (fraction of the distance) of an alignment; a larger one is rejected."""
MIN_PIXELS = 100
"""Least number of pixels that are compared; with fewer, the similarity is unknown."""


@dataclass
class Alignment:
    """Hold a pose after its alignment with the image, and how similar its render is; N aligned points.

    Attributes:
        T_cam_obj: [4, 4]; similarity: -1..1, see `RenderedView.similarity`.
        similarity_before: that of the pose before its alignment.
        rays: [N, 3] camera frame, z > 0 of the virtual camera, where the image shows the points; points:
            [N, 3] metres, object frame; weights: [N]. None where the pose was not moved.
    """

    T_cam_obj: np.ndarray
    similarity: float
    similarity_before: float
    rays: np.ndarray | None = None
    points: np.ndarray | None = None
    weights: np.ndarray | None = None

    @property
    def moved(self) -> bool:
        """Tell whether the alignment changed the pose."""
        return self.rays is not None


def align(
    renderer: Renderer,
    observation: Observation,
    T_cam_obj: np.ndarray,
    rounds: int,
    refined: RefinedPose | None = None,
    should_follow_flow: Callable[[float], bool] | None = None,
) -> Alignment:
    """Move a pose T_cam_obj [4, 4] to where its render is more similar to the image, or leave it as it is.

    Each round is kept only if the similarity rises and the pose stays near the one it began from.

    Args:
        rounds: at most; 0 only compares.
        refined: the pose as a refiner corrects it; the alignment begins from there where that is more
            similar to the image.
        should_follow_flow: tells from the similarity reached whether the flow is followed; None: always.
    """
    # Measure how similar the render at the given pose is to the image.
    view = RenderedView.of(renderer, observation, T_cam_obj)
    before = 0.0 if view is None else view.similarity
    best = Alignment(T_cam_obj, before, before)
    # Start from the refiner's pose if its render is more similar.
    if refined is not None and refined.rays is not None:
        other = RenderedView.of(renderer, observation, refined.T_cam_obj)
        if other is not None and (view is None or other.similarity > before):
            view, best = other, _alignment_of_refined(refined, other.similarity, before)
    if view is None or (should_follow_flow is not None and not should_follow_flow(best.similarity)):
        return best
    # Follow the flow as long as the similarity rises and the pose stays near.
    start = best.T_cam_obj
    for _ in range(rounds):
        found = _follow_flow(view)
        if found is None or not _near(start, found.T_cam_obj):
            break
        view = RenderedView.of(renderer, observation, found.T_cam_obj)
        if view is None or view.similarity <= best.similarity:
            break
        best = replace(found, similarity=view.similarity, similarity_before=best.similarity_before)
    return best


def _alignment_of_refined(refined: RefinedPose, similarity: float, before: float) -> Alignment:
    """Return the alignment that takes over a refiner's correction."""
    return Alignment(refined.T_cam_obj, similarity, before, refined.rays, refined.points, refined.weights)


@dataclass
class RenderedView:
    """Hold an object rendered at a pose, and the image cropped in the same way; P is the side of the crop.

    Attributes:
        virtual: camera of the crop; T_virt_obj: [4, 4].
        render: the object; crop: [P, P] uint8 grey, the image; visible: [P, P] bool, the object is rendered
            and the image may be used.
    """

    virtual: VirtualCamera
    T_virt_obj: np.ndarray
    render: Render
    crop: np.ndarray
    visible: np.ndarray

    @classmethod
    def of(cls, renderer: Renderer, observation: Observation, T_cam_obj: np.ndarray) -> RenderedView | None:
        """Render the view at a pose; None when the object is out of the image, or too small in it."""
        virtual = _framed(renderer, observation.camera, T_cam_obj)
        if virtual is None:
            return None
        T_virt_obj = invert(virtual.T_cam_virt) @ T_cam_obj
        render = renderer.render(T_virt_obj, virtual.K, (virtual.size, virtual.size))
        image, usable = warp_all((observation.image, observation.usable), observation.camera, virtual)
        visible = render.mask & (usable > 250)
        if visible.sum() < MIN_PIXELS:
            return None
        return cls(virtual, T_virt_obj, render, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), visible)

    @cached_property
    def grey(self) -> np.ndarray:
        """The render in grey, [P, P] uint8."""
        return cv2.cvtColor(self.render.rgb, cv2.COLOR_RGB2GRAY)

    @cached_property
    def similarity(self) -> float:
        """Compute the correlation -1..1 of render and image after local normalisation; 0: not known.

        The mean of two: over small neighbourhoods and over wide ones.
        """
        inside = cv2.erode(self.visible.astype(np.uint8), np.ones((3, 3))) > 0
        if inside.sum() < MIN_PIXELS:
            return 0.0
        return 0.5 * sum(
            self._similarity_over(fraction * self.virtual.size, inside)
            for fraction in (LOCAL_SIGMA, COARSE_SIGMA)
        )

    def _similarity_over(self, sigma: float, inside: np.ndarray) -> float:
        weight = inside.astype(np.float32)
        fraction = _blurred(weight, sigma) + 1e-3
        a, b = (_normalised_inside(grey, weight, fraction, sigma) for grey in (self.grey, self.crop))
        spread = np.sqrt(float((a * a).sum()) * float((b * b).sum()))
        return float((a * b).sum()) / spread if spread > 1e-6 else 0.0


def _framed(renderer: Renderer, camera: Camera, T_cam_obj: np.ndarray) -> VirtualCamera | None:
    """Make the camera that looks at the object; its crop is as large as the image's resolution allows."""
    points = transform_points(T_cam_obj, renderer.mesh.hull_points)
    if not np.isfinite(points).all() or points[:, 2].min() <= 1e-6:
        return None
    pixels = project(camera, points)
    try:
        box = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
        virtual = look_at_crop(camera, box, MAX_SIZE, pad=PADDING)
        size = min(MAX_SIZE, int(MAX_ENLARGEMENT * MAX_SIZE * camera.K[0, 0] / virtual.K[0, 0]))
        if size < MIN_SIZE:
            return None
        return virtual if size == MAX_SIZE else look_at_crop(camera, box, size, pad=PADDING)
    except VPOGError:
        return None


def _follow_flow(view: RenderedView) -> Alignment | None:
    """Find the pose that the flow from a view leads to; None when too few points agree."""
    # Match render and crop by optical flow.
    pixels, matched, weights = _flow_matches(view)
    if len(pixels) < MIN_POINTS:
        return None
    # Solve for the pose that the matches agree on.
    size, K = view.virtual.size, view.virtual.K
    points = view.render.coords[pixels[:, 1], pixels[:, 0]].astype(np.float64)
    pnp = solve_pnp(matched, points, K, weights, threshold_px=INLIER_THRESHOLD * size)
    if pnp is None or pnp.inlier.sum() < max(MIN_POINTS, MIN_FRACTION * len(pixels)):
        return None
    # Reject it if the inliers cover too little of the object.
    visible = np.argwhere(view.visible)[:, ::-1]
    if _cells(pixels[pnp.inlier], CELL * size) < MIN_SPREAD * _cells(visible, CELL * size):
        return None
    rays = pinhole.to_rays(matched[pnp.inlier], K) @ view.virtual.R_virt_cam
    T_cam_obj = view.virtual.T_cam_virt @ pnp.T_virt_obj
    return Alignment(T_cam_obj, 0.0, 0.0, rays, points[pnp.inlier], weights[pnp.inlier])


def _flow_matches(view: RenderedView) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match the render with the crop: pixels [N, 2] int, where the crop shows them [N, 2], weights [N]."""
    size = view.virtual.size
    # Put the blurred image behind the object, so that its outline does not bias the flow.
    blur = cv2.blur(view.crop, (size // 8 | 1,) * 2)
    ours = _normalised(np.where(view.visible, view.grey, blur), LOCAL_SIGMA * size)
    theirs = _normalised(view.crop, LOCAL_SIGMA * size)
    # Compute flow in both directions.
    flow, back = _flow(ours, theirs), _flow(theirs, ours)
    # Choose pixels on a grid, inside the object, at corners.
    margin = max(3, size // 36 | 1)
    inside = cv2.erode(view.visible.astype(np.uint8), np.ones((margin, margin))) > 0
    corner = cv2.cornerMinEigenVal(ours, margin)
    grid = np.zeros_like(inside)
    step = 3 if size > MAX_SIZE // 2 else 2
    grid[1::step, 1::step] = True
    y, x = np.nonzero(inside & grid & (corner > MIN_CORNER))
    matched = np.stack([x, y], axis=1) + flow[y, x]
    u, v = (matched[None, :, axis].astype(np.float32) for axis in (0, 1))
    if not len(x):
        return np.zeros((0, 2), int), np.zeros((0, 2)), np.zeros(0)
    # Keep those that the backward flow leads back to where they were.
    returned = cv2.remap(back, u, v, cv2.INTER_LINEAR)[0] + flow[y, x]
    good = np.linalg.norm(returned, axis=1) < max(MAX_ROUND_TRIP * size, 0.5)
    weights = np.sqrt(corner[y, x][good]).astype(np.float64)
    return np.stack([x, y], axis=1)[good], matched[good].astype(np.float64), weights


def _cells(pixels: np.ndarray, side: float) -> int:
    """Count the squares of a side that the pixels [N, 2] lie in."""
    return len(np.unique(pixels // side @ [1.0, 1e4]))


def _flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute optical flow [P, P, 2] float32, pixels, from image a to image b, [P, P] uint8 each."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setUseMeanNormalization(True)
    return dis.calc(a, b, None)


def _normalised(grey: np.ndarray, sigma: float) -> np.ndarray:
    """Normalise local brightness and contrast, [P, P] uint8."""
    grey = grey.astype(np.float32)
    away = grey - cv2.GaussianBlur(grey, (0, 0), sigma)
    spread = np.sqrt(cv2.GaussianBlur(away * away, (0, 0), sigma) + MIN_CONTRAST**2)
    return np.clip(away / spread * 48 + 128, 0, 255).astype(np.uint8)


def _normalised_inside(
    grey: np.ndarray, weight: np.ndarray, fraction: np.ndarray, sigma: float
) -> np.ndarray:
    """Normalise local brightness and contrast inside a mask: [P, P] float32, 0 outside, which is ignored.

    Args:
        weight: [P, P], 1 inside and 0 outside; fraction: [P, P], of each neighbourhood that is inside.
    """
    away = (grey - _blurred(grey * weight, sigma) / fraction) * weight
    return away / np.sqrt(_blurred(away * away, sigma) / fraction + MIN_CONTRAST**2)


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """Blur by a Gaussian, [P, P] float32; for a wide one the image is scaled down first, to save time."""
    factor = round(sigma / DOWNSAMPLE_SIGMA)
    if factor < 2:
        return cv2.GaussianBlur(values, (0, 0), sigma)
    small = cv2.resize(values, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    wide = cv2.GaussianBlur(small, (0, 0), sigma / factor)
    return cv2.resize(wide, values.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _near(T_from: np.ndarray, T_to: np.ndarray) -> bool:
    """Tell whether a pose [4, 4] is a correction of another, not a different one."""
    if not np.isfinite(T_to).all():
        return False
    shift = np.linalg.norm(T_to[:3, 3] - T_from[:3, 3])
    distance = np.linalg.norm(T_from[:3, 3])
    return rotation_angle(T_from[:3, :3], T_to[:3, :3]) < MAX_TURN and shift < MAX_SHIFT * distance
