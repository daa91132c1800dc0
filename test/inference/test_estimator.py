from dataclasses import replace

import numpy as np
import pytest
import torch

import vpog_core.inference.estimator as estimator_module
import vpog_core.inference.matching as matching_module
import vpog_core.inference.pipeline as pipeline_module
import vpog_core.inference.result as result_module
from vpog_core.cancellation import Cancelled, stop_when
from vpog_core.geometry.camera_models import published_camera
from vpog_core.geometry.pnp import PnPResult
from vpog_core.geometry.se3 import rotation_x, rotation_y, transform
from vpog_core.geometry.symmetry import Symmetry
from vpog_core.inference import networks
from vpog_core.inference.correspondence import correspondences
from vpog_core.inference.crop import crop_detection
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.hypothesis import PoseHypothesis
from vpog_core.inference.networks import choose_device
from vpog_core.inference.options import Options
from vpog_core.inference.query import Prior
from vpog_core.models.checkpoint import save_weights
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.renderer import Renderer
from vpog_core.types import Camera, Detection, VPOGError

CAMERA = Camera(np.array([[600.0, 0, 320.0], [0, 600.0, 240.0], [0, 0, 1]]), 640, 480)


@pytest.fixture(scope="module")
def estimator(workshop) -> PoseEstimator:
    made = PoseEstimator(**workshop, device="cpu")
    made.onboard()
    return made


@pytest.fixture(scope="module")
def picture(mesh):
    """An image with three objects, and their boxes."""
    renderer, image, boxes = Renderer(mesh), np.full((480, 640, 3), 90, np.uint8), []
    for i, x in enumerate((-0.18, 0.0, 0.18)):
        T = transform(rotation_x(2.0 + i) @ rotation_y(0.7 * i), [x, 0.03 * i, 0.6])
        render = renderer.render(T, CAMERA.K, (480, 640))
        image[render.mask] = render.rgb[render.mask]
        row, column = np.nonzero(render.mask)
        boxes.append(np.array([column.min(), row.min(), column.max(), row.max()], dtype=float))
    return image, boxes


def estimate(estimator, picture, **change):
    image, boxes = picture
    return estimator.estimate(image, CAMERA, [replace(Detection("thing", boxes[0]), **change)])[0]


def error_of(call) -> str:
    with pytest.raises(VPOGError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"class_id": "fork"}, ("'fork'", "thing")),
        ({"box": np.array([700.0, 10, 900, 50])}, ("700", "640x480")),
        ({"box": np.array([50.0, 50, 50, 90])}, ("empty",)),
        ({"box": np.array([50.0, np.nan, 60, 90])}, ("finite",)),
        ({"box": np.array([50.0, 50, 51, 51])}, ("empty",)),
        ({"box": np.zeros(3)}, ("four",)),
        ({"mask": np.ones((480, 640, 3), dtype=bool)}, ("mask", "640x480")),
        ({"mask": np.ones((10, 20), dtype=bool)}, ("20x10", "640x480")),
        ({"mask": np.zeros((480, 640), dtype=bool)}, ("mask is empty",)),
    ],
)
def test_a_bad_detection_is_answered_with_a_reason(estimator, picture, change, parts):
    result = estimate(estimator, picture, **change)
    assert result.T_cam_obj is None
    assert result.score == 0.0
    assert all(part in result.reason for part in parts)
    assert "\n" not in result.reason


def test_bad_detections_do_not_disturb_good_ones(estimator, picture):
    image, boxes = picture
    good, bad = Detection("thing", boxes[1], instance=4), Detection("fork", boxes[0], instance=3)
    alone = estimator.estimate(image, CAMERA, [good])[0]
    results = estimator.estimate(image, CAMERA, [bad, good, replace(bad, instance=5)])
    assert [(r.class_id, r.instance) for r in results] == [("fork", 3), ("thing", 4), ("fork", 5)]
    assert results[1].match is not None
    np.testing.assert_allclose(results[1].match.flow, alone.match.flow, atol=1e-3)


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


