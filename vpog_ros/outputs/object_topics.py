"""Publish the topics of single objects, such as `~/objects/NAME/pose`, made when one is first seen."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable

import numpy as np
from geometry_msgs.msg import PoseArray, PoseStamped
from std_msgs.msg import Header

from vpog_core.types import PoseEstimate
from vpog_ros.conversions import pose_stamped, pose_to_message


class ObjectTopics:
    """Publishes the best pose of each object, and its other topics.

    Args:
        create: makes a publisher of (message type, topic name).
        say: tells users a sentence.
    """

    def __init__(self, create: Callable, say: Callable[[str], None]) -> None:
        self._create, self._say = create, say
        self._names: dict[str, str] = {}
        self._publishers: dict[tuple[str, str], object] = {}

    def publish(self, estimates: Iterable[PoseEstimate], header: Header, known: Collection[str]) -> None:
        """Publish the poses of an image.

        Args:
            estimates: those that have a pose; of several of one object the best is taken.
            known: names of all objects, in the order in which they come to their topics.
        """
        best: dict[str, PoseEstimate] = {}
        for estimate in sorted(estimates, key=lambda e: e.score):
            best[estimate.class_id] = estimate
        for class_id, estimate in best.items():
            self._publisher(class_id, PoseStamped, "pose", known).publish(pose_stamped(estimate, header))
            samples = [] if estimate.samples is None else estimate.samples
            for kind, poses in (
                ("alternatives", [e.T_cam_obj for e in estimate.alternatives]),
                ("samples", samples),
            ):
                if len(poses):
                    self._publisher(class_id, PoseArray, kind, known).publish(_pose_array(poses, header))

    def _publisher(self, class_id: str, message_type, kind: str, known: Collection[str]):
        key = (class_id, kind)
        if key not in self._publishers:
            if class_id not in self._names:
                self._names = topic_names([*known, class_id], self._names)
                self._say_renamed(class_id)
            topic = f"~/objects/{self._names[class_id]}/{kind}"
            self._publishers[key] = self._create(message_type, topic)
        return self._publishers[key]

    def _say_renamed(self, class_id: str) -> None:
        name = self._names[class_id]
        if name != class_id:
            reason = (
                "another object has its name" if name != valid_name(class_id) else "ROS allows no other name"
            )
            self._say(f"The topics of the object '{class_id}' are ~/objects/{name}/...: {reason}.")


def valid_name(word: str) -> str:
    """Make a name that a ROS topic may have: ASCII letters, digits and underscores, no digit first."""
    plain = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")
    if not name:
        return "object"
    return f"object_{name}" if name[0].isdigit() else name


def topic_names(words: Iterable[str], given: dict[str, str]) -> dict[str, str]:
    """Return a valid and unique topic name for each word; existing names stay."""
    names = dict(given)
    # Process words that are valid names first: they keep them.
    for word in sorted(dict.fromkeys(words), key=lambda w: valid_name(w) != w):
        if word in names:
            continue
        name, number = valid_name(word), 2
        while name in names.values():
            name, number = f"{valid_name(word)}_{number}", number + 1
        names[word] = name
    return names


def _pose_array(poses: Iterable[np.ndarray], header: Header) -> PoseArray:
    return PoseArray(header=header, poses=[pose_to_message(T) for T in poses])
