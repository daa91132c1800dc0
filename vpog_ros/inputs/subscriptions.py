"""Subscribe with the quality of service that the publishers offer, and warn of silent topics."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.qos import ReliabilityPolicy

from vpog_ros import qos
from vpog_ros.notices import Notices

SILENT_S = 5.0
"""Seconds after which a warning is given of a topic without a publisher or a message."""

HANDOVER_S = 1.0
"""Seconds for which the old subscription stays, until the publishers have discovered the new one."""


@dataclass(frozen=True)
class InputSpec:
    """Declares one topic to subscribe to.

    Attributes:
        name: of the topic, as the README has it; the user may remap it.
        topic: where it is after remapping.
        type: of its messages.
        on_message: called with each message.
        depth: messages kept for the node.
        reliable: what to ask for while there is no publisher.
        latched: a message published before the node came is wanted, and one is enough.
        expected: a warning is given if nobody publishes it.
    """

    name: str
    topic: str
    type: type
    on_message: Callable
    depth: int = 5
    reliable: bool = False
    latched: bool = False
    expected: bool = True

    @property
    def type_name(self) -> str:
        """Return the type's name as `ros2 topic info` shows it."""
        package, _, _ = self.type.__module__.partition(".")
        return f"{package}/msg/{self.type.__name__}"


class Input:
    """Subscribes again when the publishers offer another quality of service; no message comes twice."""

    def __init__(self, node, spec: InputSpec, callback_group) -> None:
        """Declare the topic's overrides, and subscribe.

        Raises:
            VPOGError: an override of the topic's quality of service that cannot be used.
        """
        self.spec = spec
        self._node = node
        self._group = callback_group
        self._overrides = qos.declare_overrides(node, spec.topic, spec.depth)
        self._subscription = self._retiring = None
        self._retire_at = 0.0
        self._recent: deque[int] = deque(maxlen=64)
        self.came_s: float | None = None
        """Time when the last message came, monotonic seconds."""
        self.profile = None
        self.publishers: list[str] = []
        self.other_types: list[str] = []
        self.incompatible = ""
        """Reason why the publishers' messages cannot be received, or ""."""
        self.adapt(time.monotonic())

    def adapt(self, now: float) -> bool:
        """Subscribe as the publishers allow, and return whether something has changed."""
        found = self._node.get_publishers_info_by_topic(self.spec.topic)
        own = [p for p in found if p.topic_type == self.spec.type_name]
        self.other_types = sorted({p.topic_type for p in found} - {self.spec.type_name})
        names = sorted(f"{p.node_namespace.rstrip('/')}/{p.node_name}" for p in own)
        changed, self.publishers = names != self.publishers, names
        if self._retiring is not None and now >= self._retire_at:
            self._node.destroy_subscription(self._retiring)
            self._retiring = None
        if own or self.profile is None:
            offered = [p.qos_profile for p in own]
            profile = qos.chosen_profile(offered, self._overrides, self.spec.reliable, self.spec.latched)
            if profile != self.profile and self._retiring is None:
                self._subscribe(profile, now)
                changed = True
            self.incompatible = qos.incompatible(offered, self.profile)
        return changed

    def _subscribe(self, profile, now: float) -> None:
        self._retiring, self._retire_at = self._subscription, now + HANDOVER_S
        self._subscription = self._node.create_subscription(
            self.spec.type, self.spec.topic, self._on_message, profile, callback_group=self._group
        )
        self.profile = profile

    def _on_message(self, message, info) -> None:
        sent = info["source_timestamp"]
        if sent and sent in self._recent:
            return
        self._recent.append(sent)
        self.came_s = time.monotonic()
        self.spec.on_message(message)

    def destroy(self) -> None:
        """Destroy the subscription."""
        for subscription in (self._subscription, self._retiring):
            if subscription is not None:
                self._node.destroy_subscription(subscription)
        self._subscription = self._retiring = None

    def found(self) -> str:
        """Describe the topic in one sentence."""
        publishers = f"from {', '.join(self.publishers)}" if self.publishers else "no publisher yet"
        return (
            f"{self.spec.name}: {self.spec.topic} ({self.spec.type_name}), {publishers}, "
            f"subscribed {qos.words(self.profile)}."
        )

    def silence(self, now: float, since: float) -> str:
        """Return the sentence on why nothing usable is received, or "".

        Args:
            since: when the node began to listen.
        """
        if self.came_s is not None and (self.spec.latched or now - self.came_s < SILENT_S):
            return ""
        if now - max(since, self.came_s or since) < SILENT_S:
            return ""
        topic, wanted = self.spec.topic, self.spec.type_name
        if self.incompatible:
            return (
                f"{', '.join(self.publishers)} offers {topic} with another quality of service than "
                f"qos_overrides asks for ({self.incompatible}): take the overrides of {topic} out."
            )
        if self.publishers:
            return (
                f"No message has come on {topic} for {SILENT_S:g} s, though {', '.join(self.publishers)} "
                f"publishes there: check that it runs{self._loss()}."
            )
        if self.other_types:
            return (
                f"{topic} is published as {', '.join(self.other_types)} and is wanted as {wanted}: "
                f"{self._remedy()}."
            )
        return f"Nobody publishes {wanted} on {topic}: start its publisher, or remap {self.spec.name}."

    def _loss(self) -> str:
        if self.spec.name != "image" or self.profile.reliability != ReliabilityPolicy.BEST_EFFORT:
            return ""
        return "; large images that are sent best effort get lost: send them reliable, or compressed"

    def _remedy(self) -> str:
        if self.spec.name == "image":
            for transport, name in (("raw", "Image"), ("compressed", "CompressedImage")):
                if f"sensor_msgs/msg/{name}" in self.other_types:
                    return f"remap image to another topic, or set image_transport to {transport}"
        return f"remap {self.spec.name} to a topic of this type"