def test_an_alias_is_the_object(estimator, picture):
    result = estimate(estimator, picture, class_id="gadget")
    assert result.class_id == "gadget"
    assert np.array_equal(result.match.flow, estimate(estimator, picture).match.flow)


def test_no_detections_no_answers(estimator, picture):
    assert estimator.estimate(picture[0], CAMERA, []) == []


def test_timings_name_the_stages(estimator, picture):
    image, boxes = picture
    timings = estimator.estimate(image, CAMERA, [Detection("thing", boxes[0])]).timings
    stages = {"crop", "encode", "retrieve", "match", "solve", "refine", "compare", "align"}
    assert set(timings) == stages
    assert all(seconds >= 0 for seconds in timings.values())


@pytest.mark.parametrize(
    ("image", "part"),
    [
        (np.zeros((240, 320, 3), np.uint8), "320x240"),
        (np.zeros((480, 640), np.uint8), "RGB"),
        (np.zeros((480, 640, 4), np.uint8), "RGB"),
        (np.zeros((480, 640, 3), np.float32), "float32"),
        (np.full((480, 640, 3), np.nan), "float64"),
        (np.zeros((0, 0, 3), np.uint8), "0x0"),
    ],
)
def test_an_unusable_image_is_a_reason_for_every_detection(estimator, image, part):
    detection = Detection("thing", np.array([10.0, 10, 50, 50]))
    results = estimator.estimate(image, CAMERA, [detection, replace(detection, instance=1)])
    assert len(results) == 2
    for result in results:
        assert result.T_cam_obj is None
        assert part in result.reason


@pytest.mark.parametrize(("scale", "seems"), [(0.5, "320x240"), (2.0, "1280x960")])
def test_k_of_another_resolution_is_said_once(workshop, caplog, scale, seems):
    estimator = PoseEstimator(**workshop)
    K = np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])
    K[:2] *= scale
    for _ in range(2):
        estimator.estimate(np.zeros((480, 640, 3), np.uint8), Camera(K, 640, 480), [])
    (record,) = caplog.records
    assert f"is K for another resolution ({seems})" in record.getMessage()


def test_what_reads_a_camera_says_its_doubts_and_the_estimator_does_not_again(workshop, caplog):
    estimator = PoseEstimator(**workshop)
    camera = published_camera(np.array([[300.0, 0, 159.5], [0, 300, 119.5], [0, 0, 1]]), 640, 480)
    estimator.estimate(np.zeros((480, 640, 3), np.uint8), camera, [])
    assert not caplog.records


def test_unusable_settings_are_refused(workshop, tmp_path):
    def made(**change):
        return lambda: PoseEstimator(**{**workshop, **change})

    assert "'best'" in error_of(made(mode="best"))
    assert "'tpu'" in error_of(made(device="tpu"))
    assert "none.safetensors" in error_of(made(weights=tmp_path / "none.safetensors"))
    assert "nowhere" in error_of(made(objects=tmp_path / "nowhere"))


def test_missing_default_weights_are_named(workshop, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "DEFAULT_WEIGHTS", tmp_path / "shipped.safetensors")
    assert "shipped.safetensors" in error_of(lambda: PoseEstimator(**{**workshop, "weights": None}))


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    for device in ("cuda", "cuda:1"):
        text = error_of(lambda device=device: choose_device(device))
        assert f"'{device}'" in text
        assert "'cpu'" in text
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == "cuda"
    assert choose_device("cuda:1") == "cuda:1"


def test_descriptors_come_from_the_cache_when_these_weights_made_them(
    estimator, workshop, small_model, tmp_path
):
    steps = []
    again = PoseEstimator(**workshop, device="cpu")
    again.onboard(progress=lambda done, total, name: steps.append((done, total, name)))
    assert steps == []
    here, there = (e.onboarded("thing").descriptors for e in (estimator, again))
    # Kept as float16.
    torch.testing.assert_close(there, here, atol=1e-3, rtol=0)


