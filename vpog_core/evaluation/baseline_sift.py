"""Estimate poses by the classical method of OpenCV: SIFT, templates and PnP with RANSAC.

The object's 162 templates are the views the network uses, too. Their SIFT features (Lowe, IJCV 2004; compared
as RootSIFT, Arandjelovic and Zisserman, CVPR 2012) carry object points. A crop's features are matched with
every template's by the ratio test; the templates with most matches each give a pose by RANSAC; the pose with
most inliers is refined on what agrees with it in all of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from vpog_core.geometry.boxes import clip_box
from vpog_core.geometry.camera import look_at_crop, warp
from vpog_core.geometry.se3 import transform
from vpog_core.inference.correspondence import lift
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.template_set import build_template_set
from vpog_core.types import Camera, Detection, Estimates, PoseEstimate, VPOGError
from vpog_core.utils.atomic_file import atomic_write

TEMPLATE_SIZE, CROP_SIZE = 224, 448
"""Sides in pixels. Crops are larger than most objects are in an image, so that small features are found."""
CONTRAST = 0.02
"""SIFT's contrast threshold, half of OpenCV's default: it finds more features on weak texture."""
RATIO = 0.8
CANDIDATES = 10
"""Number of templates that RANSAC is run on."""
MIN_MATCHES = 5
THRESHOLD = 8.0
"""Largest reprojection error of an inlier, pixels of the crop."""
HALF_SCORE_INLIERS = 20.0
"""Inliers at which a score is one half."""


@dataclass
class _Features:
    """Holds descriptors [M, 128] float16, points [M, 3] metres, start [V + 1]: each template's first row."""

    descriptors: np.ndarray
    points: np.ndarray
    start: np.ndarray


