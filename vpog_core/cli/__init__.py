"""The `vpog` command."""

from vpog_core.cli.commands import main

__all__ = ["main"]
