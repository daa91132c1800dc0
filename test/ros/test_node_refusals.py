"""Test what the real node in its own process refuses or doubts, and that it affects nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from vpog_ros.msg import Instance2D

from vpog_core.types import Camera, Detection, VPOGError
from vpog_ros.conversions import pose_from_message
from vpog_ros.estimator_loading import load_estimator
from vpog_ros.parameters import Settings

from .client import whole


@pytest.mark.parametrize(
    ("detection", "sentence"),
    [
        (Detection("carton", np.array([900.0, 10, 990, 90])), "outside the 640x480 image"),
        (Detection("carton", np.array([50.0, 50, 50, 50])), "is empty"),
    ],
)
def test_a_bad_detection_costs_itself_alone(active, scene, detection, sentence):
    frame = scene.render(0.0)
    answer = active.answer(active.send(frame.image, scene.camera, [detection, whole(frame)]))
    assert [pose.class_id for pose in answer.poses] == ["carton"]
    assert sentence in active.diagnosis()["last error"]


def test_an_object_that_is_broken_is_said_to_be_left_out(active, node):
    assert "cut.ply" in active.diagnosis()["message"]
    log = node.log.read_text()
    assert "'cut' is left out. The mesh" in log
    assert "objects: carton." in log
    assert "Traceback" not in log


def test_detections_of_a_broken_object_are_no_failures(active, scene):
    frame = scene.render(0.0)
    failures = active.diagnosis().get("failures, detection")
    cut = Detection("cut", np.array([10.0, 10, 90, 90]))
    answer = active.answer(active.send(frame.image, scene.camera, [cut, whole(frame)]))
    assert [pose.class_id for pose in answer.poses] == ["carton"]
    told = active.diagnosis()
    assert int(told["detections of objects left out"]) >= 1
    assert told.get("failures, detection") == failures


def test_unknown_classes_crowd_nothing_out(active, node, scene):
    frame = scene.render(0.0)
    persons = [Detection("person", np.array([10.0 * n, 10, 10 * n + 9, 90]), 0.95) for n in range(40)]
    failures = active.diagnosis().get("failures, detection")
    for _ in range(2):
        answer = active.answer(active.send(frame.image, scene.camera, [*persons, whole(frame)]))
        assert [pose.class_id for pose in answer.poses] == ["carton"]
    told = active.diagnosis()
    assert int(told["detections of unknown classes"]) >= 80
    assert told.get("failures, detection") == failures
    assert node.log.read_text().count("Detections of class 'person' are left out") == 1


def test_a_calibration_of_another_resolution_is_doubted(active, node, scene):
    frame = scene.render(0.0)
    K = scene.camera.K.copy()
    K[:2] /= 2
    half = Camera(K=K, width=640, height=480)
    active.answer(active.send(frame.image, half, [whole(frame)]))
    told = active.diagnosis()
    assert told["level"] == 1
    assert "is K for another resolution" in told["message"]
    assert "is K for another resolution" in node.log.read_text()
    active.answer(active.send(frame.image, scene.camera, [whole(frame)]))
    assert "another resolution" not in active.diagnosis()["message"]


@pytest.mark.parametrize("bits", [16, 10])
def test_sixteen_bit_images_are_read_by_the_bits_they_use(active, node, scene, bits):
    """Bayer and grey images have bits of their own, told apart by their encoding."""
    frame = scene.render(0.0)
    grey = frame.image.mean(axis=2).astype("<u2") << (bits - 8)
    pixels, encoding = (grey, "mono16") if bits == 10 else (np.dstack([grey] * 3), "rgb16")
    message = Image(height=480, width=640, encoding=encoding, step=pixels.nbytes // 480)
    message.data = pixels.tobytes()
    poses = active.answer(active.send(message, scene.camera, [whole(frame)])).poses
    expected = active.answer(
        active.send(np.dstack([grey >> (bits - 8)] * 3).astype(np.uint8), scene.camera, [whole(frame)])
    ).poses
    assert len(poses) == len(expected)
    for pose, other in zip(poses, expected, strict=True):
        np.testing.assert_allclose(
            pose_from_message(pose.pose.pose), pose_from_message(other.pose.pose), atol=0.01
        )
    assert f"The {encoding} images use {bits} of 16 bits" in node.log.read_text()


def test_stamps_of_the_detector_s_own_are_told(unfollowed, node, scene):
    active = unfollowed
    frame = scene.render(0.0)
    stamp = active.send(frame.image, scene.camera, [whole(frame)], delay_ms=30)
    words = "0.030000 s later: the detector must copy the image's header"
    assert active.spin_until(lambda: words in active.diagnosis()["message"], 10.0)
    assert active.diagnosis()["level"] == 1
    assert node.log.read_text().count("their stamps never match") == 1
    assert active.answers_to(stamp) == []
    active.answer(active.send(frame.image, scene.camera, [whole(frame)]))
    assert active.spin_until(lambda: "never match" not in active.diagnosis()["message"], 5.0)


def test_images_without_a_frame_are_answered_and_told_of(active, scene):
    frame = scene.render(0.0)
    stamp = active.send(frame.image, scene.camera, [whole(frame)], frame_id="")
    assert len(active.answer(stamp).poses) == 1
    assert "The images have no frame_id" in active.diagnosis()["message"]


def hostile_instances() -> list[Instance2D]:
    huge = RegionOfInterest(x_offset=2**32 - 1, y_offset=2**32 - 1, width=2**32 - 1, height=2**32 - 1)
    return [
        Instance2D(class_id="carton", instance=-(2**31), score=float("nan"), roi=huge),
        Instance2D(class_id="x" * 100_000, score=float("inf")),
        Instance2D(class_id="carton", instance=2**31 - 1, mask=Image(width=2**31, height=2**31)),
        Instance2D(class_id="carton\n\0é", roi=huge),
    ]


def test_hostile_messages_over_the_wire_cost_themselves_alone(active, node, scene):
    frame = scene.render(0.0)
    endless = CameraInfo(width=640, height=480)
    endless.k = [1e300, 0.0, 1e300, 0.0, 1e-300, float("nan"), 0.0, 0.0, 1.0]
    giant = Image(height=2**31, width=2**31, encoding="rgb8", step=2**32 - 1)
    for image, camera in [(frame.image, endless), (giant, scene.camera), (frame.image, scene.camera)]:
        active.send(image, camera, hostile_instances())
    assert len(active.answer(active.send(frame.image, scene.camera, [whole(frame)])).poses) == 1
    assert "Traceback" not in node.log.read_text()


def broken_encoding(image: np.ndarray) -> Image:
    message = Image(height=image.shape[0], width=image.shape[1], encoding="hsv", step=image.shape[1] * 3)
    message.data = image.tobytes()
    return message


def test_a_bad_frame_costs_itself_alone(active, scene):
    frame = scene.render(0.0)
    uncalibrated = CameraInfo(width=640, height=480)
    small = Camera(K=scene.camera.K, width=320, height=240)
    for image, camera, sentence in [
        (frame.image, uncalibrated, "focal length is (0, 0)"),
        (broken_encoding(frame.image), scene.camera, "encoding 'hsv'"),
        (frame.image, small, "320x240"),
    ]:
        active.send(image, camera, [whole(frame)])
        assert active.spin_until(lambda: sentence in active.diagnosis()["last error"], 20.0), sentence  # noqa: B023
    assert active.state() == "active"
    assert len(active.answer(active.send(frame.image, scene.camera, [whole(frame)])).poses) == 1


def test_live_parameters(active, scene):
    frame = scene.render(0.0)
    assert active.set_parameter("min_score", 1.0) == (True, "")
    try:
        assert active.answer(active.send(frame.image, scene.camera, [whole(frame)])).poses == []
    finally:
        assert active.set_parameter("min_score", 0.0) == (True, "")
    refused = {
        "target_object": ("spoon", "There is no object 'spoon'"),
        "device": ("cuda", "clean the node up"),
        "diagnostics_period": (0.5, "read-only"),
        "image_transport": ("compressed", "clean the node up"),
        "autostart": (True, "read-only"),
        "min_score": (7.0, "out of range"),
    }
    for name, (value, reason) in refused.items():
        success, answer = active.set_parameter(name, value)
        assert not success
        assert reason in answer


def bad_configurations(folder: Path) -> list[tuple[str, str, str]]:
    (folder / "broken").mkdir()
    (folder / "broken" / "mug.ply").write_bytes(b"ply\nthis is none")
    (folder / "no.safetensors").write_bytes(b"\x00" * 100)
    return [
        ("objects_dir", "/does/not/exist", "There is no objects folder '/does/not/exist'"),
        ("objects_dir", str(folder / "broken"), "mug.ply"),
        ("weights", str(folder / "no.safetensors"), "no.safetensors"),
        ("target_object", "spoon", "There is no object 'spoon'"),
    ]


def test_a_bad_configuration_is_refused_and_can_be_mended(node, client, objects_dir, tmp_path, scene):
    client.bring_to("unconfigured")
    good = {
        "objects_dir": str(objects_dir),
        "target_object": "",
        "weights": os.environ.get("VPOG_TEST_WEIGHTS", ""),
    }
    for name, value, sentence in bad_configurations(tmp_path):
        assert client.set_parameter(name, value) == (True, "")
        assert not client.change_state("configure")
        assert client.state() == "unconfigured"
        assert sentence in client.diagnosis()["message"]
        assert client.set_parameter(name, good[name]) == (True, "")
    client.bring_to("active")
    client.shake_hands()
    frame = scene.render(0.0)
    assert len(client.answer(client.send(frame.image, scene.camera, [whole(frame)])).poses) == 1


def test_bad_start_parameters_end_with_one_sentence(start_node):
    node = start_node(device="gpu")
    assert node.process.wait(30.0) == 2
    last = node.log.read_text().strip().splitlines()[-1]
    assert "device is 'gpu': it must be one of auto, cpu, cuda." in last


def test_cuda_that_is_not_there_is_refused(objects_dir):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    with pytest.raises(VPOGError, match="'cuda' is asked for and torch finds no CUDA GPU"):
        load_estimator(Settings(objects_dir=str(objects_dir), device="cuda"), lambda *_: None)


def test_strict_objects_refuses_all_where_one_is_broken(objects_dir):
    strict = Settings(objects_dir=str(objects_dir), strict_objects=True, device="cpu")
    with pytest.raises(VPOGError, match=r"cut\.ply"):
        load_estimator(strict, lambda *_: pytest.fail("an object was onboarded before"))


def test_unset_objects_folder_is_named():
    with pytest.raises(VPOGError, match="objects_dir is not set"):
        load_estimator(Settings(), lambda *_: None)
