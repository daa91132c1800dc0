"""Align the outlines of a rendered object with edges of the image.

An object in one colour has few corners that optical flow could follow: its outline shows how it stands. From
each point of that the image is searched along the outline's normal for the edge that belongs to it, and the
pose is moved so that the outline lies on the edges (RAPID: Harris and Stennett 1990; Drummond and Cipolla,
Real-Time Visual Tracking of Complex Structures, 2002). What hides an object has edges, too: they lie
anywhere, and a robust kernel leaves them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vpog_core.geometry import pinhole
from vpog_core.geometry.se3 import difference, moved, transform_points
from vpog_core.geometry.vectors import dot
from vpog_core.inference.alignment import is_near
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.observation import Observation
from vpog_core.inference.pose_solver import moved_to
from vpog_core.inference.rendered_view import MAX_SIZE, RenderedView
from vpog_core.objects.renderer import Render
from vpog_core.objects.view_renderer import ViewRenderer

ROUNDS = ((10, 6.0), (6, 3.0), (3, 1.5))
"""How far edges are searched for in each round, and the standard deviation of where they are; pixels."""
MAX_POINTS, MIN_POINTS = 400, 20
"""Points of the outline that are used; with fewer the pose stays."""
OCCLUDING_STEP = 0.04
"""How far, in diameters, a surface lies behind the one beside it where an outline is seen between them."""
RIM = 0.5
"""Distance of an outline from the middle of the last pixel that shows the object, pixels."""
BLUR = 1.0
"""Standard deviation of the blur of the image, pixels."""
BLUR_SIZE = 7
"""Side of the blur's kernel, pixels."""
DIRECTION_BLUR = 1.5
"""Standard deviation of the blur of the render, from which an outline's normals are computed, pixels."""
MIN_EDGE = 4.0
"""Smallest step of grey levels in two pixels that is an edge."""
STRONG_EDGE = 20.0
"""Step of grey levels in two pixels from which edges count alike; fainter ones count less."""
STEPS = 5
"""Steps to the pose of each round."""
MIN_NOISE_PX = 0.5
"""Standard deviation of an edge's place, pixels, at least."""
PRIOR_WEIGHT = 0.25
"""Weight of the pose known before. Its covariance is of errors that differ from point to point; those of a
network's flow are alike over whole surfaces, and larger where these show nothing."""
AGREEMENT_SEARCH, AGREEING_PX = (8, 4.0), 1.5
"""How edges are searched for to tell how far outlines agree with them, as `ROUNDS`; and the distance up to
which they agree, pixels."""


def outline_aligned(
    renderer: ViewRenderer,
    observation: Observation,
    hypothesis: PoseHypothesis,
    factor: float,
    rounds: Sequence[tuple[int, float]] = ROUNDS,
    max_size: int = MAX_SIZE,
) -> PoseHypothesis:
    """Return a hypothesis at the pose that its outline tells; itself where flow did, or where that stays.

    Args:
        factor: on the variances, from the calibration; rounds, max_size: as of `align_outline`.
    """
    if not hypothesis.has_pose or hypothesis.has_flow:
        return hypothesis
    T_cam_obj = hypothesis.T_cam_obj
    T_aligned = align_outline(renderer, observation, T_cam_obj, hypothesis.covariance, rounds, max_size)
    return hypothesis if T_aligned is T_cam_obj else moved_to(hypothesis, T_aligned, factor)


def align_outline(
    renderer: ViewRenderer,
    observation: Observation,
    T_cam_obj: np.ndarray,
    covariance: np.ndarray,
    rounds: Sequence[tuple[int, float]] = ROUNDS,
    max_size: int = MAX_SIZE,
) -> np.ndarray:
    """Move a pose to where the object's outlines lie on edges of the image, or return it as it is.

    Args:
        T_cam_obj: [4, 4]; covariance: [6, 6] of it, metres and radians: where it is exact, it hardly moves.
        rounds: how edges are searched for in each, see `ROUNDS`.
        max_size: side of the crop, pixels, at most.

    Returns:
        The pose [4, 4] after all rounds, if it is near the given one and more of its outlines lie on edges.
    """
    known = KnownPose(T_cam_obj, PRIOR_WEIGHT * np.linalg.inv(covariance))
    seen = start = _outlined(renderer, observation, T_cam_obj, max_size)
    for reach, spread in rounds:
        # Find the edges that belong to the outline.
        if seen is None:
            return T_cam_obj
        view, outline = seen
        edges = find_edges(view.crop, outline, reach, spread)
        if edges.found.sum() < MIN_POINTS:
            return T_cam_obj
        # Move the pose, and find the outline there.
        T = _fit(view, outline, edges, known)
        if not is_near(T_cam_obj, T, renderer.mesh.center):
            return T_cam_obj
        seen = _outlined(renderer, observation, T, max_size)
    # Keep the pose if more of its outline lies on edges.
    return T if seen is not None and _agreement(*seen) > _agreement(*start) else T_cam_obj


