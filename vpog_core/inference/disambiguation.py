"""Disambiguate poses whose renders look alike, by the image where the renders differ.

Two sides of a package often carry the same print but for a few words, so that a pose and the one turned by
half a turn are both similar to the image. Similarity over the whole object hardly tells which is correct, as
all that both renders show counts for both. Here only the difference of the renders counts. Such poses cannot
both be correct, and so they share one probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from scipy.special import logit, softmax

from vpog_core.geometry.se3 import invert
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.observation import Observation
from vpog_core.inference.rendered_view import COARSE_SIGMA, MIN_PIXELS, RenderedView, normalised_inside
from vpog_core.objects.renderer import Render, Renderer

MIN_OVERLAP = 0.8
"""Least intersection over union, in the image, of two renders that look alike."""
BLUR = 1.0
"""Standard deviation of the blur of what is compared, pixels: poses are exact to about that."""
LOGIT_PER_PREFERENCE = 8.0
"""Difference of log odds for a preference of 1. Fitted to 23 pairs of a correct and a wrong pose of three
packages in real images of HOPE: the image prefers the correct one in 20, the scores alone in 14."""
MAX_LOGIT_GAP = 4.0
"""Poses whose log odds are so far below the best one's are not compared: no preference puts them first."""


def disambiguate(
    renderer: Renderer, observation: Observation, hypotheses: Sequence[PoseHypothesis]
) -> list[PoseHypothesis]:
    """Share the score of the best of some hypotheses with those that look like it.

    Only poses that optical flow has aligned are compared: a shift would be taken for a difference.

    Args:
        hypotheses: of one detection, best first.

    Returns:
        The hypotheses in their order; scores of those that look alike sum up to that of the best one.
    """
    if not hypotheses or not _is_exact(hypotheses[0]):
        return list(hypotheses)
    # Find what may look like the best hypothesis, and how much the image prefers that to each.
    best, *others = hypotheses
    rivals = [h for h in others if _is_rival(h, best)]
    preferences = _preferences(renderer, observation, best, rivals) if rivals else []
    alike = [(h, p) for h, p in zip(rivals, preferences, strict=True) if p is not None]
    if not alike:
        return list(hypotheses)
    # Weigh them by score and preference, and let them share the score of the best.
    weights = [logit(h.score) - LOGIT_PER_PREFERENCE * p for h, p in [(best, 0.0), *alike]]
    shares = dict(zip([best, *(h for h, _ in alike)], softmax(weights), strict=True))
    return [replace(h, score=float(shares[h]) * best.score) if h in shares else h for h in hypotheses]


def _is_exact(hypothesis: PoseHypothesis) -> bool:
    """Tell whether optical flow has aligned a pose with the image."""
    return hypothesis.has_pose and hypothesis.has_flow


def _is_rival(hypothesis: PoseHypothesis, best: PoseHypothesis) -> bool:
    """Tell whether a preference of the image could put a hypothesis before the best one."""
    return _is_exact(hypothesis) and logit(hypothesis.score) > logit(best.score) - MAX_LOGIT_GAP


def _preferences(
    renderer: Renderer, observation: Observation, best: PoseHypothesis, rivals: Sequence[PoseHypothesis]
) -> list[float | None]:
    """Compute how much the image prefers the best pose to each rival; None for those that look different."""
    view = RenderedView.of(renderer, observation, best.T_cam_obj)
    if view is None:
        return [None] * len(rivals)
    T_virt_cam, size = invert(view.virtual.T_cam_virt), view.virtual.size
    renders = [renderer.render(T_virt_cam @ h.T_cam_obj, view.virtual.K, (size, size)) for h in rivals]
    return [preference(view, render) for render in renders]


def preference(view: RenderedView, other: Render) -> float | None:
    """Compute how much the image looks like the render of a view, rather than like another one of its camera.

    Brightness and contrast are normalised locally in all three, where both renders show the object. Where
    the image lies between the two is its projection on their difference.

    Returns:
        1/2 where the image is the view's render, -1/2 where it is the other one, 0 in the middle; None where
        the two do not overlap enough to look alike, or do not differ.
    """
    mask = view.render.mask
    if (mask & other.mask).sum() < MIN_OVERLAP * (mask | other.mask).sum():
        return None
    inside = cv2.erode((view.visible & other.mask).astype(np.uint8), np.ones((3, 3))) > 0
    if inside.sum() < MIN_PIXELS:
        return None
    greys = view.grey, cv2.cvtColor(other.rgb, cv2.COLOR_RGB2GRAY), view.crop
    normalised = normalised_inside(greys, inside, COARSE_SIGMA * view.virtual.size)
    ours, theirs, image = (cv2.GaussianBlur(grey, (0, 0), BLUR)[inside] for grey in normalised)
    difference = ours - theirs
    energy = float(difference @ difference)
    if energy < 1e-6 * len(difference):
        return None
    return float(np.clip(difference @ (image - (ours + theirs) / 2) / energy, -0.5, 0.5))
