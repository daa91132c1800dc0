"""Count the messages of a bag that cannot be read, so that one of them does not cost the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vpog_core.replay.bag_reader import BagMessage
from vpog_core.types import VPOGError


@dataclass
class Unreadable:
    """Reads messages, and counts those that cannot be read.

    Attributes:
        counts: of each topic that has some.
    """

    counts: dict[str, int] = field(default_factory=dict)
    _first: dict[str, str] = field(default_factory=dict)

    def read(self, message: BagMessage) -> Any | None:
        """Deserialize a message; None where that is not possible, which is counted."""
        try:
            return message.read()
        except VPOGError as error:
            self.counts[message.topic] = self.counts.get(message.topic, 0) + 1
            self._first.setdefault(message.topic, f"recorded at {1e-9 * message.time_ns:.3f} s: {error}")
            return None

    @property
    def sentences(self) -> list[str]:
        """Say for each topic how many messages are left out, and what is wrong with the first."""
        return [
            f"Messages on '{topic}' that cannot be read are left out: {number}, the first "
            f"{self._first[topic]}"
            for topic, number in self.counts.items()
        ]
