"""Tell whether messages of a publisher reach somebody, so that they are worth making."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy


def is_wanted(publisher) -> bool:
    """Tell whether a publisher has a subscriber, or keeps its last messages for later ones."""
    kept = publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    return kept or publisher.get_subscription_count() > 0