@dataclass(frozen=True, eq=False)
class KnownPose:
    """Holds what is known of a pose before its outlines are compared with the image.

    Attributes:
        T_cam_obj: [4, 4]; information: [6, 6], the inverse of its covariance, by its weight.
    """

    T_cam_obj: np.ndarray
    information: np.ndarray


@dataclass(frozen=True, eq=False)
class Outline:
    """Holds N points of a rendered object's outline, as it is seen before the background and before itself.

    Attributes:
        pixels: [N, 2] int, the last ones that show the near surface.
        normals: [N, 2] unit, from there to what is farther away.
        points: [N, 3] metres, object frame.
        searched: [P, P] uint8, nonzero where edges are searched for: away from the image's border.
    """

    pixels: np.ndarray
    normals: np.ndarray
    points: np.ndarray
    searched: np.ndarray


@dataclass(frozen=True, eq=False)
class Edges:
    """Holds the edge that belongs to each of N points of an outline.

    Attributes:
        offset: [N] pixels from the point's pixel, along its normal; strength: [N] grey levels in two pixels.
        found: [N] bool.
    """

    offset: np.ndarray
    strength: np.ndarray
    found: np.ndarray


def _outlined(
    renderer: ViewRenderer, observation: Observation, T_cam_obj: np.ndarray, max_size: int
) -> tuple[RenderedView, Outline] | None:
    """Render a pose [4, 4], and find its outline; None where the image shows too little of that."""
    view = RenderedView.of(renderer, observation, T_cam_obj, max_size)
    outline = None if view is None else find_outline(view)
    return None if outline is None else (view, outline)


def find_outline(view: RenderedView) -> Outline | None:
    """Find points of a view's outlines where the image may be used; None where there are too few."""
    render = view.render
    y, x = np.nonzero((_is_outline(render) & view.visible)[3:-3, 3:-3])
    if len(x) < MIN_POINTS:
        return None
    pixels = np.stack([x, y], axis=1) + 3
    if len(pixels) > MAX_POINTS:
        pixels = np.random.default_rng(0).choice(pixels, MAX_POINTS, replace=False)
    points = render.coords[pixels[:, 1], pixels[:, 0]].astype(np.float64)
    # The border of the image is an edge of nothing, and the blur draws it in.
    searched = cv2.erode(view.inside, np.ones((BLUR_SIZE, BLUR_SIZE)), borderValue=0)
    return Outline(pixels, _outward(render, pixels), points, searched)


def _is_outline(render: Render) -> np.ndarray:
    """Tell which pixels [P, P] bool show the object beside the background, or beside a surface far behind."""
    mask, points, normals = render.mask, render.coords, render.normals
    step = OCCLUDING_STEP * np.linalg.norm(np.ptp(points[mask], axis=0))
    outline = np.zeros_like(mask)
    left, right, above, below = np.s_[:, :-1], np.s_[:, 1:], np.s_[:-1], np.s_[1:]
    for here, beside in ((left, right), (right, left), (above, below), (below, above)):
        # What the next pixel shows lies behind the plane that touches the surface here.
        away = points[beside] - points[here]
        is_behind = np.einsum("yxc,yxc->yx", away, normals[here]) < -step
        outline[here] |= mask[here] & (is_behind | ~mask[beside])
    return outline


def _outward(render: Render, pixels: np.ndarray) -> np.ndarray:
    """Compute the normals [N, 2] of an outline from where near surfaces end."""
    depth, mask = render.depth, render.mask
    spread = max(float(np.ptp(depth[mask])), 1e-9)
    nearness = np.where(mask, 1 + (depth.max() - depth) / spread, 0).astype(np.float32)
    blurred = cv2.GaussianBlur(nearness, (0, 0), DIRECTION_BLUR)
    x, y = (cv2.Sobel(blurred, cv2.CV_32F, *order)[pixels[:, 1], pixels[:, 0]] for order in ((1, 0), (0, 1)))
    return -np.stack([x, y], axis=1) / np.maximum(np.hypot(x, y), 1e-9)[:, None]


