"""Run commands, and turn the errors that users can fix into exit statuses and sentences."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from vpog_core.types import VPOGError, sentence_of


def exit_status(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> tuple[int, str]:
    """Run a command; returns its exit status, and the sentence that says why it failed, or ""."""
    try:
        return run(arguments), ""
    except VPOGError as error:
        return 2, str(error)
    except OSError as error:
        return 2, f"A file cannot be used ({sentence_of(error)}): check the paths and the disk's room."
