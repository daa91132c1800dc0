"""Test that poses are correct with the truth in place of the network, whatever the network is worth."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vpog_core.evaluation.heldout import HeldOut
from vpog_core.evaluation.oracles import (
    STAGES,
    run_oracles,
    solve_with_true_matches,
    true_correspondences,
)
from vpog_core.evaluation.pose_error import add
from vpog_core.geometry.se3 import rotation_angle, transform_points
from vpog_core.inference.crop import crop_detection
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.matching import CLUSTER_SIZE
from vpog_core.inference.networks import DEFAULT_REFINER, Networks
from vpog_core.models.checkpoint import load_refiner
from vpog_core.models.config import VPOGConfig
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.types import Detection

SIZES = {
    "image_size": 48, "window": 3, "depth": 1, "embed_dim": 64, "num_heads": 2, "embed_from_stem": True,
    "aa_depth": 1, "aa_heads": 2, "fine_dim": 16, "flow_hidden": 32, "flow_layers": 2, "retrieval_dim": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Return an untrained network, a held-out image with an occluded object, and its detection."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("oracles")
    benchmark = HeldOut(objects=1, crops=1)
    (root / "objects").mkdir()
    benchmark.write_library(root / "objects")
    model = VPOGModel(VPOGConfig(**SIZES)).eval().requires_grad_(False)
    estimator = PoseEstimator(root / "objects", Networks(model, "untrained"), cache_dir=root / "cache")
    frame = benchmark.frame((4, 1000))
    detection = Detection(benchmark.library_id(1), frame.truths[0].box)
    return estimator, frame, detection, frame.truths[0], benchmark.object(1)


@pytest.fixture(scope="module")
def crop(case):
    estimator, frame, detection, _, _ = case
    return crop_detection(frame.image, frame.camera, detection, estimator.model.config.image_size)


def test_true_points_lie_where_they_are_seen_and_only_where_visible(case, crop):
    _, frame, _, truth, target = case
    pixels, points = true_correspondences(crop, frame.camera, truth, target)
    in_camera = transform_points(truth.T_cam_obj, points)
    virtual = in_camera @ crop.virtual.R_virt_cam.T @ crop.virtual.K.T
    np.testing.assert_allclose(virtual[:, :2] / virtual[:, 2:], pixels, atol=1e-3)
    in_image = in_camera @ frame.camera.K.T
    column, row = np.round(in_image[:, :2] / in_image[:, 2:]).astype(int).T
    # A crop pixel is some image pixels wide, so that some at the rim round to the other side.
    assert truth.read_mask()[row, column].mean() > 0.9
    # About the visible half: the oracle must not see through what hides the rest.
    alone = target.renderer.render(truth.T_cam_obj, frame.camera.K, frame.depth.shape).mask.sum()
    assert truth.read_mask().sum() < 0.65 * alone


def test_the_nearest_cluster_is_within_half_a_step_of_the_truth(case, crop):
    estimator, _, detection, truth, _ = case
    onboarded = estimator.onboarded(detection.class_id)
    R = crop.virtual.R_virt_cam @ truth.T_cam_obj[:3, :3]
    cluster = onboarded.nearest_cluster(R, CLUSTER_SIZE)
    chosen = next(key for key, kept in onboarded._clusters.items() if kept is cluster)
    found = onboarded.rotation(chosen[0], chosen[-1])
    # Half a step of roll is 15 degrees, of view about 11.
    assert np.degrees(rotation_angle(found, R)) < 19


def test_true_matches_give_the_true_pose(case, crop):
    estimator, frame, detection, truth, target = case
    R = crop.virtual.R_virt_cam @ truth.T_cam_obj[:3, :3]
    cluster = estimator.onboarded(detection.class_id).nearest_cluster(R, CLUSTER_SIZE)
    pixels, points = true_correspondences(crop, frame.camera, truth, target)
    found = solve_with_true_matches(crop, cluster, pixels, points, target.diameter)
    T = crop.virtual.T_cam_virt @ found.T_virt_obj
    # Template pixels are 2 % of the diameter apart at 48 pixels.
    assert add(T, truth.T_cam_obj, target.hull) < 0.05 * target.diameter


def test_templates_that_do_not_show_the_points_give_nothing(case, crop):
    estimator, frame, detection, truth, target = case
    R = crop.virtual.R_virt_cam @ truth.T_cam_obj[:3, :3]
    onboarded = estimator.onboarded(detection.class_id)
    behind = onboarded.nearest_cluster(np.diag([-1.0, 1.0, -1.0]) @ R, CLUSTER_SIZE)
    pixels, points = true_correspondences(crop, frame.camera, truth, target)
    right = onboarded.nearest_cluster(R, CLUSTER_SIZE)
    counts = []
    for cluster in (behind, right):
        found = solve_with_true_matches(crop, cluster, pixels, points, target.diameter)
        counts.append(0 if found is None else int(found.inlier.sum()))
    assert counts[0] < 0.5 * counts[1]


def test_an_untrained_network_loses_nothing_when_both_oracles_answer(case):
    answer = run_oracles(*case)
    assert set(answer.poses) == set(STAGES)
    assert len(answer.angles) == case[0].options.hypotheses + case[0].options.retry_views
    assert all(0 <= angle <= 180 for angle in answer.angles)
    truth, target = case[3], case[4]
    assert add(answer.poses["both"], truth.T_cam_obj, target.hull) < 0.05 * target.diameter


def test_the_refiner_leaves_the_true_pose_about_where_it_is(case):
    estimator, _, _, truth, target = case
    networks = replace(estimator.networks, refiner=load_refiner(DEFAULT_REFINER, "cpu"))
    with_refiner = PoseEstimator(estimator.library, networks)
    poses = run_oracles(with_refiner, *case[1:]).poses
    moved = add(poses["start"], truth.T_cam_obj, target.hull)
    # It is moved, so the refiner has run; half of the object is hidden, and a cell is 3 % of the diameter.
    assert 0 < moved < 0.1 * target.diameter
    # Without a refiner both rows are the poses that it would have begun from.
    np.testing.assert_array_equal(run_oracles(*case).poses["start"], truth.T_cam_obj)
