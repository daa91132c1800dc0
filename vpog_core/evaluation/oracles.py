"""Measure how much each stage loses: the truth takes the place of one stage after the other.

whole        retrieval, matching, PnP, refinement and alignment, as they are
retrieval    the template cluster and the roll nearest to the truth are used
matching     the retrieved templates are used; every crop pixel they show is matched with its true point
both         both of these: the remaining error is that of PnP
refiner      the pose matched with the cluster nearest to the truth, corrected by the refiner alone
start        the true pose, corrected by the refiner alone: how far it leads away from the truth
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from vpog_core.evaluation.benchmark import BenchmarkFrame, BenchmarkObject, Truth
from vpog_core.geometry.camera import warp
from vpog_core.geometry.pnp import PnPResult, solve_pnp
from vpog_core.geometry.se3 import invert, rotation_angle
from vpog_core.inference.correspondence import PIXEL_STEP
from vpog_core.inference.crop import Crop, crop_detection
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.matching import CLUSTER_SIZE
from vpog_core.inference.observation import Observation
from vpog_core.inference.onboarding import Cluster, encode_images
from vpog_core.inference.pose_solver import threshold_px
from vpog_core.inference.query import Query
from vpog_core.inference.render_and_compare import PoseToRefine, refine
from vpog_core.inference.retrieval import ViewSearch, best_views, crop_at_turns, template_logits
from vpog_core.types import Camera, Detection

MAX_POINT_DISTANCE = 0.02
"""A template shows a point when one of its pixels lies within this fraction of the diameter."""
STAGES = {
    "retrieval": "true template cluster and roll",
    "matching": "true matches, templates as found",
    "both": "both: PnP alone",
    "refiner": "true template cluster and roll, then the refiner alone",
    "start": "true pose, then the refiner alone",
}
"""Names of the oracles, and their names in tables: what is taken from the truth."""


@dataclass
class OracleResult:
    """Holds the poses of one detection with the truth in place of a stage.

    Attributes:
        angles: degrees from the truth of each view retrieved, best first.
        poses: T_cam_obj [4, 4] or None, for each of `STAGES`.
    """

    angles: list[float]
    poses: dict[str, np.ndarray | None]


def run_oracles(
    estimator: PoseEstimator,
    frame: BenchmarkFrame,
    detection: Detection,
    truth: Truth,
    target: BenchmarkObject,
) -> OracleResult:
    """Run one detection with each oracle; `detection.class_id` is the library's name of the target.

    Raises:
        VPOGError: the detection cannot be cropped.
    """
    model, onboarded = estimator.model, estimator.onboarded(detection.class_id)
    options = estimator.options
    # Crop and encode the detection, and retrieve views of it.
    crop = crop_detection(frame.image, frame.camera, detection, model.config.image_size)
    observation = Observation(frame.image, frame.camera, detection.mask)
    turns = encode_images(model, crop_at_turns(crop, observation))
    with torch.inference_mode():
        logits = template_logits(model.describe(turns), onboarded)
    symmetry = estimator.library.symmetry(detection.class_id)
    search = ViewSearch(logits, onboarded, symmetry=symmetry)
    found = best_views(search, options.hypotheses + options.retry_views)
    R_true = [crop.virtual.R_virt_cam @ (truth.T_cam_obj @ S)[:3, :3] for S in target.symmetries]
    angles = [
        min(np.degrees(rotation_angle(onboarded.rotation(h.view, h.roll_index), R)) for R in R_true)
        for h in found
    ]
    # Find the cluster nearest to the truth, and the true correspondences.
    true_cluster = onboarded.nearest_cluster(R_true[0], CLUSTER_SIZE)
    retrieved = [onboarded.cluster(h.view, h.roll_index, CLUSTER_SIZE) for h in found]
    pixels, points = true_correspondences(crop, frame.camera, truth, target)
    query = Query(
        detection,
        crop,
        observation,
        onboarded,
        symmetry,
        encoding=turns[:1],
    )
    # Solve with the truth in place of retrieval, of matching, and of both.
    solved = {
        "retrieval": estimator.solve_from(query, true_cluster).pnp,
        "matching": _best(
            solve_with_true_matches(crop, c, pixels, points, target.diameter) for c in retrieved
        ),
        "both": solve_with_true_matches(crop, true_cluster, pixels, points, target.diameter),
    }
    T_cam_virt = crop.virtual.T_cam_virt
    poses = {name: None if pnp is None else T_cam_virt @ pnp.T_virt_obj for name, pnp in solved.items()}
    # Refine the matched pose, and the true pose, by the refiner alone.
    matched = estimator.match_with(query, true_cluster)
    poses["refiner"] = refine_only(estimator, query, matched.T_cam_obj if matched.has_pose else None)
    poses["start"] = refine_only(estimator, query, truth.T_cam_obj)
    return OracleResult(angles, poses)


def refine_only(estimator: PoseEstimator, query: Query, T_cam_obj: np.ndarray | None) -> np.ndarray | None:
    """Refine a pose [4, 4] by the refiner without alignment; returned as it is where there is no refiner."""
    refiner, rounds = estimator.networks.refiner, estimator.options.refiner_rounds
    if T_cam_obj is None or refiner is None or not rounds:
        return T_cam_obj
    renderer = estimator.renderer(query.detection.class_id)
    (found,) = refine(refiner, [PoseToRefine(renderer, query.observation, T_cam_obj)], rounds)
    return found.T_cam_obj


def true_correspondences(
    crop: Crop, camera: Camera, truth: Truth, target: BenchmarkObject
) -> tuple[np.ndarray, np.ndarray]:
    """Return crop pixels [N, 2] that show the object, and the object points [N, 3] they show.

    Where the benchmark has no mask of what is visible, the whole silhouette counts.
    """
    virtual = crop.virtual
    T_virt_obj = invert(virtual.T_cam_virt) @ truth.T_cam_obj
    rendered = target.renderer.render(T_virt_obj, virtual.K, (virtual.size, virtual.size))
    use, mask = rendered.mask.copy(), truth.read_mask()
    if mask is not None:
        use &= warp(mask.astype(np.uint8) * 255, camera, virtual) > 127
    grid = np.zeros_like(use)
    grid[PIXEL_STEP // 2 :: PIXEL_STEP, PIXEL_STEP // 2 :: PIXEL_STEP] = True
    row, column = np.nonzero(use & grid)
    return np.stack([column, row], axis=1).astype(np.float64), rendered.coords[row, column].astype(np.float64)


def solve_with_true_matches(
    crop: Crop, cluster: Cluster, pixels: np.ndarray, points: np.ndarray, diameter: float
) -> PnPResult | None:
    """Solve PnP on true matches: each true point becomes the nearest point that a template shows."""
    visible = cluster.coords.reshape(-1, 3)
    visible = visible[np.isfinite(visible).all(axis=1)]
    if not len(points) or not len(visible):
        return None
    distance, index = cKDTree(visible).query(points, distance_upper_bound=MAX_POINT_DISTANCE * diameter)
    seen = np.isfinite(distance)
    return solve_pnp(pixels[seen], visible[index[seen]], crop.virtual.K, threshold_px=threshold_px(crop))


def _best(results) -> PnPResult | None:
    """Return the result with most inliers."""
    found = [result for result in results if result is not None]
    return max(found, key=lambda result: int(result.inlier.sum()), default=None)
