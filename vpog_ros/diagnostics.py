"""Collect what the node publishes on /diagnostics: rates, latencies, drops, the last error."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from vpog_ros.inputs.frame_buffer import Counts

WINDOW_S = 10.0
"""Seconds that rates and latencies are taken over."""


class Statistics:
    """Records the last `WINDOW_S` seconds, and the failures since the start. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._events: dict[str, deque[float]] = defaultdict(deque)
        self._seconds: dict[str, deque[tuple[float, float]]] = defaultdict(deque)
        self.failures: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.totals: Counter[str] = Counter()
        self.hints: dict[str, str] = {}
        self.last_error = ""
        self._last_error_time = -np.inf

    def event(self, name: str) -> None:
        """Count an event that a rate is shown of."""
        with self._lock:
            self.totals[name] += 1
            self._events[name].append(self._clock())
            self._forget(self._events[name], self._clock() - WINDOW_S, lambda item: item)

    def duration(self, stage: str, seconds: float) -> None:
        """Record the seconds that a stage took."""
        with self._lock:
            self._seconds[stage].append((self._clock(), seconds))
            self._forget(self._seconds[stage], self._clock() - WINDOW_S, lambda item: item[0])

    def failure(self, kind: str, sentence: str) -> None:
        """Count a failure of a kind, and keep its sentence as the last error."""
        with self._lock:
            self.failures[kind] += 1
            self.last_error = sentence
            self._last_error_time = self._clock()

    def leave_out(self, kind: str, number: int = 1) -> None:
        """Count what was left out, which is no failure."""
        with self._lock:
            self.left_out[kind] += number

    def clear_error(self) -> None:
        """Delete the last error, as the node starts again or has given all up; the counts stay."""
        with self._lock:
            self.last_error, self._last_error_time = "", -np.inf

    def failed_lately(self) -> bool:
        """Tell whether something failed within the window."""
        with self._lock:
            return self._clock() - self._last_error_time < WINDOW_S

    def rates(self) -> dict[str, float]:
        """Return events per second over the window."""
        with self._lock:
            oldest = self._clock() - WINDOW_S
            for times in self._events.values():
                self._forget(times, oldest, lambda item: item)
            return {name: len(times) / WINDOW_S for name, times in sorted(self._events.items())}

    def latencies(self) -> dict[str, tuple[float, float]]:
        """Return median and 95th percentile, seconds, of each stage over the window."""
        with self._lock:
            oldest = self._clock() - WINDOW_S
            result = {}
            for stage, items in sorted(self._seconds.items()):
                self._forget(items, oldest, lambda item: item[0])
                if items:
                    p50, p95 = np.percentile([seconds for _, seconds in items], [50, 95])
                    result[stage] = (float(p50), float(p95))
            return result

    @staticmethod
    def _forget(items: deque, oldest: float, time_of: Callable) -> None:
        while items and time_of(items[0]) < oldest:
            items.popleft()


def build_message(
    statistics: Statistics,
    counts: Counts,
    node_name: str,
    state: str,
    activity: str,
    device: str,
    stamp,
    warnings: Sequence[str] = (),
    more: Mapping[str, object] = MappingProxyType({}),
) -> DiagnosticArray:
    """Return the node's DiagnosticArray, of one status that reads well in rqt_runtime_monitor.

    Args:
        state: the lifecycle state's label.
        activity: what the node is busy with, such as onboarding; empty when there is nothing to say.
        warnings: sentences that hold now.
        more: values to show beside the node's own.
    """
    level, summary = DiagnosticStatus.OK, activity or state
    if statistics.last_error and state in ("unconfigured", "finalized"):
        level, summary = DiagnosticStatus.ERROR, statistics.last_error
    elif warnings or statistics.failed_lately():
        said = [*warnings, statistics.last_error] if statistics.failed_lately() else warnings
        level, summary = DiagnosticStatus.WARN, " ".join(dict.fromkeys(said))
    status = DiagnosticStatus(level=level, name=f"{node_name}: pose estimation", message=summary)
    status.hardware_id = device or "none"
    values = {
        "state": state,
        "activity": activity,
        "device": device,
        "last error": statistics.last_error,
        "images received": statistics.totals["images"],
        "detections received": statistics.totals["detections"],
        "frames matched": counts.matched,
        "frames matched by stamp_tolerance": counts.matched_nearly,
        "images without detections": counts.alone,
        "frames dropped, node busy": counts.dropped_busy,
        "detections dropped, no image": counts.dropped_unmatched,
    }
    values |= more
    values |= dict(sorted(statistics.left_out.items())) | dict(sorted(statistics.hints.items()))
    values |= {f"failures, {kind}": number for kind, number in sorted(statistics.failures.items())}
    values |= {f"rate {name} [Hz]": f"{rate:.1f}" for name, rate in statistics.rates().items()}
    for stage, (p50, p95) in statistics.latencies().items():
        values[f"{stage} p50 [ms]"] = f"{1e3 * p50:.1f}"
        values[f"{stage} p95 [ms]"] = f"{1e3 * p95:.1f}"
    status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message
