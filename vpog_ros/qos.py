"""Choose the quality of service of the inputs, from what publishers offer and what users set."""

from __future__ import annotations

from collections.abc import Sequence

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

from vpog_core.types import VPOGError
from vpog_ros.parameters import QOS_OVERRIDES

AUTO = "auto"
"""Value of reliability and durability: the best that all publishers of the topic offer."""

KINDS = {"reliability": ReliabilityPolicy, "durability": DurabilityPolicy, "history": HistoryPolicy}
MAX_DEPTH = 1000


def declare_overrides(node, topic: str, depth: int) -> dict[str, str | int]:
    """Read what the user sets for a subscription under `qos_overrides.<topic>.subscription.<policy>`.

    ROS's own overriding options would hold on to the first choice; this node chooses again when publishers
    come and go.

    Raises:
        VPOGError: a value that is none of the policy's.
    """
    values = {}
    for policy in (*KINDS, "depth"):
        name = f"{QOS_OVERRIDES}{topic}.subscription.{policy}"
        choices, default = _choices(policy, depth)
        if not node.has_parameter(name):
            text = f"Quality of service of {topic}, read at start: {', '.join(choices) or 'messages kept'}."
            described = ParameterDescriptor(description=text, dynamic_typing=True)
            node.declare_parameter(name, default, described)
        value = node.get_parameter(name).value
        if choices and value not in choices:
            raise VPOGError(f"{name} is {value!r}: it must be one of {', '.join(choices)}.")
        if not choices and not (type(value) is int and 1 <= value <= MAX_DEPTH):
            raise VPOGError(f"{name} is {value!r}: it must be a whole number from 1 to {MAX_DEPTH}.")
        values[policy] = value
    return values


def _choices(policy: str, depth: int) -> tuple[list[str], str | int]:
    """Return the values a policy may be set to (none: it is a number), and the default."""
    if policy == "depth":
        return [], depth
    names = [kind.name.lower() for kind in KINDS[policy] if kind.name != "UNKNOWN"]
    return (names, "keep_last") if policy == "history" else ([AUTO, *names], AUTO)


def chosen_profile(
    offered: Sequence[QoSProfile], overrides: dict[str, str | int], reliable: bool, latched: bool
) -> QoSProfile:
    """Return the profile to subscribe with: the best that every publisher offers, or as the user says.

    Args:
        offered: of the topic's publishers.
        reliable: what to ask for while there is no publisher.
        latched: ask for what was published before, where all publishers keep it.
    """
    every = all(q.reliability == ReliabilityPolicy.RELIABLE for q in offered) if offered else reliable
    kept = bool(offered) and all(q.durability == DurabilityPolicy.TRANSIENT_LOCAL for q in offered)
    profile = QoSProfile(
        history=HistoryPolicy[overrides["history"].upper()],
        depth=overrides["depth"],
        reliability=ReliabilityPolicy.RELIABLE if every else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched and kept else DurabilityPolicy.VOLATILE,
    )
    for policy in ("reliability", "durability"):
        if overrides[policy] != AUTO:
            setattr(profile, policy, KINDS[policy][overrides[policy].upper()])
    return profile


def words(profile: QoSProfile) -> str:
    """Return reliability and durability in words."""
    reliability = profile.reliability.name.lower().replace("_", " ")
    return (
        f"{reliability}, latched" if profile.durability == DurabilityPolicy.TRANSIENT_LOCAL else reliability
    )


def incompatible(offered: Sequence[QoSProfile], profile: QoSProfile) -> str:
    """Return the sentence on why DDS delivers no publisher's messages to a subscription, or ""."""
    reasons = [qos_check_compatible(publisher, profile) for publisher in offered]
    if not reasons or any(compatible != QoSCompatibility.ERROR for compatible, _ in reasons):
        return ""
    return reasons[0][1].removeprefix("ERROR: ").rstrip("; ").lower()
