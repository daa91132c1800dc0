"""Test camera files as ROS, OpenCV, Kalibr, BOP and people write them."""

import json

import cv2
import numpy as np
import pytest
import yaml

from vpog_core.io.camera_file import read_camera
from vpog_core.types import VPOGError

SIMPLE = {"fx": 600, "fy": 610, "cx": 319.5, "cy": 239.5, "width": 640, "height": 480}
ROS = """\
image_width: 640
image_height: 480
camera_name: head
camera_matrix: {rows: 3, cols: 3, data: [600, 0, 319.5, 0, 610, 239.5, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, -0.2, 0.001, 0.002, 0.0]}
"""
MESSAGE = """\
header: {frame_id: camera}
height: 480
width: 640
distortion_model: rational_polynomial
d: [0.1, -0.2, 0.001, 0.002, 0.0, 0.1, 0.0, 0.0]
k: [600.0, 0.0, 319.5, 0.0, 610.0, 239.5, 0.0, 0.0, 1.0]
---
"""
K = np.array([[600.0, 0, 319.5], [0, 610.0, 239.5], [0, 0, 1]])


def written(tmp_path, content, name="camera.yaml"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "model", "count"),
    [
        (SIMPLE, "plumb_bob", 0),
        ({k: v for k, v in SIMPLE.items() if k not in ("width", "height")}, "plumb_bob", 0),
        ({**SIMPLE, "distortion": [0.1, 0, 0, 0, 0]}, "plumb_bob", 5),
        ({**SIMPLE, "distortion": [0.1] * 8}, "rational_polynomial", 8),
        ({**SIMPLE, "distortion": [0.1] * 4, "distortion_model": "fisheye"}, "equidistant", 4),
        ({"cam_K": K.ravel().tolist(), "depth_scale": 1.0}, "plumb_bob", 0),
        (ROS, "plumb_bob", 5),
        (MESSAGE, "rational_polynomial", 8),
    ],
)
def test_every_usual_camera_file_is_understood(tmp_path, content, model, count):
    camera = read_camera(written(tmp_path, content), (480, 640))
    np.testing.assert_array_equal(camera.K, K)
    assert (camera.width, camera.height, camera.model, camera.distortion.size) == (640, 480, model, count)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cam_K.txt", "6.0e+02 0.0e+00 3.195e+02\n0.0e+00 6.1e+02 2.395e+02\n0.0e+00 0.0e+00 1.0e+00\n"),
        ("cam_K.txt", "600\t0\t319.5\n0\t610\t239.5\n0\t0\t1"),
        ("K.csv", "600,0,319.5\n0,610,239.5\n0,0,1\n"),
        ("K.txt", "# fx fy cx cy\n600 610 319.5 239.5\n"),
        ("K.json", "[[600, 0, 319.5], [0, 610, 239.5], [0, 0, 1]]"),
        ("K.json", "[600, 610, 319.5, 239.5]"),
        ("K.yaml", "- [600, 0, 319.5]\n- [0, 610, 239.5]\n- [0, 0, 1]\n"),
        ("K.json", '{"K": [[600, 0, 319.5], [0, 610, 239.5], [0, 0, 1]]}'),
        (
            "camera_data.json",
            '{"K": [[600, 0, 319.5], [0, 610, 239.5], [0, 0, 1]], "resolution": [480, 640]}',
        ),
    ],
)
def test_k_without_names_is_understood(tmp_path, name, text):
    camera = read_camera(written(tmp_path, text, name), (480, 640))
    np.testing.assert_array_equal(camera.K, K)
    assert (camera.width, camera.height) == (640, 480)


def test_an_array_of_numpy_is_understood_and_its_pickles_are_not(tmp_path):
    np.save(tmp_path / "K.npy", K)
    np.testing.assert_array_equal(read_camera(tmp_path / "K.npy", (480, 640)).K, K)
    for broken in (np.array([{"fx": 1}], dtype=object), np.array(["600", "x"])):
        np.save(tmp_path / "K.npy", broken)
        with pytest.raises(VPOGError, match="cannot be read as an array of numbers: write it with"):
            read_camera(tmp_path / "K.npy", (480, 640))


