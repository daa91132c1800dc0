"""Prepare a process before slow imports."""

from __future__ import annotations

import os
import signal

from vpog_core.threads import wait_passively


def prepare(interrupted: int) -> None:
    """Make Ctrl-C end the process at once until the node exists, and make idle threads sleep.

    Args:
        interrupted: exit status then.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(interrupted))
    wait_passively()


def take_interrupts() -> None:
    """Restore the default: Ctrl-C raises KeyboardInterrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
