"""Test the topics of single objects: odd names become valid ones, and no two are the same."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

import numpy as np
from geometry_msgs.msg import PoseArray, PoseStamped
from rclpy.validate_full_topic_name import validate_full_topic_name
from std_msgs.msg import Header

from vpog_core.types import PoseEstimate
from vpog_ros.outputs.object_topics import ObjectTopics, topic_names, valid_name

HEADER = Header(frame_id="camera")


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("mug", "mug"),
        ("obj_000005", "obj_000005"),
        ("005 tomato-soup can", "object_005_tomato_soup_can"),
        ("Schlüssel", "Schlussel"),
        ("../../etc/passwd", "etc_passwd"),
        ("杯", "object"),
        ("", "object"),
        ("~{mug}", "mug"),
    ],
)
def test_names_are_valid_in_ros(word, name):
    assert valid_name(word) == name
    assert validate_full_topic_name(f"/vpog_node/objects/{name}/pose")


def test_names_that_come_to_the_same_are_told_apart():
    names = topic_names(["my mug", "my_mug", "my-mug", "杯", "碗"], {})
    assert names == {
        "my_mug": "my_mug",
        "my mug": "my_mug_2",
        "my-mug": "my_mug_3",
        "杯": "object",
        "碗": "object_2",
    }
    # What has a topic keeps it, whoever comes later.
    assert topic_names(["my_mug"], {"my mug": "my_mug"}) == {"my mug": "my_mug", "my_mug": "my_mug_2"}


def test_each_object_s_best_pose_is_published_and_renamed_topics_are_said():
    made: dict[str, list] = {}
    said: list[str] = []

    class Topic(list):
        publish = list.append

    def create(message_type, topic):
        made[topic] = Topic()
        return made[topic]

    topics = ObjectTopics(create, said.append)
    far, near = np.eye(4), np.eye(4)
    near[2, 3] = 0.5
    estimates = [
        PoseEstimate("my mug", 0, near, 0.9, alternatives=[PoseEstimate("my mug", 0, far, 0.2)]),
        PoseEstimate("my mug", 1, far, 0.3),
        PoseEstimate("my_mug", 0, far, 0.3, samples=np.stack([far, near, far])),
    ]
    for _ in range(2):
        topics.publish(estimates, HEADER, ["my mug", "my_mug", "spoon"])
    kinds = {topic: type(messages[0]) for topic, messages in made.items()}
    assert kinds == {
        "~/objects/my_mug_2/pose": PoseStamped,
        "~/objects/my_mug_2/alternatives": PoseArray,
        "~/objects/my_mug/pose": PoseStamped,
        "~/objects/my_mug/samples": PoseArray,
    }
    assert made["~/objects/my_mug_2/pose"][0].pose.position.z == 0.5
    assert [len(made[topic][1].poses) for topic in list(kinds) if kinds[topic] is PoseArray] == [1, 3]
    assert said == [
        "The topics of the object 'my mug' are ~/objects/my_mug_2/...: another object has its name."
    ]
