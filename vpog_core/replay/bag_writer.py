"""Write messages to a bag that RViz, Foxglove and `ros2 bag` open, without ROS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from vpog_core.replay.message_types import own_typestore
from vpog_core.replay.result_messages import serialized

STORAGES = ("mcap", "sqlite3")
FORMAT_VERSION = 8
"""Version of metadata.yaml; read by ROS 2 Iron and later."""


class BagWriter:
    """Writes an open bag; made by `new_bag`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._connections: dict[str, object] = {}

    def write(self, topic: str, message, time_ns: int) -> None:
        """Write a message of `own_typestore`; a topic is made when it is first written to."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, message.__msgtype__, typestore=own_typestore()
            )
        self._writer.write(self._connections[topic], time_ns, serialized(message))


@contextmanager
def new_bag(path: Path, storage: str = "mcap") -> Iterator[BagWriter]:
    """Make a bag, which must not be there yet; it is whole once the block has ended."""
    writer = Writer(path, version=FORMAT_VERSION, storage_plugin=StoragePlugin[storage.upper()])
    if storage == "mcap":
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        yield BagWriter(writer)
