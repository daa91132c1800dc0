"""Test the geometric chain (crop, cluster, lift, PnP, camera) with perfect matches in the network's place."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from vpog_core.geometry.projection import project
from vpog_core.geometry.se3 import invert, rotation_angle, rotation_z, transform, transform_points
from vpog_core.inference.calibration import Calibration
from vpog_core.inference.correspondence import correspondences, dense_matches
from vpog_core.inference.crop import Crop, crop_detection
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.match_view import match_view
from vpog_core.inference.onboarding import ROLLS, Cluster, OnboardedObject, roll_angle
from vpog_core.inference.options import Options
from vpog_core.inference.pose_solver import draw_samples, solve, solve_all
from vpog_core.inference.rendered_cluster import cluster_at_pose
from vpog_core.models.flow_head import MatchedPixels
from vpog_core.models.vpog_model import Matches
from vpog_core.objects.renderer import Renderer
from vpog_core.objects.template_set import template_camera
from vpog_core.objects.viewpoints import (
    align_roll,
    nearest_viewpoints,
    upright_rotation,
    viewpoint_directions,
)
from vpog_core.training.losses.labels import FlowComputer, Labels, PosedDepth
from vpog_core.types import Camera, Detection

SIZE = 112
K = np.array([[600.0, 0, 322.0], [0, 605.0, 236.0], [0, 0, 1]])
CAMERAS = {
    "pinhole": Camera(K, 640, 480),
    "plumb_bob": Camera(K, 640, 480, [0.08, -0.2, 0.001, -0.002, 0.05]),
    "fisheye": Camera(K, 640, 480, [0.02, -0.01, 0.003, -0.001], "equidistant"),
}
POSES = [
    # direction the object is seen from, roll, place in the camera frame (metres)
    ((0.8, 0.5, 0.3), 0.4, (0.0, 0.0, 0.6)),
    ((-0.3, 0.7, -0.6), -2.0, (0.2, -0.13, 0.55)),
    ((0.1, -0.2, 0.97), 3.0, (-0.22, 0.12, 0.8)),
]


class Oracle:
    """Answers with labels where the network would guess."""

    def __init__(self, labels: Labels):
        self.labels = labels

    def matches(self) -> Matches:
        classes = self.labels.patch_class
        b, s, q = classes.shape
        logits = 30.0 * torch.nn.functional.one_hot(classes, q + 1).float()
        return Matches(logits, torch.zeros(b, q, 1), torch.zeros(b, s, q, 1), torch.zeros(0), torch.zeros(0))

    def flow_where(self, matches: Matches, index: torch.Tensor, wanted: torch.Tensor) -> MatchedPixels:
        return MatchedPixels(self.labels.flow, torch.where(self.labels.seen, 12.0, -12.0).sigmoid())


@dataclass
class Case:
    """Holds an object at a true pose, cropped, with the cluster that retrieval should find."""

    renderer: Renderer
    T_cam_obj: np.ndarray
    crop: Crop
    cluster: Cluster
    solution: PoseHypothesis

    @property
    def T_virt_obj(self) -> np.ndarray:
        return invert(self.crop.virtual.T_cam_virt) @ self.T_cam_obj


def cluster_views(target: OnboardedObject, view: int, roll_index: int) -> tuple[Cluster, PosedDepth]:
    """Return a cluster and the posed depth images of its templates."""
    cluster, t = target.cluster(view, roll_index, 4), target.templates
    R_ref = target.rotation(view, roll_index)
    depth, poses, views = [], [], nearest_viewpoints(viewpoint_directions()[view], 4)
    for s, v in enumerate(views):
        roll = align_roll(t.T_virt_obj[v][:3, :3], R_ref)
        poses.append(transform(rotation_z(roll), np.zeros(3)) @ t.T_virt_obj[v])
        depth.append(np.nan_to_num(transform_points(poses[-1], cluster.coords[s])[..., 2]))
    return cluster, posed(np.stack(depth), t.K[views], np.stack(poses))


def posed(depth, K, T) -> PosedDepth:
    """Return PosedDepth of a batch of one."""
    return PosedDepth(*(torch.from_numpy(np.asarray(v, dtype=np.float32))[None] for v in (depth, K, T)))


def best_view(target: OnboardedObject, R: np.ndarray) -> tuple[int, int]:
    """Return the view and roll nearest to a rotation."""
    candidates = [(v, r) for v in nearest_viewpoints(-R[2], 3) for r in range(ROLLS)]
    return min(candidates, key=lambda c: rotation_angle(target.rotation(*c), R))


def solve_case(target: OnboardedObject, renderer: Renderer, camera: Camera, pose) -> Case:
    direction, roll, place = pose
    R = rotation_z(roll) @ upright_rotation(np.array(direction))
    T_cam_obj = transform(R, np.array(place) - R @ renderer.mesh.center)
    pixels = project(camera, transform_points(T_cam_obj, renderer.mesh.hull_points))
    box = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
    image = np.zeros((camera.height, camera.width, 3), np.uint8)
    crop = crop_detection(image, camera, Detection("thing", box), SIZE)
    T_virt_obj = invert(crop.virtual.T_cam_virt) @ T_cam_obj
    query = renderer.render(T_virt_obj, crop.virtual.K, (SIZE, SIZE))
    cluster, templates = cluster_views(target, *best_view(target, T_virt_obj[:3, :3]))
    labels = FlowComputer()(
        posed(query.depth, crop.virtual.K, T_virt_obj), templates, torch.tensor([renderer.mesh.diameter])
    )
    oracle = Oracle(labels)
    match = dense_matches(oracle, oracle.matches())[0]
    return Case(renderer, T_cam_obj, crop, cluster, solve(crop, cluster, match))


@pytest.fixture(scope="module")
def renderer(mesh) -> Renderer:
    return Renderer(mesh)


@pytest.fixture(scope="module")
def case(undescribed, renderer) -> Case:
    return solve_case(undescribed, renderer, CAMERAS["plumb_bob"], POSES[1])


@pytest.mark.parametrize("camera", sorted(CAMERAS))
@pytest.mark.parametrize("pose", POSES)
def test_perfect_matches_give_the_true_pose(undescribed, renderer, camera, pose):
    """Turned templates carry half a pixel of noise each; a thousand of them leave a tenth of a degree."""
    case = solve_case(undescribed, renderer, CAMERAS[camera], pose)
    solution = case.solution
    assert solution.pnp is not None
    assert len(solution.pairs.weights) > 200
    T = case.crop.virtual.T_cam_virt @ solution.pnp.T_virt_obj
    assert np.degrees(rotation_angle(T[:3, :3], case.T_cam_obj[:3, :3])) < 0.25
    centre = renderer.mesh.center
    error = transform_points(T, centre) - transform_points(case.T_cam_obj, centre)
    assert np.linalg.norm(error[:2]) < 0.001 * case.T_cam_obj[2, 3]
    assert abs(error[2]) < 0.002 * case.T_cam_obj[2, 3]
    assert solution.pnp.reprojection_error < 0.5
    assert solution.pnp.inlier[solution.pairs.weights > 0.5].mean() > 0.97
    assert 0.9 < solution.score <= 1.0


def test_points_found_are_the_objects(case):
    """Every confident correspondence's 3D point projects near its pixel under the true pose."""
    pairs = case.solution.pairs
    p = transform_points(case.T_virt_obj, pairs.points_3d) @ case.crop.virtual.K.T
    error = np.linalg.norm(p[:, :2] / p[:, 2:] - pairs.points_2d, axis=1)
    sure = pairs.weights > 0.5
    assert sure.sum() > 200
    assert np.median(error[sure]) < 0.7
    assert (error[sure] < 3.0).mean() > 0.97


