"""Tests of what is read of bags, of how images and detections are paired, and what is refused."""

from __future__ import annotations

import shutil
import sqlite3

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vpog_core.objects.library import ObjectLibrary
from vpog_core.replay import result_messages as messages
from vpog_core.replay.bag_reader import open_bag
from vpog_core.replay.bag_writer import new_bag
from vpog_core.replay.frame_reader import FrameReader, OnceNotices
from vpog_core.replay.pairing import find_pairs, recorded_frames
from vpog_core.replay.topics import choose_topics
from vpog_core.types import VPOGError

FRAMES = 4
OTHER = {
    "vision_msgs/msg/Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox2D bbox\nstring id"
    ),
    "vision_msgs/msg/ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y",
}
"""Definitions of another package, as far as they are read, in the form of vision_msgs 4."""


def frames_of(path, objects_dir, **topics) -> list:
    """Return the inputs of all frames of a bag."""
    with open_bag(path) as bag:
        chosen = choose_topics(bag, **{"image": None, "camera_info": None, "detections": None} | topics)
        pairs = find_pairs(bag, chosen)
        reader = FrameReader(ObjectLibrary(objects_dir), (), pairs.camera_infos, 16, False, OnceNotices())
        return [reader.read(frame) for frame in recorded_frames(bag, chosen, pairs)]


def refusal(path, **topics) -> str:
    """Return the sentence that a bag is refused with."""
    try:
        with open_bag(path) as bag:
            find_pairs(
                bag, choose_topics(bag, **{"image": None, "camera_info": None, "detections": None} | topics)
            )
    except VPOGError as error:
        return str(error)
    pytest.fail("the bag is not refused")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_what_was_recorded_is_read(tmp_path, recording, write_frame, objects_dir, storage):
    with new_bag(tmp_path / "bag", storage) as bag:
        for n in range(FRAMES):
            write_frame(bag, n)
    inputs = frames_of(tmp_path / "bag", objects_dir)
    assert len(inputs) == FRAMES
    for found, image, detection in zip(inputs, recording.images, recording.read, strict=True):
        np.testing.assert_array_equal(found.image, image)
        np.testing.assert_array_equal(found.detections[0].box, detection.box)
        np.testing.assert_array_equal(found.camera.K, recording.camera.K)
        assert found.frame_id == "test_camera"


def test_a_single_file_is_read_too(bag, objects_dir):
    assert len(frames_of(bag / "camera.mcap", objects_dir)) == FRAMES


def test_other_types_are_read_by_the_bag_s_own_definitions(tmp_path, recording, objects_dir):
    """The bag holds a compressed image, and detections of a package that is not installed."""
    store = get_typestore(Stores.LATEST)
    for name, text in OTHER.items():
        store.register(get_types_from_msg(text, name))
    make = {name.rpartition("/")[2]: store.types[name] for name in (*OTHER, *store.types)}
    head = recording.head(0)
    x0, y0, x1, y1 = recording.detections[0].box
    at = make["Point2D"](x=(x0 + x1) / 2, y=(y0 + y1) / 2)
    center = store.types["vision_msgs/msg/Pose2D"](position=at, theta=0.0)
    box = make["BoundingBox2D"](center=center, size_x=x1 - x0, size_y=y1 - y0)
    hypothesis = make["ObjectHypothesis"](class_id="carton", score=0.5)
    results = [make["ObjectHypothesisWithPose"](hypothesis=hypothesis)]
    detection = make["Detection2D"](header=head, results=results, bbox=box, id="7")
    png = cv2.imencode(".png", recording.images[0][..., ::-1])[1].ravel()
    sent = {
        "/camera/image/compressed": make["CompressedImage"](header=head, format="rgb8; png", data=png),
        "/camera/camera_info": messages.camera_info(recording.camera, head),
        "/detections": make["Detection2DArray"](header=head, detections=[detection]),
    }
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for n, (topic, message) in enumerate(sent.items()):
            connection = writer.add_connection(topic, message.__msgtype__, typestore=store)
            writer.write(connection, 1 + n, store.serialize_cdr(message, message.__msgtype__))
    (found,) = frames_of(tmp_path / "bag", objects_dir)
    np.testing.assert_array_equal(found.image, recording.images[0])
    assert (found.detections[0].instance, found.detections[0].score) == (7, 0.5)
    np.testing.assert_allclose(found.detections[0].box, recording.detections[0].box)


