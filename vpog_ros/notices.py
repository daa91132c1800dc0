"""Log sentences for users: notices once, and warnings as long as their cause lasts."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable

REPEAT_S = 60.0
"""Seconds within which a warning that comes back is not logged again, only shown on /diagnostics."""

MAX_REMEMBERED = 200
"""Notices of one kind that are logged at most, so that ever new names fill neither log nor memory."""


class Notices:
    """Logs each sentence once, and stores the current warnings. Thread-safe.

    Args:
        logger: of the node.
        clock: seconds that only grow.
    """

    def __init__(self, logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._holding: dict[str, str] = {}
        self._last_held: dict[str, float] = {}
        self._said: dict[str, set[str]] = defaultdict(set)

    def log_once(self, kind: str, sentence: str, of: str = "") -> None:
        """Log a sentence at INFO, the first time that one of its kind is said.

        Args:
            of: what the sentence is about, where one of its kind is to be said of each.
        """
        with self._lock:
            said = self._said[kind]
            new = of not in said and len(said) < MAX_REMEMBERED
            if new:
                said.add(of)
            full = new and len(said) == MAX_REMEMBERED
        if new:
            self._logger.info(sentence)
        if full:
            self._logger.info("Further notices of this kind are not logged.")

    def warn_while(self, key: str, sentence: str) -> None:
        """Start a warning, which is logged, or end it if the sentence is empty."""
        with self._lock:
            if not sentence:
                self._holding.pop(key, None)
                return
            now = self._clock()
            self._last_held = {k: held for k, held in self._last_held.items() if now - held < REPEAT_S}
            begins = key not in self._last_held and key not in self._holding
            self._holding[key] = sentence
            self._last_held[key] = now
        if begins:
            self._logger.warning(sentence)

    def warnings(self) -> list[str]:
        """Return the warnings that hold now, the oldest first."""
        with self._lock:
            return list(self._holding.values())

    def end_warnings(self) -> None:
        """End all warnings, because the node stops watching its inputs."""
        with self._lock:
            self._holding.clear()

    def start_anew(self) -> None:
        """Clear all sentences, because the node becomes active again, perhaps with other inputs."""
        with self._lock:
            self._holding.clear()
            self._last_held.clear()
            self._said.clear()
