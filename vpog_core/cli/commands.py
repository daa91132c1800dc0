"""Implement the `vpog` command: a table of its subcommands, which have a module each; it needs no ROS."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import NoReturn

from vpog_core import __version__
from vpog_core.cli.bench import add_command as add_bench
from vpog_core.cli.calibrate import add_command as add_calibrate
from vpog_core.cli.data import add_data
from vpog_core.cli.demo import add_command as add_demo
from vpog_core.cli.estimate import add_command as add_estimate
from vpog_core.cli.evaluate import add_command as add_evaluate
from vpog_core.cli.exit_status import exit_status
from vpog_core.cli.export import add_command as add_export
from vpog_core.cli.onboard import add_command as add_onboard
from vpog_core.cli.publish import add_command as add_publish
from vpog_core.cli.record_demo import add_command as add_record_demo
from vpog_core.cli.record_hypotheses import add_command as add_record_hypotheses
from vpog_core.cli.replay import add_command as add_replay
from vpog_core.cli.symmetry import add_command as add_symmetry
from vpog_core.cli.train import add_command as add_train

COMMANDS = (
    add_estimate,
    add_onboard,
    add_demo,
    add_train,
    add_calibrate,
    add_evaluate,
    add_publish,
    add_record_hypotheses,
    add_symmetry,
    add_bench,
    add_export,
    add_replay,
    add_record_demo,
)
"""The functions that register the subcommands, in the order of the help, which `vpog data` ends."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage of a command with many flags would hide it."""

    def error(self, message: str) -> NoReturn:
        """Print a sentence and where help is, and exit with the status 2."""
        self.exit(2, f"{self.prog}: {message.rstrip('.')} (see `{self.prog} --help`)\n")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    status, reason = exit_status(arguments.run, arguments)
    if reason:
        print(f"vpog: {reason}", file=sys.stderr)
    return status


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of `vpog` and its subcommands; each sets `run`."""
    parser = _Parser(
        prog="vpog",
        description="6D pose of objects known by their mesh alone, from one RGB image.",
        epilog="`vpog COMMAND --help` tells more about each command.",
    )
    parser.add_argument("--version", action="version", version=f"vpog {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add_command in COMMANDS:
        add_command(partial(_add_command, commands))
    add_data(commands)
    parser.set_defaults(parse=parser.parse_args)  # for commands that run other ones
    return parser


def _add_command(commands, name: str, summary: str, description: str, epilog: str, run):
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser
