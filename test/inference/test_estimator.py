"""Test the results of the estimator."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

import vpog_core.inference.matching as matching_module
import vpog_core.inference.onboarding as onboarding_module
import vpog_core.inference.pipeline as pipeline_module
import vpog_core.inference.result as result_module
from vpog_core.geometry.pnp import PnPResult
from vpog_core.geometry.se3 import rotation_angle, rotation_x, rotation_y, transform
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.inference.calibration import Calibration
from vpog_core.inference.correspondence import correspondences
from vpog_core.inference.crop import as_camera, crop_detection
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.matching import match_clusters
from vpog_core.inference.networks import Networks
from vpog_core.inference.onboarding import ROLLS, Cluster, encode_clusters, encode_images
from vpog_core.inference.options import Options
from vpog_core.inference.query import Prior
from vpog_core.inference.retrieval import RetrievedView
from vpog_core.types import Detection

from .asking import CAMERA, estimate


def test_a_batch_is_answered_like_its_detections_one_by_one(estimator, picture):
    image, boxes = picture
    detections = [Detection("thing", box, instance=i) for i, box in enumerate(boxes)]
    together = estimator.estimate(image, CAMERA, detections)
    for detection, result in zip(detections, together, strict=True):
        alone = estimator.estimate(image, CAMERA, [detection])[0]
        assert result.instance == alone.instance
        assert (result.T_cam_obj is None) == (alone.T_cam_obj is None)
        # Float32 sums in another order; flows are some tens of pixels.
        np.testing.assert_allclose(result.match.flow, alone.match.flow, atol=1e-2)
        np.testing.assert_allclose(result.match.confidence, alone.match.confidence, atol=1e-4)
        assert np.array_equal(result.match.template, alone.match.template)
        assert np.array_equal(result.match.crop, alone.match.crop)
        assert result.score == pytest.approx(alone.score, abs=1e-3)
        if alone.T_cam_obj is not None:
            np.testing.assert_allclose(result.T_cam_obj, alone.T_cam_obj, atol=1e-3)
    crops = [r.match.crop for r in together]
    assert not np.array_equal(crops[0], crops[1])


def test_an_answer_is_a_pose_or_a_reason(estimator, picture):
    image, boxes = picture
    for result in estimator.estimate(image, CAMERA, [Detection("gadget", b) for b in boxes]):
        assert (result.T_cam_obj is None) == bool(result.reason)
        assert 0.0 <= result.score <= 1.0
        if result.T_cam_obj is not None:
            assert np.isfinite(result.T_cam_obj).all()
            assert result.covariance.shape == (6, 6)


def test_an_estimate_that_is_sent_to_another_process_takes_no_network_along(estimator, picture):
    result = estimate(estimator, picture)
    assert result.match is not None
    sent = pickle.dumps(result)
    # Poses and their covariances; the crop alone has more.
    assert len(sent) < result.match.crop.nbytes
    back = pickle.loads(sent)
    assert (back.class_id, back.score, back.reason, back.match) == (
        result.class_id, result.score, result.reason, None,
    )  # fmt: skip


def test_a_variant_has_other_options_and_the_same_objects(estimator, picture):
    other = estimator.variant(replace(estimator.options, alignments=0, refinements=0))
    assert other.options.alignments == 0
    assert estimator.options.alignments > 0
    assert other.objects is estimator.objects
    calibrated = estimator.variant(networks=replace(estimator.networks, calibration=Calibration(bias=30.0)))
    assert calibrated.options is estimator.options
    assert estimate(calibrated, picture).score != estimate(estimator, picture).score


def test_a_variant_of_another_precision_matches_alike_whichever_came_first(workshop, estimator):
    """The clusters are shared, their encodings are of each kind of network."""
    one, other = (
        Networks.load(workshop["weights"], device="cpu", precision=p).model for p in ("bfloat16", "float32")
    )
    crops = np.stack([estimator.onboarded("thing").cluster(view, 0, 4).rgb[0] for view in (0, 1)])

    def matched(order):
        estimator.onboarded("thing").clear_clusters()
        clusters = [estimator.onboarded("thing").cluster(view, 0, 4) for view in (0, 1)]
        found = {id(m): match_clusters(m, encode_images(m, crops), clusters) for m in order}
        return [match.confidence for model in (one, other) for match in found[id(model)]]

    for first, second in zip(matched((one, other)), matched((other, one)), strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_cluster_is_encoded_once_and_one_that_was_rendered_is_not_kept(estimator, monkeypatch):
    encoded, model = [], estimator.model
    real = onboarding_module.encode_images
    monkeypatch.setattr(
        onboarding_module, "encode_images", lambda m, rgb: encoded.append(len(rgb)) or real(m, rgb)
    )
    estimator.onboarded("thing").clear_clusters()
    recurring = estimator.onboarded("thing").cluster(0, 0, 4)
    rendered = Cluster(recurring.rgb, recurring.coords, recurring.directions)
    first = encode_clusters(model, [recurring, rendered, recurring])
    again = encode_clusters(model, [recurring, rendered])
    assert encoded == [8, 4]
    assert again[0] is first[0] is first[2]
    assert torch.equal(first[1].tokens, again[1].tokens)


def test_an_alias_is_the_object(estimator, picture):
    result = estimate(estimator, picture, class_id="gadget")
    assert result.class_id == "thing"
    assert np.array_equal(result.match.flow, estimate(estimator, picture).match.flow)


def test_no_detections_no_answers(estimator, picture):
    assert estimator.estimate(picture[0], CAMERA, []) == []


def test_timings_name_the_stages(estimator, picture):
    image, boxes = picture
    timings = estimator.estimate(image, CAMERA, [Detection("thing", boxes[0])]).timings
    stages = {"crop", "encode", "retrieve", "match", "solve", "refine", "compare", "align"}
    assert set(timings) == stages
    assert all(seconds >= 0 for seconds in timings.values())


def test_masks_may_be_of_any_kind_that_says_yes_and_no(estimator, picture):
    boxes = picture[1]
    mask = np.zeros((480, 640), dtype=bool)
    x0, y0, x1, y1 = boxes[0].astype(int)
    mask[y0:y1, x0:x1] = True
    flows = [estimate(estimator, picture, mask=m) for m in (mask, mask.astype(np.uint8) * 255, mask * 1.0)]
    counts = [len(f.match.points_2d) for f in flows]
    assert counts[0] == counts[1] == counts[2]


def test_nothing_is_drawn_until_somebody_looks(estimator, picture, monkeypatch):
    drawn = []
    real = result_module.match_view
    monkeypatch.setattr(result_module, "match_view", lambda s: drawn.append(s) or real(s))
    result = estimate(estimator, picture)
    assert drawn == []
    assert result.match is result.match
    assert len(drawn) == 1


def test_all_views_that_see_nothing_are_no_pose(estimator, picture, monkeypatch):
    """The network is sure that nothing of the crop is in any template."""
    real = type(estimator.model).match

    def blind(self, *arguments):
        matches = real(self, *arguments)
        matches.logits[..., matches.templates.shape[2] :] = 50.0
        return matches

    monkeypatch.setattr(type(estimator.model), "match", blind)
    result = estimate(estimator, picture)
    assert result.T_cam_obj is None
    assert "0 correspondences" in result.reason
    assert result.covariance is None
    assert not result.match.seen.any()


def perfect(estimator, monkeypatch, mesh, T_true, score=lambda n: 0.9):
    """Let the solver answer the n-th time `T_true(n)` (in the real camera) with `score(n)`."""
    order = iter(range(1000))

    def answer(crops, clusters, matches, settings, calibration):
        found = []
        for crop, cluster, match in zip(crops, clusters, matches, strict=True):
            n = next(order)
            T = np.linalg.inv(crop.virtual.T_cam_virt) @ T_true(n)
            pairs = pairs_of(match, cluster)
            covariance = np.diag([1e-6, 1e-6, 4e-6, 1e-4, 1e-4, 1e-4])
            pnp = PnPResult(T, np.ones(len(pairs.weights), dtype=bool), 0.5, covariance)
            found.append(PoseHypothesis(crop, cluster, match, pairs, pnp, None, score(n)))
        return found

    monkeypatch.setattr(matching_module, "solve_all", answer)
    # What is told stays as it is told.
    monkeypatch.setattr(estimator, "options", replace(estimator.options, alignments=0))


def pairs_of(match, cluster):
    return correspondences(match, cluster.coords, options=Options(match_min_confidence=0.0))


def test_a_symmetric_objects_pose_is_the_one_nearest_to_the_last(estimator, picture, mesh, monkeypatch):
    """Found with its sides mixed up, the pose comes back as the equivalent the caller knows."""
    symmetry = Symmetry.from_mapping({"discrete": [{"axis": "z", "order": 4, "offset": [0.01, 0.0, 0.0]}]})
    monkeypatch.setattr(type(estimator.library), "symmetry", lambda self, name: symmetry)
    true = transform(rotation_x(2.0), [-0.18, 0.0, 0.6])
    for turn in symmetry.discrete:
        perfect(estimator, monkeypatch, mesh, lambda n, turn=turn: true @ turn)
        image, boxes = picture
        detection = Detection("thing", boxes[0])
        near = true @ transform(rotation_y(0.1), np.zeros(3))
        result = estimator.estimate(image, CAMERA, [detection], [Prior(near)])[0]
        np.testing.assert_allclose(result.T_cam_obj, true, atol=1e-9)
        if np.allclose(turn, np.eye(4)):
            continue
        # The origin lies elsewhere on the object: it swings with the rotation's error.
        assert result.covariance[:3, :3].trace() > np.trace(np.diag([1e-6, 1e-6, 4e-6]))
        np.testing.assert_allclose(result.covariance[3:, 3:], 1e-4 * np.eye(3), atol=1e-12)


@pytest.mark.parametrize(
    ("score", "look_anew", "tracked"), [(0.0, False, True), (0.0, True, False), (None, False, False)]
)
def test_a_pose_that_is_followed_needs_no_other_network(
    estimator, picture, monkeypatch, score, look_anew, tracked
):
    image, boxes = picture
    true = transform(rotation_x(2.0), [-0.18, 0.0, 0.6])
    encoded = []
    real = pipeline_module.encode_images
    monkeypatch.setattr(pipeline_module, "encode_images", lambda *a: encoded.append(1) or real(*a))
    prior = Prior(true, score, look_anew)
    result = estimator.estimate(image, CAMERA, [Detection("thing", boxes[0])], [prior])
    assert result[0].tracked is tracked
    assert bool(encoded) is not tracked
    assert ("track" in result.timings) is (score is not None)
    if tracked:
        assert result.timings.keys() == {"crop", "track"}
        # Its match is made for whoever wants to see it, with the templates nearest to the pose.
        assert not encoded
        assert result[0].match.template.shape == result[0].match.crop.shape
        # The print of this object tells its turn to a degree or so.
        np.testing.assert_allclose(result[0].T_cam_obj, true, atol=0.05)


def nearest_view(onboarded, R_virt_obj) -> RetrievedView:
    """Return the view and the roll nearest to a rotation [3, 3]."""
    places = [(view, roll) for view in range(162) for roll in range(ROLLS)]
    angles = [rotation_angle(onboarded.rotation(*place), R_virt_obj) for place in places]
    return RetrievedView(*places[int(np.argmin(angles))], 0.0)


@pytest.mark.parametrize(
    ("retrieved", "matched", "last_stage"),
    [(0.1, 1.5, "retrieve"), (1.5, 0.1, "match"), (1.5, 1.5, "refine")],
)
def test_a_checked_pose_is_searched_for_until_a_view_confirms_it(
    estimator, picture, mesh, monkeypatch, retrieved, matched, last_stage
):
    """The likeliest view is `retrieved` radians off, the poses that matches lead to `matched`."""
    image, boxes = picture
    true = transform(rotation_x(2.0), [-0.18, 0.0, 0.6])
    found = transform(rotation_x(2.0 + matched), true[:3, 3])
    perfect(estimator, monkeypatch, mesh, lambda n: found, lambda n: 1.0)
    detection = Detection("thing", boxes[0])
    seen = crop_detection(image, as_camera(CAMERA, image), detection, 48).virtual.R_virt_cam @ true[:3, :3]
    nearest = nearest_view(estimator.onboarded("thing"), seen @ rotation_x(retrieved))
    monkeypatch.setattr(pipeline_module, "best_views", lambda *_: [nearest])
    checked = [Prior(true, 0.0, search_all_views=True)]
    result = estimator.estimate(image, CAMERA, [detection], checked)
    assert result[0].match is not None
    assert not result[0].tracked
    stages = ["retrieve", "match", "refine"]
    assert [s for s in stages if s in result.timings] == stages[: stages.index(last_stage) + 1]
    if last_stage != "refine":
        np.testing.assert_allclose(result[0].T_cam_obj, true, atol=0.05)


def test_what_is_lost_and_not_detected_is_given_up_with_a_reason(estimator, picture):
    image, boxes = picture
    elsewhere = Prior(transform(rotation_x(2.0), [0.1, 0.2, 0.6]), 0.4, detected=False)
    results = estimator.estimate(image, CAMERA, [Detection("thing", boxes[0])], [elsewhere])
    assert results[0].T_cam_obj is None
    assert "lost" in results[0].reason
    assert "encode" not in results.timings


@pytest.mark.parametrize("first", [0.3, 0.6])
def test_further_views_are_tried_where_the_first_do_not_convince(
    estimator, picture, mesh, monkeypatch, first
):
    """0.3 is under the threshold after two views; the fourth view's pose is the best, and is returned."""
    poses = [transform(rotation_x(2.0 + 0.8 * n), [-0.18, 0.0, 0.6]) for n in range(6)]
    scores = [first, first - 0.1, 0.1, 0.8, 0.1, 0.1]
    perfect(estimator, monkeypatch, mesh, lambda n: poses[n], lambda n: scores[n])
    monkeypatch.setattr(estimator, "options", replace(estimator.options, refinements=0))
    result = estimate(estimator, picture)
    convinced = first > estimator.options.retry_below_score
    assert result.score == (first if convinced else 0.8)
    np.testing.assert_allclose(result.T_cam_obj, poses[0 if convinced else 3], atol=1e-9)