def test_covariance_is_of_the_size_of_the_error(case):
    """Two degrees and two centimetres would be absurdly unsure, a microradian absurdly sure."""
    sigma = np.sqrt(np.diag(case.solution.pnp.covariance))
    assert (sigma > 1e-6).all()
    assert sigma[:3].max() < 0.02
    assert np.degrees(sigma[3:].max()) < 2


def test_a_mask_limits_the_correspondences(case):
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[:, :56] = True
    half = solve(Crop(case.crop.rgb, mask, case.crop.virtual), case.cluster, case.solution.match)
    assert (half.pairs.points_2d[:, 0] < 56).all()
    assert 0 < len(half.pairs.weights) < len(case.solution.pairs.weights)


def test_merged_and_unmerged_matches_give_one_pose(case):
    """Four templates that see one pixel count as one correspondence."""
    match, cluster = case.solution.match, case.cluster
    apart = solve(case.crop, cluster, match, Options(match_merge=False))
    assert len(case.solution.pairs.weights) < 0.7 * len(apart.pairs.weights)
    merged_sum, apart_sum = case.solution.pairs.weights.sum(), apart.pairs.weights.sum()
    assert merged_sum == pytest.approx(apart_sum, rel=1e-6)
    poses = [s.pnp.T_virt_obj for s in (case.solution, apart)]
    assert np.degrees(rotation_angle(poses[0][:3, :3], poses[1][:3, :3])) < 0.2
    # The score counts places in the crop, not templates.
    assert apart.score_features[0] == pytest.approx(case.solution.score_features[0], abs=0.1)