def test_detections_may_come_before_their_image_and_twice(tmp_path, recording, objects_dir):
    with new_bag(tmp_path / "bag") as bag:
        bag.write("/camera_info", messages.camera_info(recording.camera, recording.head(0)), 1)
        early = messages.instance_array([recording.detections[0]], recording.head(0))
        bag.write("/instances", early, 2)
        bag.write("/image", messages.image(recording.images[1], recording.head(1)), 3)
        bag.write("/image", messages.image(recording.images[0], recording.head(0)), 4)
        bag.write("/instances", early, 5)
    found = frames_of(tmp_path / "bag", objects_dir)
    assert len(found) == 2
    for frame in found:
        np.testing.assert_array_equal(frame.image, recording.images[0])


def test_without_stamps_they_are_paired_while_they_take_turns(tmp_path, recording, write_frame, objects_dir):
    with new_bag(tmp_path / "bag") as bag:
        # The node, too, wants a pause before the first image: a detector could be behind by one.
        bag.write("/camera/camera_info", messages.camera_info(recording.camera, recording.head(0)), 1)
        for n in range(3):
            write_frame(bag, n, stamped=False)
    found = frames_of(tmp_path / "bag", objects_dir)
    assert len(found) == 3
    np.testing.assert_array_equal(found[2].image, recording.images[2])


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("topic", ["/camera/image", "/detector/instances", "/camera/camera_info"])
def test_a_message_that_cannot_be_read_costs_its_frame_alone(
    break_messages, tmp_path, recording, write_frame, objects_dir, topic, stamped
):
    with new_bag(tmp_path / "whole") as bag:
        bag.write("/camera/camera_info", messages.camera_info(recording.camera, recording.head(0)), 1)
        for n in range(FRAMES):
            write_frame(bag, n, stamped=stamped)
    break_messages(tmp_path / "whole", tmp_path / "bag", topic, [1, 2])
    with open_bag(tmp_path / "bag") as bag:
        pairs = find_pairs(bag, choose_topics(bag, None, None, None))
    (sentence,) = pairs.unreadable.sentences
    assert f"'{topic}' that cannot be read are left out: 2, the first recorded at" in sentence
    # The other frames have their own images.
    expected = [0, 1, 2, 3] if topic.endswith("camera_info") else [0, 3]
    found = frames_of(tmp_path / "bag", objects_dir)
    assert len(found) == len(expected)
    for frame, n in zip(found, expected, strict=True):
        np.testing.assert_array_equal(frame.image, recording.images[n])


def test_a_bag_of_which_no_message_can_be_read_is_refused(break_messages, tmp_path, bag):
    break_messages(bag, tmp_path / "bag", "/detector/instances", range(FRAMES))
    assert f"that cannot be read are left out: {FRAMES}" in refusal(tmp_path / "bag")


def test_stamps_that_never_match_are_told_of(tmp_path, recording, write_frame):
    with new_bag(tmp_path / "bag") as bag:
        for n in range(2):
            write_frame(bag, n, detections_stamp=recording.stamps[n] + 3_000_000)
    sentence = refusal(tmp_path / "bag")
    assert "has the stamp of one of the 2 images" in sentence
    assert "0.003000 s apart" in sentence


def test_several_topics_of_a_type_are_listed(tmp_path, recording, write_frame, objects_dir):
    with new_bag(tmp_path / "bag") as bag:
        write_frame(bag, 0)
        bag.write("/left/image", messages.image(recording.images[0], recording.head(0)), 9)
        bag.write("/left/camera_info", messages.camera_info(recording.camera, recording.head(0)), 9)
    sentence = refusal(tmp_path / "bag")
    assert sentence.endswith("(/camera/image, /left/image): choose one with --image.")
    # The calibration beside the image is its own.
    assert len(frames_of(tmp_path / "bag", objects_dir, image="/camera/image")) == 1


