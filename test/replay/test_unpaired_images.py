"""Test which images without detections are processed, and that the poses of a recorded demo are correct."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np

from vpog_core.cli import main
from vpog_core.geometry.se3 import rotation_from_quaternion, transform, transform_points
from vpog_core.objects.library import ObjectLibrary
from vpog_core.replay.bag_reader import open_bag
from vpog_core.replay.bag_writer import new_bag
from vpog_core.replay.unpaired_images import Arrival, UnpairedImageRule, choose_frames

STEP_S = 0.1
RULE = UnpairedImageRule(detector_timeout=0.25, max_age=0.65)


def chosen(
    pairs: dict[int, int], images: int = 12, rule: UnpairedImageRule | None = RULE, stamped: bool = True
) -> list:
    """Choose frames of images every 0.1 s; `pairs`: image -> image after which its detections come."""
    arrivals = []
    for row in range(images):
        now = row * STEP_S
        arrivals.append(Arrival(now, row, row if pairs.get(row) == row else None))
        late = [image for image, after in pairs.items() if after == row and image != row]
        arrivals += [Arrival(now + 0.05, image, image) for image in late]
    stamps = [int(1e9 * (5 + row * STEP_S)) if stamped else 0 for row in range(images)]
    return choose_frames(arrivals, stamps, rule)


def test_images_alone_are_answered_once_the_detector_has_been_silent_and_until_max_age():
    # Unpaired since image 2, so silent for 0.25 s at image 5; image 8 is 0.7 s after the last detections.
    assert chosen({0: 0, 1: 1}) == [(0, 0), (1, 1), (5, None), (6, None), (7, None)]


def test_before_any_detections_and_without_a_rule_no_image_is_answered_alone():
    assert chosen({9: 9}) == [(9, 9)]
    assert chosen({0: 0}, rule=None) == [(0, 0)]


def test_a_detector_slower_than_the_camera_is_waited_for():
    assert chosen({0: 0, 3: 3, 6: 6, 9: 9}) == [(0, 0), (3, 3), (6, 6), (9, 9)]


def test_an_image_whose_detections_come_late_is_answered_once_with_them():
    assert chosen({0: 0, 4: 5}, images=6) == [(0, 0), (5, None), (4, 4)]


def test_images_without_a_stamp_are_never_answered_alone():
    assert chosen({0: 0}, stamped=False) == [(0, 0)]


def without_detections_from(number: int, demo: Path, path: Path) -> None:
    """Copy a demo bag, with the detections of the first frames alone."""
    with open_bag(demo) as bag, new_bag(path) as copy:
        detections = 0
        for message in bag.messages(list(bag.types)):
            if message.topic.endswith("/instances"):
                detections += 1
                if detections > number:
                    continue
            copy.write(message.topic, message.read(), message.time_ns)


def truths(demo: Path, class_id: str) -> dict[str, np.ndarray]:
    """Return T_cam_obj of an object by the image's stamp, as the table has it."""
    found = {}
    with open_bag(demo) as bag:
        for message in bag.messages(["/demo_camera/truth"]):
            content = message.read()
            stamp = f"{content.header.stamp.sec}.{content.header.stamp.nanosec:09d}"
            for item in content.poses:
                if item.class_id == class_id:
                    p, q = item.pose.pose.position, item.pose.pose.orientation
                    R = rotation_from_quaternion(np.array([q.x, q.y, q.z, q.w]))
                    found[stamp] = transform(R, np.array([p.x, p.y, p.z]))
    return found


def errors(output: Path, truth: dict[str, np.ndarray], mesh) -> dict[str, float]:
    """Compute the mean distance of the mesh's points from their true places, in diameters, by stamp."""
    points, found = mesh.vertices, {}
    for row in table(output):
        R = rotation_from_quaternion(np.array([float(row[f"q{name}"]) for name in "xyzw"]))
        T = transform(R, np.array([float(row[name]) for name in "xyz"]))
        apart = transform_points(T, points) - transform_points(truth[row["stamp"]], points)
        found[row["stamp"]] = float(np.linalg.norm(apart, axis=1).mean() / mesh.diameter)
    return found


def table(output: Path) -> list[dict]:
    with (output / "poses.csv").open() as file:
        return list(csv.DictReader(file))


def test_poses_of_the_demo_are_the_true_ones_with_detections_and_without(tmp_path):
    """Frames 0 to 2 have detections; frames 8 to 10 come after half a second without any."""
    assert main(["record-demo", str(tmp_path / "demo"), "--frames", "11"]) == 0
    without_detections_from(3, tmp_path / "demo", tmp_path / "bag")
    # One of the three objects: each takes its time to onboard.
    meshes = tmp_path / "meshes"
    meshes.mkdir()
    shutil.copy(min((tmp_path / "demo_objects").glob("*.ply")), meshes)
    library = ObjectLibrary(meshes)
    (name,) = library.ids
    command = [
        "replay",
        str(tmp_path / "bag"),
        "--objects-dir",
        str(meshes),
        "--device",
        "cpu",
        "--no-images",
    ]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    found = errors(tmp_path / "out", truths(tmp_path / "demo", name), library.mesh(name))
    assert [row["detected"] for row in table(tmp_path / "out")] == ["1"] * 3 + ["0"] * 3
    # What counts as a correct pose; of the demo's poses all are, most by far.
    assert max(found.values()) < 0.1, found
    with open_bag(tmp_path / "out" / "poses") as results:
        assert results.counts["/vpog_node/poses"] == 6
        *_, last = (message.read() for message in results.messages(["/vpog_node/markers"]))
    (marker,) = last.markers
    assert Path(marker.mesh_resource.removeprefix("file://")).is_file()
    assert marker.ns == name

    # Killed within the images alone: what was followed is found again, from the last detections on.
    journal = tmp_path / "out" / ".replay" / "frames.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:4]))
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    again = errors(tmp_path / "out", truths(tmp_path / "demo", name), library.mesh(name))
    assert again.keys() == found.keys()
    assert max(again.values()) < 0.1, again