def test_json_and_yaml_read_alike(tmp_path):
    a = read_camera(written(tmp_path, SIMPLE, "camera.json"), (480, 640))
    b = read_camera(written(tmp_path, yaml.safe_dump(SIMPLE)), (480, 640))
    np.testing.assert_array_equal(a.K, b.K)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{fx: [", "neither YAML nor JSON"),
        ("", "no names"),
        ("[1, 2]", "holds 2 numbers: give the 9 of K"),
        ('{"K": [600, 610, 319.5, 239.5], "resolution": [240, 320]}', "outside of the 240x320 image"),
        ("fx: !!python/object/apply:os.getcwd []", "neither YAML nor JSON"),
        ({k: v for k, v in SIMPLE.items() if k != "cy"}, "no cy"),
        ({**SIMPLE, "fx": "wide"}, "fx must be a number"),
        ({**SIMPLE, "fx": None}, "fx must be a number"),
        ({**SIMPLE, "fx": 0}, "focal length"),
        ({**SIMPLE, "width": 640.5}, "whole number"),
        ({**SIMPLE, "width": 1280}, "1280x480"),
        ({**SIMPLE, "distortion": [1, 2, 3]}, "3 coefficients"),
        ({**SIMPLE, "distortion": "none"}, "distortion must be numbers"),
        ({**SIMPLE, "distortion_model": "magic", "d": [1, 2, 3, 4]}, "magic"),
        ({"k": [1, 2, 3]}, "k must be 9 numbers"),
        ({"camera_matrix": {"rows": 3}}, "camera_matrix must be 9 numbers"),
    ],
)
def test_unusable_camera_files_are_refused_in_one_line(tmp_path, content, what):
    with pytest.raises(VPOGError, match=what) as caught:
        read_camera(written(tmp_path, content), (480, 640))
    assert "\n" not in str(caught.value)


def test_binary_file_as_camera_is_refused(tmp_path):
    path = tmp_path / "camera.yaml"
    path.write_bytes(b"\xff\xfe\x00\x89PNG")
    with pytest.raises(VPOGError, match="neither YAML nor JSON"):
        read_camera(path, (480, 640))


DISTORTION = np.array([[0.1, -0.2, 0.001, 0.002, 0.05]])


def opencv_file(tmp_path, name, **values):
    """Return a calibration as OpenCV's own writer stores it."""
    path = tmp_path / name
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    for key, value in values.items():
        storage.write(key, value)
    storage.release()
    return path


@pytest.mark.parametrize("name", ["camera.yaml", "camera.yml", "camera.xml", "camera.json"])
def test_files_of_opencv_are_read(tmp_path, name):
    path = opencv_file(
        tmp_path, name, image_width=640, image_height=480, camera_matrix=K, distortion_coefficients=DISTORTION
    )
    camera = read_camera(path, (480, 640))
    np.testing.assert_array_equal(camera.K, K)
    np.testing.assert_array_equal(camera.distortion, DISTORTION[0])


@pytest.mark.parametrize("directive", ["%YAML:1.0\n---\n", "%YAML 1.2\n---\n", "%YAML 1.1\n---\n", "\ufeff"])
@pytest.mark.parametrize("tag", ["", " !!opencv-matrix"])
def test_every_directive_and_tag_of_yaml_is_read(tmp_path, directive, tag):
    text = ROS.replace("camera_matrix:", f"camera_matrix:{tag}")
    camera = read_camera(written(tmp_path, directive + text), (480, 640))
    np.testing.assert_array_equal(camera.K, K)


@pytest.mark.parametrize("names", [("K", "D"), ("cameraMatrix", "distCoeffs"), ("mtx", "dist")])
def test_names_that_people_give_to_k_and_distortion(tmp_path, names):
    path = opencv_file(tmp_path, "camera.yaml", **dict(zip(names, (K, DISTORTION), strict=True)))
    camera = read_camera(path, (480, 640))
    np.testing.assert_array_equal(camera.K, K)
    np.testing.assert_array_equal(camera.distortion, DISTORTION[0])


def test_roi_and_binning_of_a_printed_camera_info(tmp_path):
    more = "binning_x: 2\nbinning_y: 2\nroi: {x_offset: 160, y_offset: 80, height: 320, width: 320}\n"
    camera = read_camera(written(tmp_path, MESSAGE.replace("---\n", more)), (160, 160))
    assert (camera.width, camera.height) == (160, 160)
    # The middle between the first four pixels of the region is the middle of the first pixel that is sent.
    np.testing.assert_allclose(
        np.linalg.solve(camera.K, [0, 0, 1]), np.linalg.solve(K, [160.5, 80.5, 1]), atol=1e-12
    )


def test_a_region_outside_of_the_image_is_refused(tmp_path):
    more = "roi: {x_offset: 400, y_offset: 0, height: 480, width: 640}\n"
    with pytest.raises(VPOGError, match=r"640x480 pixels at \(400, 0\) does not lie in the 640x480 image"):
        read_camera(written(tmp_path, ROS + more), (480, 640))