def test_missing_topics_and_wrong_names_are_told_of(tmp_path, bag, recording):
    assert "is not in the bag" in refusal(bag, image="/other")
    assert "give --image /camera/image" in refusal(bag, image="/other")
    sentence = refusal(bag, detections="/camera/image")
    assert "'/camera/image' is sensor_msgs/msg/Image, not vpog_ros/msg/Instance2DArray or" in sentence
    with new_bag(tmp_path / "bag") as writer:
        writer.write("/image", messages.image(recording.images[0], recording.head(0)), 1)
        writer.write("/camera_info", messages.camera_info(recording.camera, recording.head(0)), 1)
    sentence = refusal(tmp_path / "bag")
    assert "holds no detection (vpog_ros/msg/Instance2DArray or" in sentence
    assert "/image (sensor_msgs/msg/Image)" in sentence


def test_files_that_are_no_bag_are_refused(tmp_path, bag):
    assert "There is no bag" in refusal(tmp_path / "nothing")
    assert "holds no metadata.yaml" in refusal(tmp_path)
    (tmp_path / "old.bag").touch()
    assert "ROS 1" in refusal(tmp_path / "old.bag")
    (tmp_path / "x.mcap").write_bytes(b"nothing of the sort")
    assert "cannot be read" in refusal(tmp_path / "x.mcap")


def test_a_recording_that_was_cut_off_is_told_of(tmp_path, bag):
    cut = shutil.copytree(bag, tmp_path / "cut")
    data = (bag / "camera.mcap").read_bytes()
    for part in (0.4, 0.99):
        (cut / "camera.mcap").write_bytes(data[: int(part * len(data))])
        assert "`mcap recover`" in refusal(cut)
    (cut / "camera.mcap").unlink()
    assert "missing" in refusal(cut)


def test_a_type_without_a_definition_is_told_of(tmp_path, recording, write_frame, objects_dir):
    """SQLite bags of ROS 2 before Iron hold no definitions: common types are known, others are not."""
    with new_bag(tmp_path / "bag", "sqlite3") as bag:
        write_frame(bag, 0)
    file = tmp_path / "bag" / "bag.db3"
    with sqlite3.connect(file) as database:
        database.execute("DELETE FROM message_definitions")
    database.close()
    assert len(frames_of(tmp_path / "bag", objects_dir)) == 1
    with sqlite3.connect(file) as database:
        database.execute("UPDATE topics SET type = 'vision_msgs/msg/Detection2DArray' WHERE name LIKE '/d%'")
    database.close()
    metadata = tmp_path / "bag" / "metadata.yaml"
    metadata.write_text(
        metadata.read_text().replace("vpog_ros/msg/Instance2DArray", "vision_msgs/msg/Detection2DArray")
    )
    assert "holds no definition of vision_msgs/msg/Detection2DArray" in refusal(tmp_path / "bag")


IDL = """\
// generated from rosidl_adapter/resource/msg.idl.em
#include "geometry_msgs/msg/Point.idl"

module lab_msgs {
  module msg {
    struct Mark {
      string name;
      geometry_msgs::msg::Point place;
    };
  };
};
"""
POINT_IDL = """\
module geometry_msgs {
  module msg {
    struct Point {
      double x;
      double y;
      double z;
    };
  };
};
"""


def test_messages_that_are_described_in_idl_are_read(tmp_path):
    """`ros2 bag record` stores IDL where a package has no .msg file, each file after a line of its name."""
    store = get_typestore(Stores.LATEST)
    store.register(get_types_from_msg("string name\ngeometry_msgs/Point place", "lab_msgs/msg/Mark"))
    head = "=" * 80 + "\nIDL: "
    definition = f"{head}lab_msgs/msg/Mark\n{IDL}\n{head}geometry_msgs/msg/Point\n{POINT_IDL}"
    point = store.types["geometry_msgs/msg/Point"](x=1.0, y=2.0, z=3.0)
    message = store.types["lab_msgs/msg/Mark"](name="corner", place=point)
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/mark", "lab_msgs/msg/Mark", msgdef=definition, rihs01="RIHS01_0")
        writer.write(connection, 5, store.serialize_cdr(message, "lab_msgs/msg/Mark"))
    with open_bag(tmp_path / "bag") as bag:
        (read,) = (item.read() for item in bag.messages(["/mark"]))
    assert (read.name, read.place.y) == ("corner", 2.0)