def test_other_weights_describe_anew(workshop, small_model, tmp_path):
    torch.manual_seed(1)
    save_weights(VPOGModel(small_model.config), tmp_path / "other.safetensors")
    steps = []
    other = PoseEstimator(**{**workshop, "weights": tmp_path / "other.safetensors"}, device="cpu")
    other.onboard("gadget", progress=lambda done, total, name: steps.append((done, total, name)))
    steps = [step for step in steps if step[2] == "thing (describing views)"]
    done = [step[0] for step in steps]
    assert done == sorted(done)
    assert done[0] < 162
    assert steps[-1] == (162, 162, "thing (describing views)")
    assert other.object_ids == ["thing"]
    assert other.device == "cpu"


def test_masks_may_be_of_any_kind_that_says_yes_and_no(estimator, picture):
    boxes = picture[1]
    mask = np.zeros((480, 640), dtype=bool)
    x0, y0, x1, y1 = boxes[0].astype(int)
    mask[y0:y1, x0:x1] = True
    flows = [estimate(estimator, picture, mask=m) for m in (mask, mask.astype(np.uint8) * 255, mask * 1.0)]
    counts = [len(f.match.points_2d) for f in flows]
    assert counts[0] == counts[1] == counts[2]


def test_bfloat16_changes_answers_by_its_rounding_alone(workshop, picture):
    """The whole way as on a processor that computes in bfloat16."""
    exact, rough = (
        estimate(PoseEstimator(**workshop, device="cpu", precision=chosen), picture).match
        for chosen in ("float32", "bfloat16")
    )
    error = np.abs(rough.confidence - exact.confidence).mean()
    # 8 bits are 0.4 %, and some ten roundings follow one another.
    assert 0 < error < 0.02


def test_a_mesh_without_faces_is_a_reason(workshop, small_model, tmp_path, picture):
    folder = tmp_path / "objects"
    folder.mkdir()
    head = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    (folder / "thing.ply").write_text(head + "end_header\n0 0 0\n0.1 0 0\n0 0.1 0\n")
    bare = PoseEstimator(**{**workshop, "objects": folder}, device="cpu")
    result = estimate(bare, picture)
    assert result.T_cam_obj is None
    assert "thing.ply" in result.reason


def test_nothing_is_drawn_until_somebody_looks(estimator, picture, monkeypatch):
    drawn = []
    real = result_module.match_view
    monkeypatch.setattr(result_module, "match_view", lambda s: drawn.append(s) or real(s))
    result = estimate(estimator, picture)
    assert drawn == []
    assert result.match is result.match
    assert len(drawn) == 1


def test_all_views_that_see_nothing_are_no_pose(estimator, picture, monkeypatch):
    """A network sure that nothing of the crop is in any template."""
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


@pytest.mark.parametrize(
    "change",
    [
        {"hypotheses": 0},
        {"refinements": -1},
        {"rolls": 0},
        {"samples": 1.5},
        {"match_level": "cell"},
        {"retry_views": -1},
        {"retry_below_score": 1.5},
    ],
)
def test_choices_that_make_no_sense_are_refused(workshop, change):
    name = next(iter(change))
    assert name in error_of(lambda: PoseEstimator(**workshop, **change))


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
        assert result[0].match is None
        # The print of this object tells its turn to a degree or so.
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
    """With 0.3 the first two views are not enough; the fourth view's answer is the best, and it is given."""
    poses = [transform(rotation_x(2.0 + 0.8 * n), [-0.18, 0.0, 0.6]) for n in range(6)]
    scores = [first, first - 0.1, 0.1, 0.8, 0.1, 0.1]
    perfect(estimator, monkeypatch, mesh, lambda n: poses[n], lambda n: scores[n])
    monkeypatch.setattr(estimator, "options", replace(estimator.options, refinements=0))
    result = estimate(estimator, picture)
    convinced = first > estimator.options.retry_below_score
    assert result.score == (first if convinced else 0.8)
    np.testing.assert_allclose(result.T_cam_obj, poses[0 if convinced else 3], atol=1e-9)