def find_edges(crop: np.ndarray, outline: Outline, reach: int, spread: float) -> Edges:
    """Find the edge of a grey image [P, P] that belongs to each point of an outline.

    Args:
        reach: pixels from the outline, at most.
        spread: standard deviation, pixels, of where edges are expected: a strong one further away gives way
            to a fainter one that is near.
    """
    # Compute the step of grey levels along the normals.
    along = np.arange(-reach - 1, reach + 2)
    x, y = (outline.pixels[:, None] + along[:, None] * outline.normals[:, None]).transpose(2, 0, 1)
    blurred = cv2.GaussianBlur(crop, (BLUR_SIZE, BLUR_SIZE), BLUR).astype(np.float32)
    at = x.astype(np.float32), y.astype(np.float32)
    line = cv2.remap(blurred, *at, cv2.INTER_LINEAR)
    is_searched = cv2.remap(outline.searched, *at, cv2.INTER_NEAREST) > 0
    step = np.abs(line[:, 2:] - line[:, :-2])
    # Choose the largest one, weighed by how likely it is there, that is larger than those beside it.
    expected = np.exp(-0.5 * ((along[1:-1] - RIM) / spread) ** 2)
    likely = step[:, 1:-1] * expected[1:-1]
    likely[(step[:, 1:-1] < step[:, :-2]) | (step[:, 1:-1] <= step[:, 2:])] = 0
    likely[~(is_searched[:, :-4] & is_searched[:, 4:])] = 0
    rows, best = np.arange(len(step)), likely.argmax(axis=1) + 1
    before, here, after = (step[rows, best + k] for k in (-1, 0, 1))
    # Its place is the top of the parabola through the three.
    bend = np.minimum(before - 2 * here + after, -1e-6)
    offset = along[1:-1][best] + np.clip(0.5 * (before - after) / bend, -0.5, 0.5)
    return Edges(offset, here, (likely.max(axis=1) > 0) & (here > MIN_EDGE))


def _agreement(view: RenderedView, outline: Outline) -> float:
    """Compute the fraction 0..1 of a view's outline that lies on edges of the image."""
    edges = find_edges(view.crop, outline, *AGREEMENT_SEARCH)
    return float((edges.found & (np.abs(edges.offset - RIM) < AGREEING_PX)).mean())


def _fit(view: RenderedView, outline: Outline, edges: Edges, known: KnownPose) -> np.ndarray:
    """Find the likeliest pose T_cam_obj [4, 4] by where the outline of a view lies in the image.

    Gauss-Newton on the distances along the normals, reweighted by Geman and McClure's kernel, and on the
    difference from the pose known before. Steps are those of `se3.moved`.
    """
    K, R_virt_cam, found = view.virtual.K, view.virtual.R_virt_cam, edges.found
    normals, points = outline.normals[found], outline.points[found]
    targets = dot(normals, outline.pixels[found]) + edges.offset[found] - RIM
    strength = np.minimum(edges.strength[found] / STRONG_EDGE, 1.0)
    T = view.virtual.T_cam_virt @ view.T_virt_obj
    for _ in range(STEPS):
        # Compute the distances to the edges, and their derivatives by the step.
        seen = transform_points(T, points)
        p = seen @ R_virt_cam.T
        distance = dot(normals, pinhole.to_pixels(p, K)) - targets
        across = normals * K[[0, 1], [0, 1]] / p[:, 2:]
        by_place = np.column_stack([across, -dot(across, p[:, :2] / p[:, 2:])]) @ R_virt_cam
        J = np.column_stack([by_place, np.cross(seen - T[:3, 3], by_place)])
        # Weigh them by their noise, and take the step.
        noise = max(1.4826 * float(np.median(np.abs(distance))), MIN_NOISE_PX)
        weights = strength / (1 + (distance / (2 * noise)) ** 2) ** 2 / noise**2
        gradient = (J * weights[:, None]).T @ distance + known.information @ difference(T, known.T_cam_obj)
        T = moved(T, -np.linalg.solve((J * weights[:, None]).T @ J + known.information, gradient))
    return T
