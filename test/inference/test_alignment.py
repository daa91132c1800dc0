"""Test alignment with real renders: a pose that is off is corrected, one that cannot be compared stays."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import trimesh

import vpog_core.inference.alignment as alignment_module
import vpog_core.inference.matching as matching_module
from vpog_core.evaluation.calibration_fit import squared_distance
from vpog_core.geometry.pnp import PnPResult
from vpog_core.geometry.projection import project
from vpog_core.geometry.se3 import (
    invert,
    rotation_x,
    transform,
    transform_points,
)
from vpog_core.inference.alignment import FlowPose, align
from vpog_core.inference.correspondence import correspondences
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.networks import Networks
from vpog_core.inference.observation import Observation
from vpog_core.inference.options import Options
from vpog_core.inference.rendered_view import RenderedView
from vpog_core.objects.mesh import Mesh, save_mesh
from vpog_core.synthetic.objects import make_object
from vpog_core.types import Camera, Detection

from .shots import K, Shot, covered, perturbed, shot_of


@pytest.fixture(scope="module")
def box() -> Mesh:
    """Return a printed box, which has corners for the flow."""
    return make_object(900_003)


@pytest.fixture(scope="module")
def shot(box) -> Shot:
    return shot_of(box)


@pytest.mark.parametrize("farther", [1.03, 0.97])
def test_a_pose_a_little_off_comes_back(shot, farther):
    """Flow is exact to some tenths of a pixel of 256: 0.2 to 0.4 % of the distance, a third of a degree."""
    start = perturbed(shot, farther=farther)
    before, found = shot.error(start), align(shot.renderer, shot.observation, start, 2)
    turn, scale, off = shot.error(found.T_cam_obj)
    assert found.moved
    assert turn < np.radians(0.6)
    assert scale < 0.0045
    assert off < 0.15 * before[2]
    assert found.similarity > align(shot.renderer, shot.observation, start, 0).similarity + 0.1


def test_something_in_front_does_not_pull_it_away(shot):
    image, _ = covered(shot, shot.observation.image)
    found = align(shot.renderer, replace(shot.observation, image=image), perturbed(shot), 2)
    turn, scale, _ = shot.error(found.T_cam_obj)
    assert turn < np.radians(1.0)
    assert scale < 0.008


def test_the_support_is_where_the_picture_shows_the_points(shot):
    """Corners of the print are followed to half a pixel, in another light and with noise."""
    found = align(shot.renderer, shot.observation, perturbed(shot), 2)
    pixels = (found.rays / found.rays[:, 2:]) @ K.T
    truly = project(shot.observation.camera, transform_points(shot.T_true, found.points))
    assert np.median(np.linalg.norm(pixels[:, :2] - truly, axis=1)) < 0.5
    assert (found.weights > 0).all()


def test_a_mask_says_what_the_picture_may_tell(shot):
    """The mask leaves out the board, which hides a part of the object."""
    start = perturbed(shot)
    image, board = covered(shot, shot.observation.image)
    masked = Observation(image, shot.observation.camera, ~board)
    found = align(shot.renderer, masked, start, 2)
    unmasked = align(shot.renderer, replace(masked, mask=None), found.T_cam_obj, 0)
    assert found.similarity > unmasked.similarity + 0.05
    pixels = np.round(((found.rays / found.rays[:, 2:]) @ K.T)[:, :2]).astype(int)
    assert not board[pixels[:, 1], pixels[:, 0] - 3].any()
    # What the mask hides could be anything.
    noise = np.random.default_rng(3).integers(0, 255, image.shape, dtype=np.uint8)
    other = replace(masked, image=np.where(board[..., None], noise, image))
    # The flow's windows look over the rim of the mask.
    again = shot.error(align(shot.renderer, other, start, 2).T_cam_obj)
    assert again[2] < 0.25 * shot.error(start)[2]


def test_a_mask_of_nothing_leaves_the_pose(shot):
    start = perturbed(shot)
    nothing = replace(shot.observation, mask=np.zeros((480, 640), dtype=bool))
    found = align(shot.renderer, nothing, start, 2)
    assert found.T_cam_obj is start
    assert found.similarity == 0.0


@pytest.mark.parametrize("shape", ["ball", "cylinder", "torus"])
@pytest.mark.parametrize(("degrees", "farther"), [(3.0, 1.03), (5.0, 0.97), (1.0, 1.0)])
def test_a_textureless_object_stays_where_it_was(shape, degrees, farther):
    """Flow would follow the shading, which the light made, or one edge, which tells no pose."""
    made = {
        "ball": lambda: trimesh.creation.icosphere(subdivisions=4, radius=0.06),
        "cylinder": lambda: trimesh.creation.cylinder(0.04, 0.12, sections=96),
        "torus": lambda: trimesh.creation.torus(0.06, 0.02),
    }[shape]()
    colors = np.full((len(made.vertices), 3), 150, np.uint8)
    plain = shot_of(Mesh(np.asarray(made.vertices), np.asarray(made.faces), vertex_colors=colors))
    start = perturbed(plain, degrees, farther)
    found = align(plain.renderer, plain.observation, start, 2)
    assert not found.moved
    assert found.T_cam_obj is start


def test_the_coarser_axis_decides_how_large_the_crop_is(shot):
    """A small object is enlarged by as much as pixels of the coarser axis allow."""
    start = shot.T_true.copy()
    start[:3, 3] *= 2
    sizes = []
    for focal in (600.0, 300.0):
        for intrinsics in (np.diag([focal, 600.0, 1.0]), np.diag([600.0, focal, 1.0])):
            intrinsics[:2, 2] = 320.0, 240.0
            observation = replace(shot.observation, camera=Camera(intrinsics, 640, 480))
            sizes.append(RenderedView.of(shot.renderer, observation, start).virtual.size)
    assert sizes[0] == sizes[1]
    # Half as many pixels along one axis, and a box half as long along it.
    assert sizes[2] < 0.8 * sizes[0]
    assert sizes[3] < 0.8 * sizes[0]


def test_flow_that_does_not_come_back_is_not_believed(shot):
    """Without the way back, most of what is found beside and behind the board is wrong."""
    image, _ = covered(shot, shot.observation.image)
    view = RenderedView.of(shot.renderer, replace(shot.observation, image=image), perturbed(shot))
    found = alignment_module._flow_matches(view, alignment_module.FINE_WINDOW)
    points = found.points(view)
    truly = transform_points(invert(view.virtual.T_cam_virt) @ shot.T_true, points) @ view.virtual.K.T
    assert len(points) > 50
    assert np.mean(np.linalg.norm(truly[:, :2] / truly[:, 2:] - found.matched, axis=1) < 2) > 0.75


@pytest.mark.parametrize(("degrees", "farther"), [(30.0, 1.0), (0.0, 1.25)])
def test_another_answer_is_no_correction(shot, monkeypatch, degrees, farther):
    """Even the true pose is rejected where it is far from the pose to be corrected."""
    truth = FlowPose(shot.T_true, np.ones((9, 3)), np.ones((9, 3)), np.ones(9))
    monkeypatch.setattr(alignment_module, "follow_flow", lambda views, window: [truth])
    start = perturbed(shot, degrees, farther)
    assert align(shot.renderer, shot.observation, start, 2).T_cam_obj is start
    assert align(shot.renderer, shot.observation, perturbed(shot), 2).T_cam_obj is shot.T_true


def test_the_true_pose_is_liked_best(shot):
    """The true pose is more similar than an offset, a turn or another side."""
    true = align(shot.renderer, shot.observation, shot.T_true, 0).similarity
    assert true > 0.7
    for wrong in (perturbed(shot), perturbed(shot, 20.0, 1.0), perturbed(shot, 90.0, 1.0)):
        assert align(shot.renderer, shot.observation, wrong, 0).similarity < true - 0.1
    other_side = align(shot.renderer, shot.observation, perturbed(shot, 120.0, 1.0), 2)
    assert other_side.similarity < 0.4
    assert shot.error(other_side.T_cam_obj)[0] > np.radians(90)


def test_a_dark_or_bright_picture_looks_as_alike(shot):
    dark = replace(shot.observation, image=(shot.observation.image * 0.5 + 20).astype(np.uint8))
    here, there = (
        align(shot.renderer, observation, shot.T_true, 0).similarity
        for observation in (shot.observation, dark)
    )
    assert here == pytest.approx(there, abs=0.05)


@pytest.mark.parametrize("x", [-0.19, 0.2])
def test_an_object_half_outside_the_picture(box, x):
    shot = shot_of(box, (x, 0.0, 0.55))
    start = perturbed(shot, 2.0, 1.02)
    found = align(shot.renderer, shot.observation, start, 2)
    assert np.isfinite(found.T_cam_obj).all()
    assert -1.0 <= found.similarity <= 1.0
    assert shot.error(found.T_cam_obj)[2] < 0.5 * shot.error(start)[2]


@pytest.mark.parametrize(
    "place",
    [(3.0, 0.0, 0.55), (0.0, 0.0, -0.5), (0.0, 0.0, 0.02), (0.0, 0.0, 500.0), (np.nan, 0.0, 0.5)],
    ids=["beside", "behind", "around", "far", "nowhere"],
)
def test_what_cannot_be_seen_stays(shot, place):
    T = transform(rotation_x(1.0), np.array(place))
    found = align(shot.renderer, shot.observation, T, 2)
    assert found.T_cam_obj is T
    assert found.similarity == 0.0


def test_a_small_object_is_aligned_in_a_small_crop(box):
    """The object is 45 pixels wide: the crop has one and a half pixels for one of the image, no more."""
    shot = shot_of(box, (0.05, 0.02, 3.0))
    start = perturbed(shot)
    found = align(shot.renderer, shot.observation, start, 2)
    assert found.similarity >= align(shot.renderer, shot.observation, start, 0).similarity
    assert shot.error(found.T_cam_obj)[2] <= shot.error(start)[2]


def test_a_lens_that_bends_is_no_trouble(box):
    """The image is taken by the distorted camera, point by point."""
    straight = shot_of(box)
    bent = Camera(K, 640, 480, [0.1, -0.2, 0.002, -0.001, 0.0])
    rows, columns = np.mgrid[0:480, 0:640]
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 1, 2).astype(np.float64)
    at = cv2.undistortPoints(pixels, K, bent.distortion, P=K).reshape(480, 640, 2).astype(np.float32)
    image = cv2.remap(straight.observation.image, at[..., 0], at[..., 1], cv2.INTER_LINEAR)
    found = align(straight.renderer, Observation(image, bent), perturbed(straight), 2)
    turn, scale, _ = straight.error(found.T_cam_obj)
    assert turn < np.radians(0.6)
    assert scale < 0.004


@pytest.fixture(scope="module")
def estimator(tmp_path_factory, box, small_model) -> PoseEstimator:
    root = tmp_path_factory.mktemp("boxes")
    save_mesh(box, root / "box.ply")
    return PoseEstimator(root, Networks(small_model, "small"), cache_dir=root / "cache")


@pytest.fixture
def told(estimator, monkeypatch):
    """Return a function that sets the results of matching: poses in turn, and the score of each."""

    def tell(poses, scores):
        turn = iter(range(1000))

        def answer(crops, clusters, matches, settings, calibration):
            found = []
            for crop, cluster, match in zip(crops, clusters, matches, strict=True):
                n = next(turn) % len(poses)
                pairs = correspondences(match, cluster.coords, options=Options(match_min_confidence=0.0))
                T = invert(crop.virtual.T_cam_virt) @ poses[n]
                # Matched points that the pose agrees with, wherever the network saw them.
                p = pairs.points_3d @ T[:3, :3].T + T[:3, 3]
                pairs = replace(pairs, points_2d=(p @ crop.virtual.K.T)[:, :2] / p[:, 2:])
                inlier = np.ones(len(pairs.weights), dtype=bool)
                pnp = PnPResult(T, inlier, 0.5, np.diag([1e-4, 1e-4, 4e-4, 1e-2, 1e-2, 1e-2]))
                score_features = np.array([4.0, -0.5, 0.3])
                found.append(PoseHypothesis(crop, cluster, match, pairs, pnp, score_features, scores[n]))
            return found

        monkeypatch.setattr(matching_module, "solve_all", answer)

    return tell


def answer_of(estimator, shot, monkeypatch, **options):
    monkeypatch.setattr(estimator, "options", replace(estimator.options, refinements=0, **options))
    pixels = project(shot.observation.camera, transform_points(shot.T_true, shot.mesh.hull_points))
    found = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
    return estimator.estimate(shot.observation.image, shot.observation.camera, [Detection("box", found)])[0]


def test_an_estimators_answer_gets_better(estimator, shot, told, monkeypatch):
    start = perturbed(shot)
    told([start], [0.9])
    plain = answer_of(estimator, shot, monkeypatch, alignments=0)
    np.testing.assert_allclose(plain.T_cam_obj, start, atol=1e-9)
    assert not plain.aligned
    assert plain.score == 0.9
    better = answer_of(estimator, shot, monkeypatch, alignments=2)
    assert better.aligned
    assert shot.error(better.T_cam_obj)[2] < 0.15 * shot.error(start)[2]
    assert better.score_features.shape == (4,)
    assert better.score_features[3] > 0.8
    assert better.inliers > 0
    # Its own covariance: smaller than what was told, and not smaller than the error by far.
    assert np.linalg.eigvalsh(better.covariance)[0] > 0
    assert better.covariance[2, 2] < 0.1 * plain.covariance[2, 2]
    assert squared_distance(better.T_cam_obj, better.covariance, shot.T_true) < 60


def test_samples_come_from_what_the_aligned_pose_stands_on(estimator, shot, told, monkeypatch):
    told([perturbed(shot)], [0.9])
    drawn = answer_of(estimator, shot, monkeypatch, samples=400)
    spread = np.std(drawn.samples[:, :3, 3], axis=0)
    np.testing.assert_allclose(spread, np.sqrt(np.diag(drawn.covariance)[:3]), rtol=0.3)


def test_the_view_that_looks_like_the_picture_wins(estimator, shot, told, monkeypatch):
    """The other side was matched better, and cannot be made similar to the image."""
    poses = [perturbed(shot, 150.0, 1.0), perturbed(shot)]
    told(poses, [0.8, 0.7])
    plain = answer_of(estimator, shot, monkeypatch, alignments=0)
    assert shot.error(plain.T_cam_obj)[0] > np.radians(90)
    told(poses, [0.8, 0.7])
    result = answer_of(estimator, shot, monkeypatch, alignments=2, alternatives=1)
    assert shot.error(result.T_cam_obj)[0] < np.radians(1)
    assert shot.error(result.alternatives[0].T_cam_obj)[0] > np.radians(90)
    assert result.score > result.alternatives[0].score + 0.3
