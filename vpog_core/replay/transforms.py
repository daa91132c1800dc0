"""Find transforms between the frames of a bag, as tf2 does while a robot runs."""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from vpog_core.geometry.se3 import invert, rotation_from_quaternion, transform
from vpog_core.messages.reading import stamp_to_ns
from vpog_core.replay.bag_reader import Bag
from vpog_core.replay.unreadable import Unreadable
from vpog_core.types import VPOGError

TF_TYPE = "tf2_msgs/msg/TFMessage"
STATIC_TOPIC = "tf_static"
"""Last part of the topic of transforms that hold at all times."""


@dataclass(frozen=True)
class _Link:
    """Holds the transforms from a frame to its parent.

    Attributes:
        times_ns: [N] increasing; values: [N, 7] translation (metres) and quaternion (x, y, z, w).
        is_static: the last transform holds at all times.
    """

    parent: str
    times_ns: np.ndarray
    values: np.ndarray
    is_static: bool

    def at(self, child: str, time_ns: int) -> np.ndarray:
        """Return T_parent_child [4, 4] at a time, interpolated between two recorded ones."""
        if self.is_static:
            return _matrix(self.values[-1])
        row = int(np.searchsorted(self.times_ns, time_ns))
        if row < len(self.times_ns) and self.times_ns[row] == time_ns:
            return _matrix(self.values[row])
        if not 0 < row < len(self.times_ns):
            raise VPOGError(
                f"the bag has the transform from '{child}' to '{self.parent}' from "
                f"{1e-9 * self.times_ns[0]:.3f} to {1e-9 * self.times_ns[-1]:.3f} s"
            )
        before, after = self.values[row - 1], self.values[row]
        start_ns, end_ns = (int(t) for t in self.times_ns[row - 1 : row + 1])
        part = (time_ns - start_ns) / (end_ns - start_ns)
        turn = Slerp([0.0, 1.0], Rotation.from_quat([before[3:], after[3:]]))(part)
        return transform(turn.as_matrix(), (1.0 - part) * before[:3] + part * after[:3])


@dataclass
class _Recorded:
    """Collects the transforms of a frame. A long bag holds millions: eight bytes for each number."""

    parent: str = ""
    is_static: bool = False
    times_ns: array = field(default_factory=lambda: array("q"))
    values: array = field(default_factory=lambda: array("d"))

    def link(self) -> _Link:
        """Sort the transforms by time; of several at one time the last counts."""
        times_ns, values = np.array(self.times_ns), np.array(self.values).reshape(-1, 7)
        if self.is_static:
            return _Link(self.parent, times_ns, values, True)
        rows = len(times_ns) - 1 - np.unique(times_ns[::-1], return_index=True)[1]
        return _Link(self.parent, times_ns[rows], values[rows], False)


class RecordedTransforms:
    """Holds the transforms of a bag, of all topics of tf2_msgs/TFMessage.

    Args:
        bag: is read once.

    Attributes:
        frames: their names; unreadable: messages that are left out.

    Raises:
        VPOGError: the bag is broken inside.
    """

    def __init__(self, bag: Bag) -> None:
        recorded: dict[str, _Recorded] = defaultdict(_Recorded)
        topics = [topic for topic, kind in bag.types.items() if kind == TF_TYPE]
        self.unreadable = Unreadable()
        for message in bag.messages(topics) if topics else ():
            is_static = message.topic.rpartition("/")[2] == STATIC_TOPIC
            content = self.unreadable.read(message)
            for each in () if content is None else content.transforms:
                at, turn = each.transform.translation, each.transform.rotation
                values = (at.x, at.y, at.z, turn.x, turn.y, turn.z, turn.w)
                if not (np.isfinite(values).all() and any(values[3:])):
                    continue  # tf2 refuses it as well.
                of_child = recorded[_name(each.child_frame_id)]
                of_child.parent, of_child.is_static = _name(each.header.frame_id), is_static
                of_child.times_ns.append(stamp_to_ns(each.header.stamp))
                of_child.values.extend(values)
        self._links = {child: each.link() for child, each in recorded.items()}
        self.frames = {*self._links, *(link.parent for link in self._links.values())}

    def has(self, frame: str) -> bool:
        """Tell whether a frame is among the transforms."""
        return _name(frame) in self.frames

    def lookup(self, target: str, source: str, time_ns: int) -> np.ndarray:
        """Return T_target_source [4, 4] at a time.

        Raises:
            VPOGError: the frames are not connected, or not at this time; a reason without a remedy.
        """
        for frame in (source, target):
            if not self.has(frame):
                raise VPOGError(f"the bag's transforms have no frame '{frame}'")
        of_source, of_target = self._ancestors(source), self._ancestors(target)
        common = next((frame for frame in of_source if frame in of_target), None)
        if common is None:
            raise VPOGError("the bag's transforms do not connect them")
        T_common_target = self._product(of_target[: of_target.index(common)], time_ns)
        return invert(T_common_target) @ self._product(of_source[: of_source.index(common)], time_ns)

    def _ancestors(self, frame: str) -> list[str]:
        """Return a frame, its parent, and so on up to the root."""
        chain = [_name(frame)]
        while chain[-1] in self._links and self._links[chain[-1]].parent not in chain:
            chain.append(self._links[chain[-1]].parent)
        return chain

    def _product(self, frames: list[str], time_ns: int) -> np.ndarray:
        """Return the transform [4, 4] from the first of a chain of frames to the parent of the last."""
        T = np.eye(4)
        for frame in frames:
            T = self._links[frame].at(frame, time_ns) @ T
        return T


def _matrix(values: np.ndarray) -> np.ndarray:
    return transform(rotation_from_quaternion(values[3:]), values[:3])


def _name(frame_id: str) -> str:
    # Frames of older packages begin with a slash, which tf2 leaves out.
    return frame_id.removeprefix("/")
