"""Prepares a process, before anything that takes long to import."""

from __future__ import annotations

import os
import signal

from vpog_core.threads import wait_passively


def prepare(interrupted: int) -> None:
    """Let Ctrl-C end the process at once until the node is there, and threads that wait sleep.

    Args:
        interrupted: exit status then.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(interrupted))
    wait_passively()


def take_interrupts() -> None:
    """Let Ctrl-C raise KeyboardInterrupt from now on, as it does by default."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
