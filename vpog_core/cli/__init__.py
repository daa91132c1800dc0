"""Provide the `vpog` command."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vpog_core.threads import wait_passively

END_S = 1.5
"""Seconds from Ctrl-C until the process ends, even if the interrupt was swallowed."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status, 130 where Ctrl-C has ended it."""
    wait_passively()
    try:
        with _interrupt_handlers():
            # Imported here: its imports read the thread settings made above, and take a while.
            from vpog_core.cli.commands import main as run

            return run(argv)
    except KeyboardInterrupt:
        print("vpog: stopped.", file=sys.stderr)
        return 130


@contextmanager
def _interrupt_handlers() -> Iterator[None]:
    """Make sure that Ctrl-C ends the process: Python drops the exception where an import's lock is freed."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    done = threading.Event()

    def force_exit() -> None:
        if not done.wait(END_S):
            print("vpog: stopped.", file=sys.stderr, flush=True)
            os._exit(130)

    def interrupt(*_) -> None:
        threading.Thread(target=force_exit, daemon=True).start()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        done.set()
        signal.signal(signal.SIGINT, before)
