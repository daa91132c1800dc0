import json
from pathlib import Path

import numpy as np
import pytest

from vpog_core.cli.files import check_output, check_output_file, pose_dict, pose_text, roll_pitch_yaw
from vpog_core.geometry.se3 import rotation_x, rotation_y, rotation_z, transform
from vpog_core.types import PoseEstimate, VPOGError


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
    assert (data["alternatives"], data["samples"]) == ([], [])


def test_alternatives_and_samples_are_in_the_json():
    T = transform(rotation_z(0.3), [0.1, -0.02, 0.75])
    found = PoseEstimate("mug", 0, T, 0.83, alternatives=[PoseEstimate("mug", 0, T, 0.4)])
    found.samples = np.stack([T, T])
    data = json.loads(json.dumps(pose_dict(found)))
    np.testing.assert_allclose(data["alternatives"][0]["T_cam_obj"], T)
    assert data["alternatives"][0]["score"] == 0.4
    np.testing.assert_allclose(data["samples"], [T, T])


def test_no_pose_says_why_and_is_null_in_json():
    missing = PoseEstimate("mug", reason="Nothing agrees.")
    assert pose_text(missing) == "mug: no pose. Nothing agrees."
    data = json.loads(json.dumps(pose_dict(missing)))
    assert data["T_cam_obj"] is None
    assert data["reason"] == "Nothing agrees."


def test_places_for_results_are_checked_and_left_as_they_are(tmp_path):
    (tmp_path / "file").touch()
    check_output(tmp_path / "new" / "folder")
    check_output_file(tmp_path / "new" / "file")
    check_output_file(tmp_path / "file")
    with pytest.raises(VPOGError, match="is a file"):
        check_output(tmp_path / "file" / "folder")
    with pytest.raises(VPOGError, match="is a folder: give the path of a file"):
        check_output_file(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write into")
def test_a_folder_that_cannot_be_written_is_refused():
    with pytest.raises(VPOGError, match="cannot be written"):
        check_output("/proc/self/new")
