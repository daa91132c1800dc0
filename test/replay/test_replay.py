"""Test the replay of a recorded bag: poses are the tracker's, and bag, video and table hold them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from vpog_core.cli import main
from vpog_core.geometry.se3 import rotation_from_quaternion
from vpog_core.inference.estimator import PoseEstimator
from vpog_core.replay import result_messages as messages
from vpog_core.replay.bag_reader import open_bag
from vpog_core.replay.bag_writer import new_bag

FRAMES = 4


@pytest.fixture(scope="module")
def arguments(bag, objects_dir, small_weights):
    return ["replay", str(bag), "--objects-dir", str(objects_dir), "--weights", small_weights,
            "--min-score", "0", "--no-tracking"]  # fmt: skip


@pytest.fixture(scope="module")
def output(arguments, tmp_path_factory) -> Path:
    """Return the results of one replay; not to be changed."""
    path = tmp_path_factory.mktemp("replay") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        assert main([*arguments, "--output", str(path)]) == 0
    return path


def rows(output: Path) -> list[dict]:
    with (output / "poses.csv").open() as file:
        return list(csv.DictReader(file))


def test_poses_are_the_estimator_s(output, recording, objects_dir, small_weights):
    estimator = PoseEstimator(objects_dir, small_weights, device="cpu")
    table = rows(output)
    assert [row["stamp"] for row in table] == ["5.000000000", "5.100000000", "5.200000000", "5.300000000"]
    for row, image, detection in zip(table, recording.images, recording.read, strict=True):
        (expected,) = estimator.estimate(image, recording.camera, [detection])
        found = np.array([float(row[name]) for name in "xyz"])
        # Nine digits are written.
        np.testing.assert_allclose(found, expected.T_cam_obj[:3, 3], rtol=1e-8)
        R = rotation_from_quaternion(np.array([float(row[f"q{name}"]) for name in "xyzw"]))
        np.testing.assert_allclose(R, expected.T_cam_obj[:3, :3], atol=1e-8)


def test_bag_of_results_holds_what_the_node_publishes(output):
    with open_bag(output / "poses") as results:
        assert results.types == {
            "/vpog_node/poses": "vpog_ros/msg/ObjectPoseArray",
            "/vpog_node/markers": "visualization_msgs/msg/MarkerArray",
            "/vpog_node/pose": "geometry_msgs/msg/PoseStamped",
            "/vpog_node/overlay_image": "sensor_msgs/msg/Image",
            "/vpog_node/flow_image": "sensor_msgs/msg/Image",
            "/tf": "tf2_msgs/msg/TFMessage",
        }
        assert set(results.counts.values()) == {FRAMES}
        # Every message is read with the definition that lies in the bag.
        read = {message.topic: message.read() for message in results.messages(list(results.types))}
    (pose,) = read["/vpog_node/poses"].poses
    last = rows(output)[-1]
    assert pose.class_id == "carton"
    assert pose.pose.pose.position.z == pytest.approx(float(last["z"]), rel=1e-8)
    assert read["/vpog_node/pose"].pose.position.x == pose.pose.pose.position.x
    (frame,) = read["/tf"].transforms
    assert (frame.header.frame_id, frame.child_frame_id) == ("test_camera", "carton_0")
    overlay = read["/vpog_node/overlay_image"]
    assert (overlay.width, overlay.height, overlay.encoding) == (160, 120, "rgb8")


def test_video_plays(output):
    video = cv2.VideoCapture(str(output / "overlay.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10.0)
    images = []
    while (read := video.read())[0]:
        images.append(read[1])
    assert [image.shape for image in images] == [(120, 160, 3)] * FRAMES


def test_a_killed_replay_goes_on(output, arguments, tmp_path, capsys, monkeypatch):
    killed = shutil.copytree(output, tmp_path / "out")
    for name in ("poses.csv", "overlay.mp4"):
        (killed / name).unlink()
    shutil.rmtree(killed / "poses")
    journal = killed / ".replay" / "frames.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    # Killed within the third line.
    journal.write_bytes(b"".join(lines[:2]) + lines[2][:50])
    estimated = []
    estimate = PoseEstimator.estimate
    monkeypatch.setattr(
        PoseEstimator, "estimate", lambda *args, **more: estimated.append(1) or estimate(*args, **more)
    )
    assert main([*arguments, "--output", str(killed)]) == 0
    assert len(estimated) == FRAMES - 2
    assert "2 of 4 frames were done before" in capsys.readouterr().out
    assert (killed / "poses.csv").read_text() == (output / "poses.csv").read_text()
    assert cv2.VideoCapture(str(killed / "overlay.mp4")).read()[0]


def test_results_of_other_settings_are_not_mixed(output, arguments, tmp_path, capsys):
    there = shutil.copytree(output, tmp_path / "out")
    changed = [*arguments, "--max-detections", "3", "--output", str(there)]
    assert main(changed) == 2
    assert "differs in --max-detections" in capsys.readouterr().err
    (there / "mine.txt").write_text("kept")
    assert main([*changed, "--restart", "--no-images"]) == 0
    with open_bag(there / "poses") as results:
        assert "/vpog_node/overlay_image" not in results.types
    assert (there / "mine.txt").read_text() == "kept"


def test_what_is_known_of_the_poses_holds_in_the_results(output, arguments, recording, tmp_path, capsys):
    known = ["--objects-on-plane", "carton", "--plane-height", "-0.5", "--plane-normal"]
    # The meshes stand far from a plane 0.5 m behind the camera.
    command = [*arguments, "--output", str(tmp_path / "out"), *known]
    assert main([*command, "0, 0, 1"]) == 1
    assert {row["x"] for row in rows(tmp_path / "out")} == {""}
    assert all("m from its height over the plane" in row["reason"] for row in rows(tmp_path / "out"))
    # Resuming with another plane would mix poses.
    capsys.readouterr()
    assert main([*command, "0, 1, 0"]) == 2
    assert "differs in --plane-normal" in capsys.readouterr().err


def test_a_plane_in_a_frame_that_the_bag_has_not_is_refused_before_onboarding(arguments, tmp_path, capsys):
    known = ["--upright-objects", "*", "--plane-frame", "base_link"]
    assert main([*arguments, "--output", str(tmp_path / "out"), *known]) == 2
    assert "has no transforms of it (frames: none)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_left_alone(arguments, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("kept")
    assert main([*arguments, "--output", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_another_precision_or_engine_is_not_mixed_in(output, arguments, tmp_path, capsys):
    there = shutil.copytree(output, tmp_path / "out")
    plan = json.loads((there / ".replay" / "plan.json").read_text())
    assert plan["--engine"] == "torch"
    other = "float32" if plan["--precision"] == "bfloat16" else "bfloat16"
    assert main([*arguments, "--precision", other, "--output", str(there)]) == 2
    assert "differs in --precision" in capsys.readouterr().err


def test_what_is_in_the_way_of_results_is_told_of_before_any_work(output, arguments, tmp_path, capsys):
    there = shutil.copytree(output, tmp_path / "out")
    shutil.rmtree(there / "poses")
    (there / "poses").write_text("mine")
    assert main([*arguments, "--output", str(there)]) == 2
    assert "poses' is a file, and a folder of results goes there" in capsys.readouterr().err
    (there / "poses").unlink()
    (there / "poses.csv").unlink()
    (there / "poses.csv").mkdir()
    assert main([*arguments, "--output", str(there)]) == 2
    assert "poses.csv' is a folder, and a file of results goes there" in capsys.readouterr().err


@pytest.fixture
def full_disk():
    """Let files grow to 20 kB at most: a write beyond fails, as on a disk without room."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_sentence_for_each_bag(bag, arguments, full_disk, tmp_path, capsys):
    shutil.copytree(bag, tmp_path / "second")
    bags = [str(bag), str(tmp_path / "second")]
    command = ["replay", *bags, *arguments[2:], "--no-images", "--output", str(tmp_path / "out")]
    assert main(command) == 2
    told = capsys.readouterr().out
    for path in bags:
        assert f"{path}: The results cannot be written into" in told
    assert "(File too large): choose another --output, on a disk with room" in told
    assert not (tmp_path / "out" / "second" / ".replay" / "writing").exists()