def test_a_worse_second_look_changes_nothing(estimator, picture, mesh, monkeypatch):
    poses = [transform(rotation_x(2.0 + 0.8 * n), [-0.18, 0.0, 0.6]) for n in range(6)]
    perfect(estimator, monkeypatch, mesh, lambda n: poses[n], lambda n: 0.4 - 0.05 * n)
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


class Fails:
    """Raises in the place of a function, `calls` counted; `only` may pick the calls by their arguments."""

    def __init__(self, error: Exception, real=None, only=None) -> None:
        self.error, self.real, self.only, self.calls = error, real, only, 0

    def __call__(self, *args, **kwargs):
        if self.only is not None and not self.only(*args):
            return self.real(*args, **kwargs)
        self.calls += 1
        raise self.error


@pytest.mark.parametrize(
    ("place", "name", "error"),
    [
        (Renderer, "render", RuntimeError("the scene is gone")),
        (Renderer, "__init__", OSError("no Embree")),
        (VPOGModel, "encode", torch.OutOfMemoryError("CUDA out of memory.")),
        (VPOGModel, "match", RuntimeError("mat1 and mat2\ncannot be multiplied")),
        (VPOGModel, "describe", MemoryError()),
        (ObjectLibrary, "symmetry", KeyError("thing")),
        (ObjectLibrary, "resolve", ZeroDivisionError("division by zero")),
        (estimator_module, "pose_estimate", IndexError("list index out of range")),
    ],
)
def test_whatever_fails_is_a_reason(workshop, picture, monkeypatch, caplog, place, name, error):
    image, boxes = picture
    working = PoseEstimator(**workshop, device="cpu", alignments=1)
    working.onboard()
    monkeypatch.setattr(place, name, Fails(error))
    detections = [Detection("thing", boxes[0]), Detection("thing", boxes[1], instance=1)]
    for _ in range(2):
        results = working.estimate(image, CAMERA, detections)
        assert [(r.class_id, r.instance) for r in results] == [("thing", 0), ("thing", 1)]
        for result in results:
            assert result.T_cam_obj is None
            assert result.score == 0.0
            assert type(error).__name__ in result.reason
            assert "\n" not in result.reason
    told = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 1
    assert told[0].exc_info[1] is error


def test_what_fails_costs_its_own_detection_alone(estimator, picture, monkeypatch):
    """The middle one of three objects cannot be solved; all go through the network together."""
    image, boxes = picture
    detections = [Detection("thing", box, instance=n) for n, box in enumerate(boxes)]
    whole = estimator.estimate(image, CAMERA, detections)
    solve_all = matching_module.solve_all

    bad = crop_detection(image, CAMERA, detections[1], estimator.model.config.image_size)

    def only(crops, *_) -> bool:
        return any(np.array_equal(crop.rgb, bad.rgb) for crop in crops)

    monkeypatch.setattr(matching_module, "solve_all", Fails(RuntimeError("singular"), solve_all, only))
    results = estimator.estimate(image, CAMERA, detections)
    assert "RuntimeError: singular" in results[1].reason
    for n in (0, 2):
        assert results[n].reason == whole[n].reason
        np.testing.assert_allclose(results[n].match.flow, whole[n].match.flow, atol=1e-2)


def test_priors_that_are_not_one_for_each_detection_are_a_reason(estimator, picture):
    image, boxes = picture
    (result,) = estimator.estimate(image, CAMERA, [Detection("thing", boxes[0])], [None, None])
    assert "2 priors came with 1 detections" in result.reason


def test_an_estimate_ends_between_its_stages_when_it_is_told_to(estimator, picture, monkeypatch):
    image, boxes = picture
    looks = []
    with stop_when(lambda: looks.append(1)):
        estimator.estimate(image, CAMERA, [Detection("thing", boxes[0])])
    # One look for each of the stages, and more.
    assert len(looks) > 7
    for last in range(0, len(looks), 3):
        count = iter(range(len(looks)))
        with stop_when(lambda last=last, count=count: next(count) >= last), pytest.raises(Cancelled):
            estimator.estimate(image, CAMERA, [Detection("thing", boxes[0])])