KALIBR = {
    "camera_model": "pinhole",
    "intrinsics": [600, 610, 319.5, 239.5],
    "distortion_model": "radtan",
    "distortion_coeffs": [0.1, -0.2, 0.001, 0.002],
    "resolution": [640, 480],
}


def test_a_region_that_is_no_mapping_is_refused(tmp_path):
    path = tmp_path / "camera.yaml"
    path.write_text(yaml.safe_dump({"fx": 600, "fy": 600, "cx": 320, "cy": 240, "roi": [0, 0, 640, 480]}))
    with pytest.raises(VPOGError, match=r"roi must be .x_offset, y_offset, width, height"):
        read_camera(path, (480, 640))


def test_a_camchain_of_kalibr(tmp_path, caplog):
    camera = read_camera(written(tmp_path, {"cam0": {**KALIBR, "rostopic": "/image"}}), (480, 640))
    np.testing.assert_array_equal(camera.K, K)
    assert (camera.model, camera.distortion.size) == ("plumb_bob", 4)
    assert caplog.messages == [
        f"Of the camera file '{tmp_path / 'camera.yaml'}', these keys are not used: rostopic."
    ]
    fisheye = {**KALIBR, "distortion_model": "equidistant"}
    assert read_camera(written(tmp_path, {"cam0": fisheye}), (480, 640)).model == "equidistant"
    with pytest.raises(VPOGError, match=r"2 different cameras \(cam0, cam1\)"):
        read_camera(written(tmp_path, {"cam0": KALIBR, "cam1": fisheye}), (480, 640))
    omni = {**KALIBR, "camera_model": "omni"}
    with pytest.raises(VPOGError, match="'omni' is not known"):
        read_camera(written(tmp_path, {"cam0": omni}), (480, 640))


def test_a_scene_camera_of_bop(tmp_path):
    images = {str(n): {"cam_K": K.ravel().tolist(), "cam_t_w2c": [n, 0, 0]} for n in range(3)}
    np.testing.assert_array_equal(read_camera(written(tmp_path, images), (480, 640)).K, K)
    images["2"]["cam_K"][0] = 500
    with pytest.raises(VPOGError, match="3 different cameras"):
        read_camera(written(tmp_path, images), (480, 640))


def test_single_coefficients_by_name(tmp_path):
    named = {"k1": 0.1, "k2": -0.2, "p1": 0.001, "p2": 0.002, "k3": 0.05}
    for content in ({**SIMPLE, **named}, {**SIMPLE, "distortion": named}):
        camera = read_camera(written(tmp_path, content), (480, 640))
        np.testing.assert_array_equal(camera.distortion, DISTORTION[0])
    lens = {"model": "fisheye", "k1": 0.1, "k2": 0.02, "k3": 0.003, "k4": 0.0004}
    camera = read_camera(written(tmp_path, {**SIMPLE, **lens}), (480, 640))
    np.testing.assert_array_equal(camera.distortion, [0.1, 0.02, 0.003, 0.0004])


def test_k_stored_by_columns(tmp_path):
    columns = {"width": 640, "height": 480, "intrinsic_matrix": K.T.ravel().tolist()}
    np.testing.assert_array_equal(read_camera(written(tmp_path, columns), (480, 640)).K, K)


def test_keys_that_are_not_used_are_said_once(tmp_path, caplog):
    read_camera(written(tmp_path, ROS + "distorsion: [1]\nzoom: 2\n"), (480, 640))
    assert len(caplog.messages) == 1
    assert "these keys are not used: distorsion, zoom." in caplog.text


def test_k_of_another_resolution_is_said(tmp_path, caplog):
    simulator = {"fx": 277, "fy": 277, "cx": 160, "cy": 120}
    read_camera(written(tmp_path, simulator), (480, 640))
    (sentence,) = caplog.messages
    assert "(160, 120) is far from the middle of the 640x480 image: is K for another resolution" in sentence
    with pytest.raises(VPOGError, match="lies outside of the 640x480 image"):
        read_camera(written(tmp_path, {**SIMPLE, "cx": 3195, "cy": 2395}), (480, 640))


def test_a_bomb_of_xml_entities_is_refused(tmp_path):
    layers = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "ha">{layers}]><x><K>&a9;</K></x>'
    with pytest.raises(VPOGError, match="neither YAML nor JSON nor XML"):
        read_camera(written(tmp_path, bomb, "camera.xml"), (480, 640))