class Inputs:
    """Holds all subscriptions, from activate to deactivate.

    Args:
        specs: in the order of warnings.
        alternatives: names of inputs of which one is enough.

    Raises:
        VPOGError: an override of a topic's quality of service that cannot be used.
    """

    def __init__(self, node, specs: list[InputSpec], callback_group, alternatives: set[str]) -> None:
        self._node = node
        self._alternatives = alternatives
        self._lock = threading.Lock()
        self._closed = False
        self._since = time.monotonic()
        self._inputs: list[Input] = []
        try:
            for spec in specs:
                self._inputs.append(Input(node, spec, callback_group))
        except BaseException:
            self.close()
            raise
        for item in self._inputs:
            node.get_logger().info(item.found())

    def watch(self, notices: Notices, quiet: bool = False) -> None:
        """Adapt to new and lost publishers, and warn of topics without messages, unless quiet."""
        now = time.monotonic()
        with self._lock:
            if self._closed:
                return
            for item in self._inputs:
                if item.adapt(now):
                    self._node.get_logger().info(item.found())
        reported = [item for item in self._inputs if item.spec.expected or item.publishers]
        silences = {item.spec.name: "" if quiet else item.silence(now, self._since) for item in reported}
        spare = {name: silences.pop(name) for name in self._alternatives if name in silences}
        for name, sentence in silences.items():
            notices.warn_while(name, sentence)
        notices.warn_while("detections", self._missing(spare))

    def _missing(self, silences: dict[str, str]) -> str:
        """Return the sentence on inputs of which one is needed: "" if one works, else on the likeliest."""
        if not all(silences.values()):
            return ""
        with_publisher = [i.spec.name for i in self._inputs if i.spec.name in silences and i.publishers]
        return " ".join(silences[name] for name in with_publisher or sorted(silences))

    def close(self) -> None:
        """Destroy the subscriptions."""
        with self._lock:
            self._closed = True
            for item in self._inputs:
                item.destroy()
