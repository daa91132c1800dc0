"""Read the messages of a ROS 2 bag, MCAP or SQLite, without ROS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.rosbag2 import Reader, ReaderError

from vpog_core.replay.message_types import typestore_of
from vpog_core.types import VPOGError, sentence_of

REMEDY = (
    "was the recording cut off? `ros2 bag reindex` repairs a bag without metadata.yaml, `mcap recover` an "
    "MCAP file that has no end"
)


@dataclass(frozen=True)
class BagMessage:
    """Holds a message as it was recorded.

    Attributes:
        topic: where it was published.
        time_ns: when it was recorded.
        raw: the serialized message; `read()` gives its fields.
    """

    topic: str
    time_ns: int
    raw: bytes
    msgtype: str
    store: Any

    def read(self) -> Any:
        """Deserialize the message.

        Raises:
            VPOGError: its bytes do not fit its type.
        """
        try:
            return self.store.deserialize_cdr(self.raw, self.msgtype)
        except Exception as error:  # The parser raises nearly anything for broken bytes.
            raise VPOGError(
                f"A message on '{self.topic}' cannot be read as {self.msgtype} ({sentence_of(error)}): "
                "it is broken."
            ) from error


class Bag:
    """Provides the messages of an open bag; made by `open_bag`.

    Attributes:
        path: of its folder or file.
        types: the type of the messages of every topic, such as `sensor_msgs/msg/Image`.
        counts: how many messages each topic holds.
    """

    def __init__(self, path: Path, reader: Reader) -> None:
        self.path = path
        self._reader = reader
        self.types = {c.topic: c.msgtype for c in reader.connections}
        self.counts = {topic: info.msgcount for topic, info in reader.topics.items()}

    def messages(self, topics: Sequence[str]) -> Iterator[BagMessage]:
        """Yield the messages of some topics in the order they were recorded.

        Raises:
            VPOGError: a type that the bag does not define, or a bag that is broken inside.
        """
        connections = [c for c in self._reader.connections if c.topic in topics]
        stores = {c.id: typestore_of(c.msgtype, c.msgdef, c.topic) for c in connections}
        try:
            for connection, time_ns, raw in self._reader.messages(connections):
                yield BagMessage(connection.topic, time_ns, raw, connection.msgtype, stores[connection.id])
        except VPOGError:
            raise
        except Exception as error:  # Each reader raises errors of its own for broken files.
            raise broken(self.path, error) from error


@contextmanager
def open_bag(path: str | Path) -> Iterator[Bag]:
    """Open a bag: the folder that `ros2 bag record` makes, or one .mcap or .db3 file.

    Raises:
        VPOGError: there is none, it is not a bag of ROS 2, or it is broken.
    """
    path = Path(path)
    _check_kind(path)
    try:
        reader = Reader(path)
        reader.open()
    except Exception as error:
        raise broken(path, error) from error
    try:
        yield Bag(path, reader)
    finally:
        reader.close()


def broken(path: Path, error: Exception) -> VPOGError:
    """Make the error for a bag that cannot be read."""
    reason = (
        " ".join(str(error).split()).rstrip(".") if isinstance(error, ReaderError) else sentence_of(error)
    )
    return VPOGError(f"The bag '{path}' cannot be read ({reason}): {REMEDY}.")


def _check_kind(path: Path) -> None:
    if not path.exists():
        raise VPOGError(
            f"There is no bag '{path}': give the folder or the .mcap or .db3 file of a recording."
        )
    if path.is_dir():
        if not (path / "metadata.yaml").is_file():
            raise VPOGError(
                f"The folder '{path}' holds no metadata.yaml: give a bag's folder, .mcap or .db3 file; "
                "`ros2 bag reindex` makes it anew after a recording that was cut off."
            )
    elif path.suffix == ".bag":
        raise VPOGError(f"'{path}' is a bag of ROS 1: convert it with `rosbags-convert`.")
    elif path.suffix not in (".mcap", ".db3"):
        raise VPOGError(f"'{path}' is no bag: give a bag's folder, or its .mcap or .db3 file.")
