"""Limit the number of detections of a frame to the time for it."""

from __future__ import annotations

MEMORY = 0.2
"""Weight of the newest frame in the moving average of the time for a detection."""


class FrameBudget:
    """Converts seconds for a frame to a number of detections, by the recent time for each."""

    def __init__(self) -> None:
        self._each_s = 0.0

    def limit(self, budget_s: float, most: int) -> tuple[int, str]:
        """Return how many detections a frame may have, and the parameter that sets this limit.

        One at least, so that a frame has a result. Before the first measurement `most` are taken.

        Args:
            budget_s: seconds for a frame; 0: no limit.
            most: value of max_detections.
        """
        if budget_s <= 0.0 or self._each_s <= 0.0:
            return most, "max_detections"
        affordable = max(1, int(budget_s / self._each_s))
        return (affordable, "frame_budget") if affordable < most else (most, "max_detections")

    def add(self, seconds: float, estimates: int) -> None:
        """Update the average by the seconds of a frame's stages, for a number of estimates."""
        if estimates == 0:
            return
        each = seconds / estimates
        self._each_s = each if self._each_s <= 0.0 else self._each_s + MEMORY * (each - self._each_s)
