"""Warn of simulated time that does not start."""

from __future__ import annotations

import time

NO_CLOCK = (
    "use_sim_time is true and nothing comes on /clock: start the simulator, play the bag with --clock, or "
    "set use_sim_time to false."
)
NO_CLOCK_S = 5.0
"""Seconds after which simulated time that has not started is warned of."""


class ClockWatch:
    """Watches a node's clock from the node's start on."""

    def __init__(self, node) -> None:
        self._node = node
        self._started_s = time.monotonic()

    def trouble(self) -> str:
        """Return the sentence on what is wrong with the clock, or ""."""
        late = time.monotonic() - self._started_s > NO_CLOCK_S
        simulated = self._node.get_parameter("use_sim_time").value
        stands = simulated and not self._node.get_clock().now().nanoseconds
        return NO_CLOCK if late and stands else ""