def test_worse_poses_of_further_views_change_nothing(estimator, picture, mesh, monkeypatch):
    poses = [transform(rotation_x(2.0 + 0.8 * n), [-0.18, 0.0, 0.6]) for n in range(18)]
    perfect(estimator, monkeypatch, mesh, lambda n: poses[n], lambda n: 0.4 - 0.02 * n)
    monkeypatch.setattr(estimator, "options", replace(estimator.options, refinements=0))
    np.testing.assert_allclose(estimate(estimator, picture).T_cam_obj, poses[0], atol=1e-9)


def test_alternatives_and_samples_come_when_asked_for(workshop, picture, mesh, monkeypatch):
    asked = PoseEstimator(**workshop, device="cpu", alternatives=2, samples=20, refinements=0)
    poses = [transform(rotation_x(2.0 + 0.9 * k), [-0.18, 0.0, 0.6]) for k in range(3)]
    perfect(asked, monkeypatch, mesh, lambda n: poses[n % 3])
    result = estimate(asked, picture)
    found = [result.T_cam_obj, *(a.T_cam_obj for a in result.alternatives)]
    assert len(found) == 3
    for pose in poses:
        assert any(np.allclose(pose, other, atol=1e-9) for other in found)
    assert result.samples.shape[1:] == (4, 4)
    assert all(a.covariance.shape == (6, 6) and not a.reason for a in result.alternatives)
