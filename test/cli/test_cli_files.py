import json

import cv2
import numpy as np
import pytest
import yaml

from vpog_core.cli.files import (
    mask_box,
    pose_dict,
    pose_text,
    read_camera,
    read_image,
    read_mask,
    roll_pitch_yaw,
)
from vpog_core.geometry.se3 import rotation_x, rotation_y, rotation_z, transform
from vpog_core.types import PoseEstimate, VPOGError

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


def test_json_and_yaml_read_alike(tmp_path):
    a = read_camera(written(tmp_path, SIMPLE, "camera.json"), (480, 640))
    b = read_camera(written(tmp_path, yaml.safe_dump(SIMPLE)), (480, 640))
    np.testing.assert_array_equal(a.K, b.K)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{fx: [", "neither YAML nor JSON"),
        ("", "no names"),
        ("[1, 2]", "no names"),
        ("fx: !!python/object/apply:os.getcwd []", "neither YAML nor JSON"),
        ({k: v for k, v in SIMPLE.items() if k != "cy"}, "no cy"),
        ({**SIMPLE, "fx": "wide"}, "fx must be a number"),
        ({**SIMPLE, "fx": None}, "fx must be a number"),
        ({**SIMPLE, "fx": 0}, "focal length"),
        ({**SIMPLE, "width": 640.5}, "whole number"),
        ({**SIMPLE, "width": 1280}, "1280x480"),
        ({**SIMPLE, "distortion": [1, 2, 3]}, "3 coefficients"),
        ({**SIMPLE, "distortion": "none"}, "distortion must be numbers"),
        ({**SIMPLE, "distortion_model": "magic"}, "magic"),
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


def test_images_come_as_rgb_whatever_the_file(tmp_path):
    orange = np.full((6, 8, 3), (255, 128, 0), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), orange[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), orange)
    cv2.imwrite(str(tmp_path / "grey.png"), orange[..., 1])
    assert read_image(tmp_path / "grey.png").shape == (6, 8, 3)
    cv2.imwrite(str(tmp_path / "deep.png"), orange[..., 1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), np.full((6, 8, 3), 128))


@pytest.mark.parametrize("reader", [read_image, lambda path: read_mask(path, (6, 8))])
def test_missing_and_broken_pictures_are_refused(tmp_path, reader):
    with pytest.raises(VPOGError, match=r"There is no .* 'nowhere\.png'"):
        reader("nowhere.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(VPOGError, match="cannot be read"):
        reader(tmp_path / "text.png")


def test_mask_and_its_box(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[5:9, 10:21] = 1
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    read = read_mask(tmp_path / "mask.png", (20, 30))
    assert read.dtype == bool
    np.testing.assert_array_equal(read, mask > 0)
    np.testing.assert_array_equal(mask_box(read), [10, 5, 21, 9])
    with pytest.raises(VPOGError, match="30x20 but the image 40x20"):
        read_mask(tmp_path / "mask.png", (20, 40))
    cv2.imwrite(str(tmp_path / "mask.png"), 0 * mask)
    with pytest.raises(VPOGError, match="all black"):
        read_mask(tmp_path / "mask.png", (20, 30))


def test_roll_pitch_yaw_undo_their_rotation():
    for angles in [(0.3, -0.5, 2.0), (-3.0, 1.2, -0.1), (0.0, 0.0, 0.0)]:
        R = rotation_z(angles[2]) @ rotation_y(angles[1]) @ rotation_x(angles[0])
        np.testing.assert_allclose(roll_pitch_yaw(R), angles, atol=1e-12)
    roll, pitch, yaw = roll_pitch_yaw(rotation_z(0.7) @ rotation_y(np.pi / 2))
    np.testing.assert_allclose((roll, pitch, yaw), (0.0, np.pi / 2, 0.7), atol=1e-9)


def test_pose_in_words_and_as_json():
    T = transform(rotation_z(np.pi / 2), [0.1, -0.02, 0.75])
    found = PoseEstimate("mug", 0, T, 0.83, np.diag([1e-6] * 3 + [1e-4] * 3), 412, 1.3)
    text = pose_text(found)
    assert "x +0.1000  y -0.0200  z +0.7500 m" in text
    assert "yaw +90.0 deg" in text
    assert "412 matches" in text
    assert "x 1.0   y 1.0   z 1.0 mm" in text
    assert "x 0.6   y 0.6   z 0.6 deg" in text
    data = json.loads(json.dumps(pose_dict(found)))
    np.testing.assert_allclose(data["T_cam_obj"], T)
    np.testing.assert_allclose(data["quaternion_xyzw"], [0, 0, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-9)


def test_no_pose_says_why_and_is_null_in_json():
    missing = PoseEstimate("mug", reason="Nothing agrees.")
    assert pose_text(missing) == "mug: no pose. Nothing agrees."
    data = json.loads(json.dumps(pose_dict(missing)))
    assert data["T_cam_obj"] is None
    assert data["reason"] == "Nothing agrees."