def test_one_place_for_each_patch_is_enough_for_a_pose(case):
    coarse = solve(case.crop, case.cluster, case.solution.match, Options(match_level="patch"))
    assert len(coarse.pairs.weights) < 0.2 * len(case.solution.pairs.weights)
    T = coarse.pnp.T_virt_obj
    assert np.degrees(rotation_angle(T[:3, :3], case.T_virt_obj[:3, :3])) < 2.0


def test_solutions_do_not_depend_on_their_neighbours(case):
    """A crop's pose is the same beside one of fewer correspondences and one without a pose."""
    match, cluster = case.solution.match, case.cluster
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[:, :70] = True
    blind = type(match)(match.in_template, match.confidence, np.zeros_like(match.seen))
    crops = [Crop(case.crop.rgb, mask, case.crop.virtual), case.crop, case.crop]
    half, none, whole = solve_all(crops, [cluster] * 3, [match, blind, match])
    assert none.pnp is None
    assert half.pnp is not None
    # Sums over more, empty, places: rounding alone.
    np.testing.assert_allclose(whole.pnp.T_virt_obj, case.solution.pnp.T_virt_obj, atol=1e-9)
    np.testing.assert_allclose(whole.pnp.covariance, case.solution.pnp.covariance, rtol=1e-6, atol=1e-12)


def test_samples_spread_as_the_covariance_says(case):
    drawn = draw_samples(case.solution, 1000, Calibration())
    assert drawn.shape == (1000, 4, 4)
    T, covariance = case.solution.pnp.T_virt_obj, case.solution.pnp.covariance
    turn = drawn[:, :3, :3] @ T[:3, :3].T
    vector = np.stack([turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0],
                       turn[:, 1, 0] - turn[:, 0, 1]], axis=1) / 2  # fmt: skip
    step = np.concatenate([drawn[:, :3, 3] - T[:3, 3], vector], axis=1)
    # The kernel is a little wider than its curvature at the top; 1000 draws leave 5 %.
    np.testing.assert_allclose(step.std(axis=0), np.sqrt(np.diag(covariance)), rtol=0.35)
    again = draw_samples(case.solution, 1000, Calibration())
    np.testing.assert_array_equal(drawn, again)


def test_a_calibrated_covariance_is_that_much_larger(case):
    wide = solve_all(
        [case.crop], [case.cluster], [case.solution.match], calibration=Calibration(covariance=4.0)
    )
    usual = solve_all(
        [case.crop], [case.cluster], [case.solution.match], calibration=Calibration(covariance=1.0)
    )
    ratio = wide[0].pnp.covariance / usual[0].pnp.covariance
    # Four times, but that Huber's kernel cuts a little elsewhere.
    np.testing.assert_allclose(np.diag(ratio), 4.0, rtol=0.2)


def test_templates_without_a_pixel_of_the_object_are_no_pose(case):
    """Zero visible pixels give no correspondence, no warning and no pose."""
    bare = Cluster(case.cluster.rgb, np.full_like(case.cluster.coords, np.nan), case.cluster.directions)
    solution = solve(case.crop, bare, case.solution.match)
    assert solution.pnp is None
    assert len(solution.pairs.weights) == 0


def test_broken_matches_are_left_out(case):
    match = case.solution.match
    in_template, confidence = match.in_template.copy(), match.confidence.copy()
    in_template[:, :50] = np.nan
    confidence[:, 50:60] = np.nan
    pairs = correspondences(type(match)(in_template, confidence, match.seen), case.cluster.coords)
    assert np.isfinite(pairs.points_3d).all()
    assert (pairs.points_2d[:, 1] >= 60).all()
    assert len(pairs.weights) > 50


