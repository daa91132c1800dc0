"""The `vpog` command."""

from __future__ import annotations

import sys

from vpog_core.threads import wait_passively


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status, 130 where Ctrl-C has ended it."""
    wait_passively()
    try:
        # Here, not above: what it imports is to find the threads' settings, and takes a while.
        from vpog_core.cli.commands import main as run

        return run(argv)
    except KeyboardInterrupt:
        print("vpog: stopped.", file=sys.stderr)
        return 130