def test_an_output_that_cannot_be_made_is_refused_before_onboarding(arguments, tmp_path, capsys):
    # A link to itself can be opened by nobody, root included.
    (tmp_path / "loop").symlink_to("loop")
    assert main([*arguments, "--output", str(tmp_path / "loop" / "out")]) == 2
    told = capsys.readouterr().err
    assert "cannot be" in told
    assert "onboarding" not in told


def test_rerun_is_refused_where_it_is_missing(arguments, tmp_path, capsys, monkeypatch):
    from importlib import util

    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "rerun" else found(name))
    assert main([*arguments, "--output", str(tmp_path / "out"), "--rerun"]) == 2
    assert "pip install rerun-sdk" in capsys.readouterr().err


def test_rerun_recording_holds_the_frames(output, arguments, tmp_path):
    pytest.importorskip("rerun")
    again = shutil.copytree(output, tmp_path / "out")
    assert main([*arguments, "--output", str(again), "--rerun"]) == 0
    assert (again / "poses.rrd").stat().st_size > 10_000


def test_an_image_that_cannot_be_read_costs_its_frame_alone(
    arguments, write_frame, recording, tmp_path, capsys
):
    with new_bag(tmp_path / "bag") as bag:
        write_frame(bag, 0)
        head = recording.head(1)
        broken = messages.image(recording.images[1], head)
        broken.encoding = "16UC1"
        bag.write("/camera/image", broken, recording.stamps[1])
        bag.write("/detector/instances", messages.instance_array([], head), recording.stamps[1])
    command = ["replay", str(tmp_path / "bag"), *arguments[2:], "--output", str(tmp_path / "out")]
    assert main(command) == 0
    told = capsys.readouterr()
    assert "A frame is left out: An image of encoding '16UC1' is a depth image" in told.err
    assert "1 frames that could not be used" in told.out
    good, bad = rows(tmp_path / "out")
    assert (good["reason"], bad["x"]) == ("", "")
    assert "depth image" in bad["reason"]


def test_a_frame_without_detections_has_no_image_of_matches(
    arguments, write_frame, recording, tmp_path, capfd
):
    with new_bag(tmp_path / "bag") as bag:
        write_frame(bag, 0)
        head = recording.head(1)
        bag.write("/camera/image", messages.image(recording.images[1], head), recording.stamps[1])
        bag.write("/detector/instances", messages.instance_array([], head), recording.stamps[1])
    command = ["replay", str(tmp_path / "bag"), *arguments[2:], "--output", str(tmp_path / "out")]
    assert main(command) == 0
    with open_bag(tmp_path / "out" / "poses") as results:
        assert results.counts["/vpog_node/overlay_image"] == 2
        assert results.counts["/vpog_node/flow_image"] == 1
    # OpenCV warns on standard error of files that are not there.
    assert "flow_" not in capfd.readouterr().err
