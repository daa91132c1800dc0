"""Test the package as a user of plain Python meets it: `import vpog_core as vpog`."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import vpog_core as vpog
from vpog_core.geometry.se3 import rotation_x, transform
from vpog_core.objects.renderer import Renderer

K = np.array([[600.0, 0, 319.5], [0, 600, 239.5], [0, 0, 1]])


@pytest.fixture(scope="module")
def estimator(workshop):
    return vpog.PoseEstimator(**workshop, device="cpu")


@pytest.fixture(scope="module")
def image(mesh):
    T = transform(rotation_x(2.0), [0.0, 0.0, 0.6])
    return Renderer(mesh).render(T, K, (480, 640), background=(90, 100, 80)).rgb


DETECTION = vpog.Detection("thing", [220.0, 140.0, 420.0, 340.0])
KNOWN = vpog.PoseConstraint(normal=(0, -1, 0), up=(0, 0, 1))


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, vpog_core; print([m for m in ('torch', 'cv2', 'numpy') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "[]"


@pytest.mark.parametrize("name", vpog.__all__)
def test_every_name_it_lists_is_there(name):
    assert getattr(vpog, name) is not None
    assert name in dir(vpog)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="PoseEstimater"):
        _ = vpog.PoseEstimater


def test_intrinsics_alone_do_for_a_camera(estimator, image):
    (by_K,) = estimator.estimate(image, K, [DETECTION])
    (by_camera,) = estimator.estimate(image, vpog.Camera(K, width=640, height=480), [DETECTION])
    # The network is not trained, so there may be no pose; what it matched is the same.
    np.testing.assert_array_equal(by_K.match.confidence, by_camera.match.confidence)
    assert by_K.reason == by_camera.reason


@pytest.mark.parametrize("name", ["thing", "gadget"])
def test_a_constraint_counts_by_the_name_and_by_the_alias_of_its_object(estimator, image, name, monkeypatch):
    given = []

    def crop(setup, image, camera, detection, prior, constraint):
        given.append(constraint)
        raise vpog.VPOGError("enough")

    monkeypatch.setattr("vpog_core.inference.pipeline.crop", crop)
    detections = [DETECTION, replace(DETECTION, class_id="gadget")]
    estimator.estimate(image, K, detections, constraints={name: KNOWN})
    vpog.Tracker(estimator).estimate(image, K, detections, 0.0, {name: KNOWN})
    assert [constraint is KNOWN for constraint in given] == [True] * 4


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        ({"thign": KNOWN}, "There is no object 'thign'"),
        (KNOWN, "The constraints are a PoseConstraint: give a mapping"),
        ({"thing": (0, -1, 0)}, "The constraint of 'thing' is a tuple"),
        ({"thing": KNOWN, "gadget": KNOWN}, "'thing' twice"),
    ],
)
def test_constraints_that_cannot_be_used_are_the_reason_why_there_is_no_pose(
    estimator, image, constraints, said
):
    tracker = vpog.Tracker(estimator)
    for estimates in (
        estimator.estimate(image, K, [DETECTION], constraints=constraints),
        tracker.estimate(image, K, [DETECTION], 0.0, constraints),
    ):
        (estimate,) = estimates
        assert estimate.T_cam_obj is None
        assert said in estimate.reason


def test_a_detection_alone_and_one_with_only_a_mask_are_as_good_as_any(estimator, image):
    mask = np.zeros(image.shape[:2], bool)
    mask[140:340, 220:420] = True
    (by_list,) = estimator.estimate(image, K, [vpog.Detection("thing", [219.5, 139.5, 419.5, 339.5])])
    (alone,) = estimator.estimate(image, K, vpog.Detection("thing", [219.5, 139.5, 419.5, 339.5]))
    (masked,) = estimator.estimate(image, K, vpog.Detection("thing", None, mask=mask))
    (tracked,) = vpog.Tracker(estimator).estimate(image, K, vpog.Detection("thing", None, mask=mask), 0.0)
    for other in (alone, masked, tracked):
        np.testing.assert_array_equal(other.match.crop, by_list.match.crop)
    (empty,) = estimator.estimate(image, K, vpog.Detection("thing", None, mask=mask & False))
    assert "The mask is empty" in empty.reason


@pytest.mark.parametrize(
    ("detections", "said"),
    [
        (None, "The detections are a NoneType"),
        ({"mug": [0, 0, 9, 9]}, "The detections are a dict"),
        ([("mug", [0, 0, 9, 9])], "Detection 0 is a tuple"),
        ([DETECTION, {"box": [0, 0, 9, 9]}], "Detection 1 is a dict"),
        ([vpog.Detection("thing", None)], "neither a box nor a mask"),
        ([vpog.Detection("thing", "0 0 9 9")], "The box of detection 0 is '0 0 9 9'"),
    ],
)
def test_what_is_no_detection_is_one_sentence(estimator, image, detections, said):
    for call in (estimator.estimate, vpog.Tracker(estimator).estimate):
        with pytest.raises(vpog.VPOGError, match=said):
            call(image, K, detections, **({} if call == estimator.estimate else {"time": 0.0}))


@pytest.mark.parametrize(
    ("objects", "said"),
    [({"mug": "mug.glb"}, "The objects are a dict"), ("mug.glb", "There is no mesh file 'mug.glb'")],
)
def test_what_is_no_folder_of_meshes_is_one_sentence(objects, said):
    with pytest.raises(vpog.VPOGError, match=said):
        vpog.PoseEstimator(objects)


def test_cameras_of_other_names_are_taken_and_four_numbers_are_not():
    assert vpog.Camera(K, 640, 480, model="pinhole").model == "plumb_bob"
    assert vpog.Camera(K, 640, 480, [0.1] * 4, model="fisheye").model == "equidistant"
    with pytest.raises(vpog.VPOGError, match="K has 4 numbers: give an intrinsic matrix"):
        vpog.Camera([600, 600, 319.5, 239.5], 640, 480)
    with pytest.raises(vpog.VPOGError, match="K is a str"):
        vpog.Camera("camera.yaml", 640, 480)


def test_a_principal_point_outside_the_image_is_the_reason_why_there_is_no_pose(estimator, image):
    moved = np.array([[600.0, 0, 719.5], [0, 600, 239.5], [0, 0, 1]])
    (estimate,) = estimator.estimate(image, moved, [DETECTION])
    assert "The principal point (719.5, 239.5) lies outside of the 640x480 image" in estimate.reason


@pytest.mark.parametrize(
    ("camera", "said"),
    [
        (np.eye(4), "shape (4, 4)"),
        (np.zeros((3, 3)), "focal length"),
        (np.full((3, 3), np.nan), "focal length"),
        (None, "give a Camera, or intrinsics K"),
        ("camera.yaml", "give a Camera, or intrinsics K"),
    ],
)
def test_what_is_no_camera_is_the_reason_why_there_is_no_pose(estimator, image, camera, said):
    (estimate,) = estimator.estimate(image, camera, [DETECTION])
    assert estimate.T_cam_obj is None
    assert said in estimate.reason


def test_a_tracker_takes_the_same_arguments_as_an_estimator(estimator, image):
    tracker = vpog.Tracker(estimator)
    by_K = [tracker.estimate(image, K, [DETECTION], time=0.1 * n)[0] for n in range(2)]
    camera = vpog.Camera(K, width=640, height=480)
    boxed = vpog.Detection("thing", np.array(DETECTION.box))
    tracker = vpog.Tracker(estimator)
    by_camera = [tracker.estimate(image, camera, [boxed], time=0.1 * n)[0] for n in range(2)]
    assert [e.reason for e in by_K] == [e.reason for e in by_camera]
    assert [e.score for e in by_K] == [e.score for e in by_camera]


def test_a_tracker_gives_the_reason_where_the_camera_is_none(estimator, image):
    tracker = vpog.Tracker(estimator)
    (estimate,) = tracker.estimate(image, np.eye(4), [DETECTION], time=0.0)
    assert "shape (4, 4)" in estimate.reason
    assert tracker.boxes == {}
