"""Test that unusable input and failures give a reason, and leave the other detections as they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import vpog_core.inference.estimator as estimator_module
import vpog_core.inference.matching as matching_module
from vpog_core.cancellation import Cancelled, stop_when
from vpog_core.geometry.camera_models import published_camera
from vpog_core.geometry.se3 import transform
from vpog_core.inference.crop import crop_detection
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.inference.failures import Failures
from vpog_core.inference.query import Prior
from vpog_core.models.vpog_model import VPOGModel
from vpog_core.objects.library import ObjectLibrary
from vpog_core.objects.renderer import Renderer
from vpog_core.types import Camera, Detection

from .asking import CAMERA, estimate


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


def test_a_mesh_without_faces_is_a_reason(workshop, small_model, tmp_path, picture):
    folder = tmp_path / "objects"
    folder.mkdir()
    head = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    (folder / "thing.ply").write_text(head + "end_header\n0 0 0\n0.1 0 0\n0 0.1 0\n")
    bare = PoseEstimator(**{**workshop, "objects": folder}, device="cpu")
    result = estimate(bare, picture)
    assert result.T_cam_obj is None
    assert "thing.ply" in result.reason


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
    # Poses to follow, so that renders are needed whatever the untrained network matches; none is accepted.
    priors = [Prior(transform(np.eye(3), [x, 0.0, 0.6]), accept_score=1.0) for x in (-0.18, 0.0)]
    for _ in range(2):
        results = working.estimate(image, CAMERA, detections, priors)
        assert [(r.class_id, r.instance) for r in results] == [("thing", 0), ("thing", 1)]
        for result in results:
            assert result.T_cam_obj is None
            assert result.score == 0.0
            assert type(error).__name__ in result.reason
            assert "\n" not in result.reason
    told = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 1
    assert told[0].exc_info[1] is error


def test_a_full_gpu_gives_up_the_encodings_it_keeps_and_goes_on(workshop, picture, monkeypatch):
    """The first match of two detections fails; one by one, with what was kept dropped, they succeed."""
    image, boxes = picture
    working = PoseEstimator(**workshop, device="cpu")
    detections = [Detection("thing", box, instance=n) for n, box in enumerate(boxes[:2])]
    working.estimate(image, CAMERA, detections)
    assert working.onboarded("thing")._clusters
    match, kept = VPOGModel.match, []

    def full_at_first(model, *given):
        kept.append(len(working.onboarded("thing")._clusters))
        if len(kept) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return match(model, *given)

    monkeypatch.setattr(VPOGModel, "match", full_at_first)
    monkeypatch.setattr(working._threads, "share", lambda find, setup, queries: find(setup, queries))
    results = working.estimate(image, CAMERA, detections)
    assert all(result.match is not None for result in results)
    assert kept[1] < kept[0]


@pytest.mark.skipif(not hasattr(torch, "AcceleratorError"), reason="needs torch 2.8")
def test_a_lost_gpu_is_no_defect_of_ours():
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    assert "check the GPU and its driver" in Failures().reason("Onboarding 'mug'", error)


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
