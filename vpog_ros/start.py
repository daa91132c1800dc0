"""Do what a program does first, before anything that takes long to import."""

from __future__ import annotations

import os
import signal

from vpog_core.threads import wait_passively


def prepare(interrupted: int) -> None:
    """End at once on Ctrl-C while there is nothing yet to end in order; let threads that wait sleep.

    Args:
        interrupted: exit status then.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(interrupted))
    wait_passively()


def take_interrupts() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt, as it does by default."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
