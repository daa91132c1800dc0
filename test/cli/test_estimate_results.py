"""Test what `vpog estimate` draws and prints of poses, and where there is none."""

import argparse
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vpog_core.cli.estimate_results import draw_results, print_end
from vpog_core.synthetic.objects import make_object
from vpog_core.types import Camera, Detection, PoseEstimate

CAMERA = Camera(np.array([[200.0, 0, 79.5], [0, 200, 59.5], [0, 0, 1]]), 160, 120)
IMAGE = np.full((120, 160, 3), 90, np.uint8)
NOTHING = PoseEstimate("thing", reason="Nothing agrees.")


@pytest.fixture
def library():
    mesh = make_object(900_001, vertices=500)
    return SimpleNamespace(ids=["thing"], mesh=lambda name: mesh)


def found(score: float) -> PoseEstimate:
    T = np.eye(4)
    T[2, 3] = 0.6
    return PoseEstimate("thing", T_cam_obj=T, score=score)


def test_without_a_pose_no_image_of_an_earlier_run_stays(tmp_path, library):
    for name in ("overlay.png", "match.png"):
        (tmp_path / name).write_text("of an earlier run")
    detections = [Detection("thing", np.array([40.0, 50, 100, 110]))]
    assert draw_results(tmp_path, IMAGE, CAMERA, detections, [NOTHING], library) == [tmp_path / "overlay.png"]
    assert not (tmp_path / "match.png").exists()
    drawn = (cv2.imread(str(tmp_path / "overlay.png"))[..., ::-1] != IMAGE).any(axis=2)
    assert drawn[50:110, 40].all()
    assert drawn[110, 40:100].all()
    assert not drawn[60:105, 50:90].any()


def test_poses_and_boxes_are_in_one_overlay(tmp_path, library):
    detections = [Detection("thing", np.array([60.0, 40, 100, 80])), Detection("thing", [5.0, 90, 30, 115])]
    draw_results(tmp_path, IMAGE, CAMERA, detections, [found(0.9), NOTHING], library)
    drawn = (cv2.imread(str(tmp_path / "overlay.png"))[..., ::-1] != IMAGE).any(axis=2)
    assert drawn[95:110, 5].all()
    assert drawn[55:65, 75:85].any()


@pytest.mark.parametrize(("score", "lines"), [(0.49, 1), (0.5, 0)])
def test_a_low_score_is_said_to_be_unlikely(score, lines, tmp_path, capsys):
    print_end(argparse.Namespace(json=False), [found(score), NOTHING], [tmp_path / "overlay.png"])
    printed = capsys.readouterr()
    assert printed.out == f"images: {tmp_path / 'overlay.png'}\n"
    assert (
        printed.err.count("\n") == printed.err.count("is unlikely to be right: look at overlay.png.") == lines
    )


def test_with_json_the_images_are_said_on_stderr(tmp_path, capsys):
    print_end(argparse.Namespace(json=True), [found(0.9)], [tmp_path / "overlay.png"])
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"images: {tmp_path / 'overlay.png'}\n")