class SiftBaseline:
    """Estimates poses of a library's objects; `estimate` is that of `PoseEstimator`."""

    def __init__(self, library: ObjectLibrary) -> None:
        self.library = library
        self._sift = cv2.SIFT_create(contrastThreshold=CONTRAST)
        self._objects: dict[str, _Features] = {}

    def onboard(self, object_id: str) -> None:
        """Render the templates and find their features, or read them from the library's cache."""
        if object_id in self._objects:
            return
        path = self.library.templates_path(object_id, TEMPLATE_SIZE)
        path = path.with_name(f"sift-{CONTRAST}-{path.name}")
        try:
            self._objects[object_id] = _Features(**load_file(path))
        except (OSError, SafetensorError, TypeError):
            self._objects[object_id] = self._find_features(object_id)
            _keep(self._objects[object_id], path)

    def _find_features(self, object_id: str) -> _Features:
        templates = build_template_set(self.library.mesh(object_id), object_id, TEMPLATE_SIZE)
        descriptors, points, counts = [], [], [0]
        for image, mask, coords in zip(templates.images, templates.mask, templates.coords, strict=True):
            pixels, found = self._describe(image, mask)
            coords = np.where(mask[..., None], coords, np.nan).astype(np.float32)[None]
            where = lift(coords, np.zeros(len(pixels), int), pixels) if len(pixels) else np.zeros((0, 3))
            good = np.isfinite(where).all(axis=1)
            descriptors.append(found[good].astype(np.float16))
            points.append(where[good] + templates.center)
            counts.append(int(good.sum()))
        return _Features(np.concatenate(descriptors), np.concatenate(points), np.cumsum(counts))

    def estimate(self, image: np.ndarray, camera: Camera, detections: Sequence[Detection]) -> Estimates:
        """Estimate a pose for every detection, in their order; where there is none, `reason` says why."""
        begin = time.perf_counter()
        results = [self._one(image, camera, detection) for detection in detections]
        return Estimates(results, {"sift": time.perf_counter() - begin})

    def _one(self, image: np.ndarray, camera: Camera, detection: Detection) -> PoseEstimate:
        result = PoseEstimate(detection.class_id, detection.instance)
        try:
            virtual = look_at_crop(camera, detection.box, CROP_SIZE)
        except VPOGError as error:
            result.reason = str(error)
            return result
        inside = warp(_region(detection, image.shape[:2]), camera, virtual) > 127
        pixels, descriptors = self._describe(warp(image, camera, virtual), inside)
        self.onboard(detection.class_id)
        target = self._objects[detection.class_id]
        matches = _match(descriptors, target)
        pose, inliers = _best_pose(pixels, matches, target.points, virtual.K)
        if pose is None:
            result.reason = "Too few features agree with one pose."
            return result
        result.T_cam_obj = virtual.T_cam_virt @ pose
        result.inliers = inliers
        result.score = inliers / (inliers + HALF_SCORE_INLIERS)
        return result

    def _describe(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute pixels [N, 2] and RootSIFT [N, 128] of features of an RGB image inside a mask [H, W]."""
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        keypoints, found = self._sift.detectAndCompute(gray, mask.astype(np.uint8) * 255)
        if not keypoints:
            return np.zeros((0, 2)), np.zeros((0, 128), dtype=np.float32)
        root = np.sqrt(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-9))
        return np.array([k.pt for k in keypoints], dtype=np.float64), root


def _keep(features: _Features, path: Path) -> None:
    """Write to the cache; a cache that cannot be written costs time only."""
    with suppress(OSError):
        atomic_write(path, save(vars(features)))


def _region(detection: Detection, size: tuple[int, int]) -> np.ndarray:
    """Return a mask [H, W] uint8, 255 in the detection's mask, or in its box."""
    if detection.mask is not None:
        return detection.mask.astype(np.uint8) * 255
    region = np.zeros(size, dtype=np.uint8)
    x0, y0, x1, y1 = np.round(clip_box(detection.box, size[1], size[0])).astype(int)
    region[y0:y1, x0:x1] = 255
    return region


def _match(query: np.ndarray, target: _Features) -> list[np.ndarray]:
    """Match features: [n, 2] (of the crop, of the object) for the best templates, most matches first."""
    if len(query) < MIN_MATCHES:
        return []
    similarity = query.astype(np.float32) @ target.descriptors.astype(np.float32).T
    found = []
    for low, high in zip(target.start[:-1], target.start[1:], strict=True):
        if high - low < MIN_MATCHES:
            continue
        part = similarity[:, low:high]
        two = np.argpartition(-part, 1, axis=1)[:, :2]
        values = np.take_along_axis(part, two, axis=1)
        order = (values[:, 1] > values[:, 0]).astype(int)
        near, far = 2 - 2 * values.max(axis=1), 2 - 2 * values.min(axis=1)
        good = np.flatnonzero(near < RATIO**2 * far)
        found.append(np.stack([good, low + two[good, order[good]]], axis=1))
    found.sort(key=lambda matches: -len(matches))
    return [matches for matches in found[:CANDIDATES] if len(matches) >= MIN_MATCHES]


def _best_pose(
    pixels: np.ndarray, matches: list[np.ndarray], points: np.ndarray, K: np.ndarray
) -> tuple[np.ndarray | None, int]:
    """Find T_virt_obj [4, 4] with most inliers, refined on all templates' matches, and count its inliers."""
    best, most = None, MIN_MATCHES - 1
    for rows in matches:
        found, rotation, shift, inliers = cv2.solvePnPRansac(
            points[rows[:, 1]], pixels[rows[:, 0]], K, None,
            iterationsCount=1000, reprojectionError=THRESHOLD, confidence=0.999, flags=cv2.SOLVEPNP_AP3P,
        )  # fmt: skip
        if found and inliers is not None and len(inliers) > most and shift[2] > 0:
            best, most = (rotation, shift), len(inliers)
    if best is None:
        return None, 0
    rows = np.unique(np.concatenate(matches), axis=0)
    for _ in range(2):
        projected = cv2.projectPoints(points[rows[:, 1]], *best, K, None)[0][:, 0]
        agree = np.linalg.norm(projected - pixels[rows[:, 0]], axis=1) < THRESHOLD
        if agree.sum() < MIN_MATCHES:
            break
        best = cv2.solvePnPRefineLM(points[rows[agree, 1]], pixels[rows[agree, 0]], K, None, *best)
    return transform(cv2.Rodrigues(best[0])[0], best[1].ravel()), most