@pytest.mark.parametrize("distance", [1e-6, 0.05, 1e4])
def test_a_template_can_be_rendered_at_any_pose(undescribed, renderer, distance):
    """Inside the object, or where it would be a point, the cluster is usable all the same."""
    T = transform(np.eye(3), np.array([0, 0, distance]) - renderer.mesh.center)
    cluster = cluster_at_pose(undescribed, renderer, T, 4)
    assert np.isfinite(cluster.directions).all()
    shown = np.isfinite(cluster.coords[0]).all(axis=-1)
    assert shown.mean() > 0.1
    # The whole object, from outside of it: it does not touch the rim.
    assert not shown[[0, -1]].any()
    assert not shown[:, [0, -1]].any()


def test_nothing_seen_is_no_pose_and_score_zero(case):
    match = case.solution.match
    blind = type(match)(match.in_template, match.confidence, np.zeros_like(match.seen))
    solution = solve(case.crop, case.cluster, blind)
    assert solution.pnp is None
    assert solution.score == 0.0
    view = match_view(solution)
    assert len(view.points_2d) == len(view.inlier) == 0


def test_the_view_of_a_match_shows_the_best_template(case):
    view = match_view(case.solution)
    pairs = case.solution.pairs
    used = np.unique(pairs.template)
    shown = [s for s in used if np.array_equal(case.cluster.rgb[s], view.template)]
    assert len(shown) == 1
    chosen = pairs.template == shown[0]
    x, y = view.points_2d.T.astype(int)
    # flow is from a crop pixel to its place in the template.
    np.testing.assert_allclose(view.points_2d + view.flow[y, x], view.points_template, atol=1e-3)
    assert len(view.inlier) == chosen.sum()
    assert view.flow.shape == (SIZE, SIZE, 2)
    assert view.crop is case.crop.rgb


@pytest.mark.parametrize(("roll", "overlap", "pixels"), [(0.0, 0.93, 3.0), (-2.0, 0.8, 8.0)])
def test_refinement_renders_what_the_crop_shows(undescribed, renderer, roll, overlap, pixels):
    """The template rendered at a good pose has the crop's rotation, and about its place and size.

    Rolled, the sizes differ more: the crop's box is upright in the image, the template's on the object.
    """
    pose = ((-0.3, 0.7, -0.6), roll, (0.1, -0.06, 0.55))
    case = solve_case(undescribed, renderer, CAMERAS["plumb_bob"], pose)
    cluster = cluster_at_pose(undescribed, case.renderer, case.solution.T_virt_obj, 4)
    assert cluster.rgb.shape == (4, SIZE, SIZE, 3)
    query = case.renderer.render(case.T_virt_obj, case.crop.virtual.K, (SIZE, SIZE))
    shown = np.isfinite(cluster.coords[0]).all(axis=-1)
    assert (shown & query.mask).sum() > overlap * (shown | query.mask).sum()
    both = shown & query.mask
    # The same point under the same pixel; the object is some 100 pixels large.
    apart = np.linalg.norm(cluster.coords[0] - query.coords, axis=-1)[both]
    assert np.median(apart) < pixels * case.renderer.mesh.diameter / 100
    np.testing.assert_allclose(np.linalg.norm(cluster.directions, axis=1), 1, atol=1e-5)
    assert (cluster.directions @ cluster.directions[0] > np.cos(np.radians(25))).all()


def test_crop_and_template_agree_in_scale_and_place(renderer):
    """Both are framed by one rule: along one ray, from one distance, they are the same image."""
    direction = np.array([0.5, 0.6, 0.4]) / np.linalg.norm([0.5, 0.6, 0.4])
    R = upright_rotation(direction)
    T_cam_obj = transform(R, np.array([0, 0, 5 * renderer.mesh.diameter]) - R @ renderer.mesh.center)
    camera = CAMERAS["pinhole"]
    pixels = project(camera, transform_points(T_cam_obj, renderer.mesh.hull_points))
    detection = Detection("thing", np.concatenate([pixels.min(axis=0), pixels.max(axis=0)]))
    crop = crop_detection(np.zeros((480, 640, 3), np.uint8), camera, detection, SIZE)
    T_virt_obj = invert(crop.virtual.T_cam_virt) @ T_cam_obj
    K_template, T_template = template_camera(renderer.mesh, direction, SIZE)
    np.testing.assert_allclose(crop.virtual.K, K_template, rtol=2e-3)
    assert np.degrees(rotation_angle(T_virt_obj[:3, :3], T_template[:3, :3])) < 0.5
    assert roll_angle(0) == 0.0
